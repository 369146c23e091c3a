"""The text tab: a beginning, what may come next, and a small language model that goes on, one token after the other."""

import gradio as gr

from demos import training
from demos.i18n import t
from demos.text import chances, write
from demos.text.write import first as first
from genkit import corpora

TITLE = ("Text", "文本")
SENTENCE = (
    "The model has learnt one thing only: after these characters, which one comes next? Asked again and again, it writes.",
    "模型只学会了一件事：看到这些字之后，下一个字是什么？反复问下去，它就写出文章。",
)
HOW = (("text so far", "已有文本"), ("network", "神经网络"), ("chances of each next token", "下一个词元的概率"), ("draw one, append", "抽一个，接上"))
EVERY = 25  # training steps between two looks at the samples
LESSON = (
    "At first every character is equally likely. Watch letters become words, then lines, as the loss falls.",
    "一开始每个字符的机会都一样。看损失下降时，字母怎样变成单词，再变成诗行。",
)
CORPORA = {
    "shakespeare": ("Shakespeare's plays", "莎士比亚戏剧（英文）"),
    "tang": ("Tang poems (Chinese)", "唐诗"),
    "python": ("The manual of the Python language", "Python 语言手册（英文）"),
}


def build(page: gr.Blocks, kept: gr.BrowserState) -> gr.HTML:
    """Build the tab; the component that shows first()."""
    parts: dict = {}
    write.build(parts)
    with gr.Accordion(t(*chances.TITLE), open=True, elem_id="text-next-section"):
        chances.build(parts)
    with gr.Accordion(t("Train it yourself", "自己训练"), open=False):
        training.panel(
            page, kept, "text", {name: (t(*CORPORA[name]), {"variant": "gpt-mini", "corpus": name}) for name in corpora.available()}, LESSON, steps=400
        )
    return parts["result"]
