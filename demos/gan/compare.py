"""Two models on the same noise: not told the digit against told, and a small student against its teacher."""

import gradio as gr

from demos.gan.make import NAMES, pictures
from demos.i18n import both, t, told
from demos.pieces import empty, made_by, note, wall
from genkit import gan, models

TITLE = ("Compare: told or not told, teacher or student", "比一比：告不告诉数字，老师与学生")
TOLD = (
    "Same networks, same noise. One pair was told which digit each picture is, the other never was. Only the first can draw what you ask for.",
    "同样的网络，同样的噪声。一对知道每幅图是哪个数字，另一对从不知道。只有前者能画出您要的数字。",
)
STUDENT = (
    "The student is a much smaller generator. It learned by repeating what its teacher draws from the same noise: that is distillation. How much smaller, how much faster, and what does it cost?",
    "学生是小得多的生成器。它看着老师用同样的噪声画出什么，就学着画什么：这叫蒸馏。小了多少、快了多少、代价是什么？",
)
DIGITS = "0123456789"


def hung(variant: str, seed) -> tuple[str, int]:
    """Ten samples of a variant, under each what the classifier sees in it, and how many are the digit asked for."""
    made = pictures(variant, DIGITS, 10, seed)
    read = gan.recognised(made)
    names = [f"{digit} {'✓' if digit == asked else '✗'}" for asked, digit in enumerate(read)]
    return f"<h4>{both(*NAMES[variant])}</h4>{wall(made, names)}", sum(digit == asked for asked, digit in enumerate(read))


def side_by_side(left: str, right: str, seed) -> tuple[str, int, int]:
    """The samples of two variants from the same noise, and how many of each are right."""
    with models.guarded():
        (one, n), (other, m) = hung(left, seed), hung(right, seed)
    asked = note(
        "Asked for: 0 1 2 3 4 5 6 7 8 9, left to right. Under each: what the digit classifier sees, ✓ if it is the digit asked for.",
        "要求的数字：从左到右 0 1 2 3 4 5 6 7 8 9。每幅下面是数字分类器看到的，✓ 表示正是要求的数字。",
    )
    return f'{asked}<div class="versus"><div>{one}</div><div>{other}</div></div>', n, m


@told
def unconditional(seed) -> str:
    """Not told against told."""
    shown, n, m = side_by_side("unconditional", "dcgan", seed)
    counted = note(
        f"Not told, it hit the digit asked for {n} times in 10; pure luck would be 1 in 10. Told, {m} times in 10.",
        f"没被告知的模型，10 次里碰对了 {n} 次；纯靠运气是 1 次。被告知的模型对了 {m} 次。",
    )
    return f'<div role="status">{counted}</div>{shown}{made_by("unconditional, dcgan", seed=int(seed))}'


def table(teacher, student, floor: float) -> str:
    """What was measured, as a table and in words."""
    size, speed, cost = ratios(teacher, student)
    rows = (
        (("numbers in G", "G 的参数个数"), f"{teacher.parameters:,}", f"{student.parameters:,}", (f"{size:.1f} × smaller", f"小到 1/{size:.1f}")),
        (
            ("time for 64 digits", "生成 64 个数字的时间"),
            f"{teacher.milliseconds:.1f} ms",
            f"{student.milliseconds:.1f} ms",
            (f"{speed:.1f} × as fast", f"{speed:.1f} 倍速度"),
        ),
        (
            ("Fréchet distance to real digits", "与真实数字的 Fréchet 距离"),
            f"{teacher.frechet:.2f}",
            f"{student.frechet:.2f}",
            (f"{cost:.2f} × as far", f"{cost:.2f} 倍远"),
        ),
    )
    heads = (("measured", "测量项"), ("teacher", "老师"), ("student", "学生"), ("the student is", "学生相比老师"))
    head = "".join(f'<th scope="col">{both(*each)}</th>' for each in heads)
    body = "".join(f'<tr><th scope="row">{both(*name)}</th><td>{one}</td><td>{other}</td><td>{both(*ratio)}</td></tr>' for name, one, other, ratio in rows)
    return f'<table class="sums"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{words(teacher, student, floor)}'


def ratios(teacher, student) -> tuple[float, float, float]:
    """How many times smaller, faster and farther from real digits the student is."""
    return teacher.parameters / student.parameters, teacher.milliseconds / student.milliseconds, student.frechet / max(teacher.frechet, 1e-9)


def words(teacher, student, floor: float) -> str:
    """The table in two sentences."""
    size, speed, cost = ratios(teacher, student)
    return note(
        f"The student has {size:.1f} times fewer numbers and was {speed:.1f} times as fast, measured here and now (the median of 15 turns each). "
        f"Its digits are {cost:.2f} times as far from real ones as the teacher's. Two sets of real digits are {floor:.2f} apart: nobody can do much better than that.",
        f"学生的参数只有老师的 1/{size:.1f}，速度是老师的 {speed:.1f} 倍（此刻在这台机器上测得，双方各 15 次，取中位数）。"
        f"它的数字与真实数字的距离是老师的 {cost:.2f} 倍。两组真实数字之间的距离是 {floor:.2f}：谁也很难更好。",
    )


@told
def student(seed) -> str:
    """The student against its teacher: measured, then side by side."""
    shown, _, _ = side_by_side("dcgan", "student", seed)
    with models.guarded():
        (teacher, pupil), floor = gan.measure([models.use("gan", "dcgan"), models.use("gan", "student")])
    return f'<div role="status">{table(teacher, pupil, floor)}</div>{shown}{made_by("dcgan, student", seed=int(seed))}'


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    with gr.Row():
        with gr.Column(min_width=280):
            gr.HTML(note(*TOLD))
            versus = gr.Button(t("Compare not told with told", "比较：不告知与告知"), variant="primary")
        with gr.Column(min_width=280):
            gr.HTML(note(*STUDENT))
            race = gr.Button(t("Race the student against its teacher", "让学生和老师比赛"), variant="primary")
    seed = gr.Number(7, label=t("Seed of the noise", "噪声的种子"), precision=0)
    result = gr.HTML(empty("The comparison appears here.", "比较结果会显示在这里。"), elem_id="compare-result")
    versus.click(unconditional, seed, result, concurrency_limit=16, api_visibility="private")
    race.click(student, seed, result, concurrency_limit=1, api_visibility="private")  # times are taken alone
    parts |= {"compare_seed": seed, "compare_unconditional": versus, "compare_student": race}
