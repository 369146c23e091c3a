"""Ask for digits, see them made. The part of the tab that opens first."""

import asyncio
import functools

import gradio as gr

from demos.answer import answer, asking
from demos.endpoints import file
from demos.i18n import t, told
from demos.pieces import empty, made_by, refused, wall
from genkit import gan, labels, models
from genkit.core import Problem, number, pick
from genkit.together import together

NAMES = {
    "dcgan": ("DCGAN (convolutions)", "DCGAN（卷积）"),
    "wgan-gp": ("WGAN-GP (smooth critic)", "WGAN-GP（平滑评判）"),
    "style": ("Style-based (small StyleGAN)", "基于风格（小型 StyleGAN）"),
    "student": ("Student (small, distilled)", "学生（小型、蒸馏）"),
    "unconditional": ("Unconditional (not told which digit)", "无条件（不告知数字）"),
    "mlp": ("MLP (the classic)", "MLP（经典）"),
}


def choices(names=tuple(NAMES)) -> list[tuple]:
    """(label, variant) of these variants, for a Radio."""
    return [(t(*NAMES[name]), name) for name in names]


@functools.cache
def maker(variant: str):
    """One function a variant that makes the digits of several visitors in one forward pass, while those of others are made and encoded on the other cores."""
    return together(lambda requests: gan.sample_many(models.use("gan", variant), requests), limit=8, workers=2)


def asked(variant: str, digits, n, seed) -> tuple[str, int, int]:
    """The request to maker(variant). n is clamped to 1-64. Raises Problem for a variant that is not there, and for what is no number."""
    pick(gan.VARIANTS, variant, "GAN variant", "GAN 变体")
    return str(digits)[:64], number(n, 1, 64, "n", whole=True), number(seed, 0, 2**31 - 1, "seed", whole=True)


def signature(variant: str, digits: str, seed: int) -> dict:
    """What labels.mark says of every picture of a request."""
    return {"model": f"gan/{variant}", "seed": seed, "digits": digits}


def pictures(variant: str, digits: str, n, seed) -> list:
    """n marked pictures of 28 x 28 that cycle through `digits`."""
    digits, n, seed = asked(variant, digits, n, seed)
    with models.guarded():
        made = maker(variant)((digits, n, seed))
    return [labels.mark(picture, index=index, **signature(variant, digits, seed)) for index, picture in enumerate(made)]


def gan_sample(variant: str = "dcgan", digits: str = "0123456789", n: int = 10, seed: int = 0) -> list[dict]:
    """Make n handwritten digits, 28 x 28 PNG files, cycling through the string `digits`. The same seed gives the same digits."""
    return [file(picture) for picture in pictures(variant, digits, n, seed)]


async def generate(variant, digits, n, seed):
    """What the result shows. Who waits for the model holds no thread: there are 40 of them, for everything that any visitor does."""
    try:
        digits, n, seed = asked(variant, digits, n, seed)
        with models.guarded():
            made = await asyncio.wrap_future(maker(variant).soon((digits, n, seed)))
    except Problem as problem:
        return refused(problem)
    names = [digit for digit in digits if digit.isdigit()]
    return wall(made, [names[index % len(names)] for index in range(n)], **signature(variant, digits, seed)) + made_by(variant, seed=seed)


def build(parts: dict) -> None:
    """Build the controls and the result; what the lesson operates goes into `parts`."""
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            digits = gr.Textbox("0123456789", label=t("Digits to make", "要生成的数字"), max_length=64)
            n = gr.Slider(1, 64, 20, step=1, label=t("How many", "数量"))
            variant = gr.Radio(choices(), value="dcgan", label=t("Model", "模型"))
            with gr.Accordion(t("More", "更多"), open=False) as more:
                seed = gr.Number(
                    7,
                    label=t("Seed", "随机种子"),
                    info=t("The same seed makes the same digits, on any machine.", "同样的种子在任何机器上生成同样的数字。"),
                    precision=0,
                )
            make = gr.Button(t("Make digits", "生成数字"), variant="primary")
        with gr.Column(scale=2, min_width=280):
            result = answer("gan", generate, empty("The model is waking up…", "模型正在启动……"), elem_id="gan-result")
    gr.on([make.click, digits.submit], **asking(result, variant=variant, digits=digits, n=n, seed=seed))
    gr.api(told(gan_sample), api_name="gan_sample", concurrency_limit=32)
    parts |= {"digits": digits, "n": n, "variant": variant, "seed": seed, "more": more, "make": make, "result": result}
