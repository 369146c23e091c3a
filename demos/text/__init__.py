"""The text tab: a beginning, what may come next, and a small language model that goes on, one token after the other."""

import gradio as gr

from demos.i18n import t
from demos.text import chances, chat, keep, ladder, learn, lesson, tree, why, write
from demos.text.write import first as first

TITLE = ("Text", "文本")
SENTENCE = (
    "The model has learnt one thing only: after these characters, which one comes next? Asked again and again, it writes.",
    "模型只学会了一件事：看到这些字之后，下一个字是什么？反复问下去，它就写出文章。",
)
HOW = (("text so far", "已有文本"), ("network", "神经网络"), ("chances of each next token", "下一个词元的概率"), ("draw one, append", "抽一个，接上"))
EVERY = 25  # training steps between two looks at the samples
SECTIONS = (chances, tree, why, ladder, chat, learn, keep, lesson)  # top to bottom; each has a TITLE and build(page, kept, parts)


def build(page: gr.Blocks, kept: gr.BrowserState) -> gr.HTML:
    """Build the tab; the component that shows first(). `parts`: the components by name, for the sections that operate those above them."""
    parts: dict = {}
    write.build(parts)
    for section in SECTIONS:
        name = section.__name__.rpartition(".")[2]
        with gr.Accordion(t(*section.TITLE), open=section in (chances, tree), elem_id=f"text-{name}") as parts[name]:
            section.build(page, kept, parts)
    return parts["result"]
