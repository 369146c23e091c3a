"""Training a small GPT in front of the class, on a corpus that is on this machine."""

import gradio as gr

from demos import training
from demos.i18n import t
from genkit import corpora

TITLE = ("Train it yourself", "自己训练")
LESSON = (
    "At first every character is equally likely. Watch letters become words, then lines, as the loss falls.",
    "一开始每个字符的机会都一样。看损失下降时，字母怎样变成单词，再变成诗行。",
)
CORPORA = {
    "shakespeare": ("Shakespeare's plays", "莎士比亚戏剧（英文）"),
    "tang": ("Tang poems (Chinese)", "唐诗"),
    "python": ("The manual of the Python language", "Python 语言手册（英文）"),
}


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    choices = {name: (t(*CORPORA[name]), {"variant": "gpt-mini", "corpus": name}) for name in corpora.available()}
    training.panel(page, kept, "text", choices, LESSON, steps=400)
