"""The other direction: any picture drowned in noise, as in training, and what the model makes of it in one step."""

import asyncio

import gradio as gr

from demos import pad
from demos.answer import answer, asking
from demos.diffusion import drawn
from demos.diffusion.make import PROMPT, text
from demos.endpoints import opened
from demos.i18n import both, t, told
from demos.pieces import COLOURS, DASHES, data_uri, empty, note, plate, plates, refused
from genkit import diffusion, labels, models
from genkit.core import Problem, number, pick

TITLE = ("The other direction: drown a picture in noise", "反方向：把图片淹没在噪声里")
LESSON = (
    "This is how the model was taught: take a picture, cover it with noise, and let the model say what is under it. Bring any picture and move t. "
    "For a little noise one step is enough; for a lot the one-step guess is a blur, the mean of all that could be there, and that is why drawing takes many steps.",
    "模型就是这样学会的：拿一张图，盖上噪声，让模型说出底下是什么。放入任意一张图，移动 t。噪声少时，一步就够；噪声多时，一步的猜想是一团模糊，"
    "是所有可能的平均，所以画图要走很多步。",
)
SCHEDULES = {"cosine": ("cosine (mini-sd's own)", "余弦（mini-sd 自己的）"), "scaled-linear": ("scaled linear", "缩放线性"), "linear": ("linear", "线性")}
MODEL, SIZE = "mini-sd", 64
NOTHING = ("Bring a picture, or draw one above.", "请放入一张图，或先在上面画一张。")


async def drown(sheet, at, schedule, prompt) -> str:
    """The picture, the noisy one, and the guess; and where on the schedule that is."""
    if not sheet:
        return empty(*NOTHING)
    try:
        pick(tuple(SCHEDULES), schedule, "schedule", "噪声时间表")
        return await asyncio.to_thread(hung, pad.picture(sheet), number(at, 0, 999, "t", whole=True), schedule, text(prompt))
    except Problem as problem:
        return refused(problem)


def hung(picture, at: int, schedule: str, prompt: str) -> str:
    with models.guarded():
        found = diffusion.drown(models.use("diffusion", MODEL), picture, at, schedule, prompt=prompt)
    noisy, guess = (labels.mark(part, model=f"diffusion/{MODEL}", t=at, schedule=schedule) for part in (found.x_t, found.guess))
    left = 100 * found.a**2
    shown = (
        plate(found.given, both("Your picture", "您的图片"), both("x<sub>0</sub>, 64 × 64", "x<sub>0</sub>，64 × 64"), smooth=True),
        plate(noisy, both("Drowned", "淹没后"), both(f"x<sub>t</sub>, t = {at}", f"x<sub>t</sub>，t = {at}"), smooth=True),
        plate(guess, both("Guessed in one step", "一步猜出"), both(f"{found.psnr:.1f} dB close", f"相似度 {found.psnr:.1f} dB"), smooth=True),
    )
    said = note(
        f"At t = {at} there is {left:.0f} % picture and {100 - left:.0f} % noise (by variance).",
        f"t = {at} 时，{left:.0f}% 是图片，{100 - left:.0f}% 是噪声（按方差计）。",
    )
    other = note(
        f"The model was taught with the cosine schedule, so it is told t = {found.told}, where that has as much noise.",
        f"模型是用余弦时间表教的，所以告诉它 t = {found.told}：在那里噪声一样多。",
    )
    return f'<div role="status">{said}</div>{plates(*shown)}{curve(at, schedule)}{other if schedule != "cosine" else ""}'


def curve(at: int, chosen: str) -> str:
    """How much of the picture is left at each t, for the three schedules, and the place marked."""

    def line(index: int, name: str) -> str:
        kept = diffusion.left(name)
        path = " ".join(f"{40 + 550 * step / 999:.1f},{150 - 135 * kept[step]:.1f}" for step in range(0, 1000, 27))
        width = 3 if name == chosen else 1.5
        return f'<polyline points="{path}" fill="none" stroke="var(--{COLOURS[index]})" stroke-width="{width}" stroke-dasharray="{DASHES[index]}"/>'

    def key(index: int, name: str) -> str:
        style = f'stroke="var(--{COLOURS[index]})" stroke-width="2.5" stroke-dasharray="{DASHES[index]}"'
        mark = f'<svg viewBox="0 0 26 10" aria-hidden="true"><line x1="0" y1="5" x2="26" y2="5" {style}/></svg>'
        return f"<li>{mark}{both(*SCHEDULES[name])}: {100 * diffusion.left(name)[at]:.0f} %</li>"

    lines, keys = ("".join(each(index, name) for index, name in enumerate(SCHEDULES)) for each in (line, key))
    x, y = 40 + 550 * at / 999, 150 - 135 * diffusion.left(chosen)[at]
    mark = f'<path class="axis" d="M{x:.1f} 15V150"/><circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="var(--ink)"/>'
    axes = '<path class="axis" d="M40 15V150H590" fill="none"/><text x="36" y="20" text-anchor="end">100 %</text><text x="36" y="150" text-anchor="end">0</text><text x="590" y="166" text-anchor="end">t = 999</text>'
    head = note("How much of the picture is left at each t:", "各个 t 处还剩多少图片：")
    return f'{head}<svg class="chart" viewBox="0 0 600 170" aria-hidden="true">{axes}{lines}{mark}</svg><ul class="legend">{keys}</ul>'


def sheet_of(picture) -> str:
    """A picture as the section keeps it: 64 x 64, a data address."""
    return data_uri(diffusion.square(picture, SIZE))


@told
def bring(path) -> str:
    """An uploaded picture."""
    return sheet_of(opened(path))


@told
def mine(run, sheet) -> str:
    """The drawing from above, unless there is a picture already."""
    if sheet or not run:
        return sheet
    model, trace = drawn.get(run)
    return sheet_of(trace.pictures[0]) if model != "digits" and trace.pictures else ""


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    gr.HTML(note(*LESSON))
    sheet = gr.Textbox("", visible=False)
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            uploaded = gr.UploadButton(t("Upload a picture", "上传图片"), file_types=["image"], min_width=110)
            take = gr.Button(t("Take the drawing from above", "用上面画好的图"), min_width=110)
            at = gr.Slider(0, 999, 500, step=1, label=t("Noise level t", "噪声水平 t"), elem_id="diffusion-t")
            schedule = gr.Radio([(t(*said), name) for name, said in SCHEDULES.items()], value="cosine", label=t("Schedule", "时间表"))
            prompt = gr.Textbox(
                "", label=t("Tell the model what it is (may stay empty)", "告诉模型这是什么（可留空）"), placeholder=t("a house", "一座房子"), max_length=PROMPT
            )
        with gr.Column(scale=2, min_width=280):
            shown = answer("diffusion-forward", drown, empty(*NOTHING), elem_id="diffusion-drowned")
    asks = asking(shown, sheet=sheet, at=at, schedule=schedule, prompt=prompt)
    light = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": 8}
    gr.on([at.input, at.change, schedule.input, prompt.input], **asks)
    uploaded.upload(bring, uploaded, sheet, **light).success(**asks)
    parts["forward"].expand(mine, [parts["run"], sheet], sheet, **light).then(**asks)
    take.click(lambda run: mine(run, ""), parts["run"], sheet, **light).then(**asks)
    parts |= {"t": at, "schedule": schedule, "drowned": shown, "forward_take": take}
