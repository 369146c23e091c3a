"""The GAN tab: ask for digits, see them made; train the two networks here."""

import functools

import gradio as gr

from demos import training
from demos.endpoints import file
from demos.i18n import t, told
from demos.pieces import empty, made_by, wall
from genkit import gan, labels, models
from genkit.core import number, pick
from genkit.together import together

TITLE = ("GAN digits", "GAN 数字")
SENTENCE = (
    "Two networks play against each other: one paints digits out of noise, the other tries to tell them from real ones, and both get better.",
    "两个网络相互较量：一个从噪声里画出数字，另一个努力分辨真假，双方都越来越强。",
)
HOW = (("noise + digit", "噪声＋数字"), ("generator", "生成器"), ("picture", "图片"), ("discriminator: real?", "判别器：真的吗？"))
EVERY = 10  # training steps between two looks at the samples
LESSON = (
    "Both networks start knowing nothing. Watch the noise turn into strokes, then into digits, while the two losses pull at each other.",
    "两个网络一开始什么都不会。看噪声如何变成笔画，再变成数字，同时两条损失曲线互相拉扯。",
)


@functools.cache
def maker(variant: str):
    """One function a variant that makes the digits of many visitors in one forward pass."""
    return together(lambda requests: gan.sample_many(models.use("gan", variant), requests))


def pictures(variant: str, digits: str, n, seed) -> list:
    """n marked pictures of 28 x 28 that cycle through `digits`. n is clamped to 1-64."""
    pick(gan.VARIANTS, variant, "GAN variant", "GAN 变体")
    n, seed = number(n, 1, 64, "n", whole=True), number(seed, 0, 2**31 - 1, "seed", whole=True)
    with models.guarded():
        made = maker(variant)((str(digits)[:64], n, seed))
    return [labels.mark(picture, model=f"gan/{variant}", seed=seed, digits=digits, index=index) for index, picture in enumerate(made)]


def gan_sample(variant: str = "dcgan", digits: str = "0123456789", n: int = 10, seed: int = 0) -> list[dict]:
    """Make n handwritten digits, 28 x 28 PNG files, cycling through the string `digits`. The same seed gives the same digits."""
    return [file(picture) for picture in pictures(variant, digits, n, seed)]


@told
def generate(variant, digits, n, seed):
    made = pictures(variant, digits, n, seed)
    asked = [digit for digit in digits if digit.isdigit()]
    return wall(made, [asked[index % len(asked)] for index in range(len(made))]) + made_by(variant, seed=int(seed))


def first() -> str:
    """What the tab shows when it opens."""
    return generate("dcgan", "0123456789", 20, 7)


def build(page: gr.Blocks, kept: gr.BrowserState) -> gr.HTML:
    """Build the tab; the component that shows first()."""
    models_here = [(t("DCGAN (convolutions)", "DCGAN（卷积）"), "dcgan"), (t("MLP (the classic)", "MLP（经典）"), "mlp")]
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            digits = gr.Textbox("0123456789", label=t("Digits to make", "要生成的数字"), max_length=64)
            n = gr.Slider(1, 64, 20, step=1, label=t("How many", "数量"))
            variant = gr.Radio(models_here, value="dcgan", label=t("Model", "模型"))
            with gr.Accordion(t("More", "更多"), open=False):
                seed = gr.Number(
                    7,
                    label=t("Seed", "随机种子"),
                    info=t("The same seed makes the same digits, on any machine.", "同样的种子在任何机器上生成同样的数字。"),
                    precision=0,
                )
            make = gr.Button(t("Make digits", "生成数字"), variant="primary")
        with gr.Column(scale=2, min_width=280):
            result = gr.HTML(empty("The model is waking up…", "模型正在启动……"), elem_id="gan-result")
    with gr.Accordion(t("Train it yourself", "自己训练"), open=False):
        training.panel(page, kept, "gan", {name: (label, {"variant": name}) for label, name in models_here}, LESSON, steps=600)

    inputs = [variant, digits, n, seed]
    gr.on([make.click, digits.submit], generate, inputs, result, concurrency_limit=32, api_visibility="private")
    gr.api(told(gan_sample), api_name="gan_sample", concurrency_limit=32)
    return result
