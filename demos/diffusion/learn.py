"""Training a small diffusion model of digits in front of the class: its loss by noise level, its samples, and how many of them a judge can read."""

import gradio as gr

from demos import training
from demos.diffusion import levels
from demos.i18n import t
from demos.pieces import note, promise
from genkit import diffusion

TITLE = ("Train it yourself: digits", "自己训练：数字")
LESSON = (
    "A small diffusion model learns digits: real digits are drowned in noise and it must guess what is noise and what is picture. The ten digits below are "
    "drawn from the same noise every time, so you see the model change and nothing else.",
    "一个小扩散模型学习数字：把真实的数字淹没在噪声里，让它猜哪些是噪声、哪些是图。下面的十个数字每次都从同样的噪声画起，所以变化的只有模型。",
)
STEPS, EXAMS = diffusion.LIVE, 2 * 25  # offered first; between two examinations


def examined(exam, exams=()) -> str:
    """What an examination found: the promise, what the judge could read, the loss by noise level."""
    if exam is None:
        return ""
    right = note(
        f"At step {exam.step} the digit classifier reads {exam.right:.0%} of a hundred fresh samples as the digit that was asked for (guessing gives 10%).",
        f"第 {exam.step} 步时，数字分类器把一百个新样本中的 {exam.right:.0%} 认成了所要的数字（瞎猜是 10%）。",
    )
    return f'<div class="exam">{promise(exam, levels.ENDS)}{right}{levels.levels(exams or (exam,))}</div>'


def begin(owner: str, steps, seed) -> str:
    return training.begin(owner, "diffusion", "digits", steps, seed, exams=EXAMS)


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    report = gr.HTML(elem_id="diffusion-report", elem_classes="live", render=False)
    desk = training.Panel(
        kept,
        "diffusion",
        more=lambda shot, own, fresh: {report: examined(shot.exam, shot.exams)},
        detail=lambda run, exam: examined(exam, levels.until(run, exam)),
    )
    gr.HTML(note(*LESSON))
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            steps = gr.Slider(25, 2000, STEPS, step=25, label=t("Steps", "步数"))
            seed = gr.Number(0, label=t("Seed", "随机种子"), precision=0)
            desk.buttons()
        with gr.Column(scale=2, min_width=280):
            desk.status()
            with desk.look():
                report.render()
            desk.numbers()
    desk.extra = [report]
    desk.starts(desk.start, begin, [steps, seed])
    desk.ready(page)
