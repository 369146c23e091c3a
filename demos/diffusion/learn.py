"""Training a small diffusion model of digits in front of the class."""

import gradio as gr

from demos import training
from demos.i18n import t

TITLE = ("Train it yourself", "自己训练")
LESSON = (
    "A small diffusion model learns digits: real digits are drowned in noise and it must guess the noise. The loss falls quickly, the samples follow.",
    "一个小扩散模型学习数字：把真实的数字淹没在噪声里，让它猜出噪声。损失很快下降，样本随后变好。",
)


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    training.panel(page, kept, "diffusion", {"digits": (t("Digits", "数字"), {"variant": "digits"})}, LESSON, steps=600)
