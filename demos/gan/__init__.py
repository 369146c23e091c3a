"""The GAN tab: digits on request, then one section for each thing there is to find out about them."""

import asyncio

import gradio as gr

from demos.gan import compare, copies, judge, keep, learn, lesson, make, walk
from demos.i18n import t

TITLE = ("GAN digits", "GAN 数字")
SENTENCE = (
    "Two networks play against each other: one paints digits out of noise, the other tries to tell them from real ones, and both get better.",
    "两个网络相互较量：一个从噪声里画出数字，另一个努力分辨真假，双方都越来越强。",
)
HOW = (("noise + digit", "噪声＋数字"), ("generator", "生成器"), ("picture", "图片"), ("discriminator: real?", "判别器：真的吗？"))
EVERY = 10  # training steps between two looks at the samples
SECTIONS = (learn, judge, walk, copies, compare, keep, lesson)  # top to bottom; each has a TITLE and build(page, kept, parts)


def first() -> str:
    """What the tab shows when it opens."""
    return asyncio.run(make.generate("dcgan", "0123456789", 20, 7))


def build(page: gr.Blocks, kept: gr.BrowserState) -> gr.HTML:
    """Build the tab; the component that shows first(). `parts`: the components by name, for the sections that operate those above them."""
    parts: dict = {}
    make.build(parts)
    for section in SECTIONS:
        name = section.__name__.rpartition(".")[2]
        with gr.Accordion(t(*section.TITLE), open=False, elem_id=f"gan-{name}") as parts[name]:
            section.build(page, kept, parts)
    return parts["result"]
