"""The text-to-image tab: a prompt, and a picture that comes out of noise step by step; then one section for each thing there is to find out about it."""

import gradio as gr

from demos.diffusion import compare, copied, edit, forward, heat, keep, larger, learn, lesson, make, own, points, steps, teach
from demos.i18n import t

TITLE = ("Text to image", "文生图")
SENTENCE = (
    "The model has learnt to take a little noise out of a noisy picture. Started on pure noise and told what to look for, it takes it all out.",
    "模型学会了从带噪声的图片里去掉一点噪声。从纯噪声出发，再告诉它要找什么，它就一步步画出图来。",
)
HOW = (("pure noise", "纯噪声"), ("your words", "您的文字"), ("remove a little noise, 20 times", "去掉一点噪声，重复 20 次"), ("picture", "图片"))
EVERY = 25  # training steps between two looks at the samples
# top to bottom; each has a TITLE and build(page, kept, parts)
SECTIONS = (steps, heat, compare, forward, edit, larger, copied, learn, points, teach, own, keep, lesson)


def first() -> tuple:
    """What the tab shows when it opens."""
    return make.first()


def build(page: gr.Blocks, kept: gr.BrowserState) -> list:
    """Build the tab; the components that show first(). `parts`: the components by name, for the sections that operate those above them."""
    parts: dict = {}
    make.build(parts)
    for section in SECTIONS:
        name = section.__name__.rpartition(".")[2]
        with gr.Accordion(t(*section.TITLE), open=False, elem_id=f"diffusion-{name}") as parts[name]:
            section.build(page, kept, parts)
    return [parts["before"], parts["run"], parts["result"]]
