"""python -m tests.bench.plain PORT: the baseline of crowd.py, a plain Gradio app with default queue settings.

It does the same work for a request as the GAN tab, down to the HTML and the files, the way one writes it without thinking of crowds.
"""

import sys

import gradio as gr
import torch

from demos.endpoints import file
from demos.gan.make import signature
from demos.pieces import made_by, wall
from genkit import gan, labels

model = gan.load("dcgan")


def generate(variant, digits, n, seed):
    made = next(gan.sample(model, digits, n=n, seed=seed))
    return wall(made, [digits[index % len(digits)] for index in range(n)], **signature(variant, digits, seed)) + made_by(variant, seed=seed)


def gan_sample(variant: str, digits: str, n: int, seed: int) -> list[dict]:
    made = next(gan.sample(model, digits, n=n, seed=seed))
    return [file(labels.mark(picture, index=index, **signature(variant, digits, seed))) for index, picture in enumerate(made)]


def build() -> gr.Blocks:
    with gr.Blocks() as demo:
        variant, digits = gr.Radio(list(gan.VARIANTS), value="dcgan"), gr.Textbox("0123456789")
        n, seed = gr.Slider(1, 64, 16, step=1), gr.Number(7, precision=0)
        gr.Button("Make digits").click(generate, [variant, digits, n, seed], gr.HTML(elem_id="gan-result"))
        gr.api(gan_sample)
    return demo


if __name__ == "__main__":
    torch.set_num_threads(1)  # as in the app: visitors share the cores, not each picture
    build().launch(server_port=int(sys.argv[1]), quiet=True)
