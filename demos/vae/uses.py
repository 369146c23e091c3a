"""What a VAE is good for: cleaning, finding what is odd, inventing examples that are missing. Each a working experiment."""

import gradio as gr

from demos.i18n import t
from demos.vae import clean, odd, scarce

TITLE = ("What is it good for?", "它有什么用？")
EXPERIMENTS = (
    (clean, ("Denoising", "去噪")),
    (odd, ("Finding the odd one out", "异常检测")),
    (scarce, ("Examples for a rare digit", "为稀有数字补例子")),
)


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    with gr.Tabs():
        for module, title in EXPERIMENTS:
            name = module.__name__.rpartition(".")[2]
            with gr.Tab(t(*title), id=name, elem_id=f"vae-uses-{name}") as parts[f"uses_{name}"]:
                module.build(parts)
