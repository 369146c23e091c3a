"""The VAE tab: draw a digit and see it redrawn from a few numbers, then one section for each thing there is to find out about them."""

import gradio as gr

from demos.i18n import t
from demos.vae import keep, learn, lesson, make, maps, photo, uses, walk

TITLE = ("VAE", "VAE 重建")
SENTENCE = (
    "An encoder squeezes a digit into a handful of numbers, a decoder draws it again from them alone; what survives is what the model has understood.",
    "编码器把数字压缩成寥寥几个数，解码器只凭这些数把它重新画出来；留下来的，就是模型学懂的东西。",
)
HOW = (("your digit", "您的数字"), ("encoder", "编码器"), ("a few numbers z", "几个数 z"), ("decoder", "解码器"), ("drawn again", "重新画出"))
EVERY = 10  # training steps between two looks at the samples
SECTIONS = (maps, walk, learn, uses, photo, keep, lesson)  # top to bottom; each has a TITLE and build(page, kept, parts)


def first() -> tuple[str, str]:
    """What the tab shows when it opens: a test digit on the pad, and its reconstruction."""
    return make.first()


def build(page: gr.Blocks, kept: gr.BrowserState) -> list:
    """Build the tab; the components that show first(). `parts`: the components by name, for the sections that operate those above them."""
    parts: dict = {}
    make.build(parts)
    for section in SECTIONS:
        name = section.__name__.rpartition(".")[2]
        with gr.Accordion(t(*section.TITLE), open=False, elem_id=f"vae-{name}") as parts[name]:
            section.build(page, kept, parts)
    return [parts["pad"], parts["result"]]
