"""Did it copy? The training digits nearest to a sample, and how near real digits come that nobody has seen."""

import functools

import gradio as gr

from demos.endpoints import file
from demos.gan.make import choices, pictures
from demos.i18n import both, say, t, told
from demos.pieces import empty, made_by, note, plate, wall
from genkit import gan, models
from genkit.core import number, pick
from genkit.together import together

TITLE = ("Did it copy?", "它是抄来的吗？")
LESSON = (
    "A generator that only remembers would be useless. Take a sample, look through all training digits for the ones nearest to it, and compare: how near does a real digit come that was never shown?",
    "只会背的生成器没有用。拿一个样本，在全部训练数字里找出离它最近的，再比一比：一个从没见过的真实数字能离得多近？",
)
DIGITS = "0123456789"
NEAR = 10  # percent: below it a sample is not "no closer than a new real digit would be"
ALL = 60_000  # training digits that the shipped models have learned from


@functools.cache
def finder(n: int):
    """One function that looks up the samples of many visitors in one pass through the training digits."""
    return together(lambda asked: gan.nearest(asked, n), limit=16)


def find(picture, n: int = 5):
    with models.guarded():
        return finder(n)(picture)


def sentences(found) -> tuple[str, str]:
    """What the distance means, English and Chinese."""
    kind = found.labels[0]
    if found.exact:
        return (
            f"This is training digit number {found.indices[0]:,}, pixel by pixel: a true copy, at distance 0.",
            f"这就是第 {found.indices[0]:,} 个训练数字，每个像素都一样：真正的抄袭，距离为 0。",
        )
    measured = (
        f"Its nearest training digit is {found.distances[0]:.2f} away. Of {found.compared} real {kind}s from outside the training set, {found.percentile:.0f}% come closer to a training digit than that. ",
        f"离它最近的训练数字距离为 {found.distances[0]:.2f}。在训练集之外的 {found.compared} 个真实的 {kind} 中，有 {found.percentile:.0f}% 离训练数字比这更近。",
    )
    judged = (
        ("That is near, but some new real digits come as near: no proof of a copy.", "这算近的，但新的真实数字也有这么近的：还不能说是抄的。")
        if not found.suspicious and found.percentile < NEAR
        else ("This looks like a copy: fewer than 1 in 100 new real digits come so close.", "这看起来像是抄的：100 个新的真实数字里，这么近的不到 1 个。")
        if found.suspicious
        else ("So it is no closer than a new real digit would be: not a copy.", "所以它并不比一个新的真实数字更近：不是抄的。")
    )
    return measured[0] + judged[0], measured[1] + judged[1]


def searched(found) -> str:
    """How many training digits there were to look through."""
    if found.searched >= ALL:
        return note(
            f"Looked through all {found.searched:,} training digits. Distance: 0 is the same picture.",
            f"查遍了全部 {found.searched:,} 个训练数字。距离为 0 就是同一幅图。",
        )
    return note(
        f"Only {found.searched:,} of the {ALL:,} training digits are on this machine: a copy of one of the others would not be noticed.",
        f"本机只有 {ALL:,} 个训练数字中的 {found.searched:,} 个：如果抄的是其余的，这里看不出来。",
    )


def bar(found) -> str:
    """Where the sample lies between a copy (left) and what is unlike every training digit (right)."""
    ends = f"<p>{both('← as near as a copy', '← 近得像抄的')}<span>{both('unlike all training digits →', '与所有训练数字都不像 →')}</span></p>"
    mark = f'<i style="--x:{found.percentile:.1f}%"><b>{both("this one", "这一幅")}</b></i>'
    return f'<div class="strip" aria-hidden="true"><div class="scale thin">{mark}</div>{ends}</div>'


def hung(picture, found, own: tuple[str, str]) -> str:
    """A sample, its nearest training digits, and what to think of it."""
    near = wall(list(found.pictures), [f"{label} · {distance:.2f}" for label, distance in zip(found.labels, found.distances, strict=True)])
    warn = note(*sentences(found), warn=True) if found.suspicious else note(*sentences(found))
    title = f"<h4>{both('The nearest training digits, and their distance', '最近的训练数字及其距离')}</h4>"
    return f'<div class="copied">{plate(picture, both(*own))}<div>{title}{near}</div></div><div role="status">{warn}</div>{bar(found)}{searched(found)}'


@told
def check(variant, digit, seed) -> str:
    """One of the ten samples of a seed, against the training digits."""
    pick(tuple(DIGITS), digit, "digit", "数字")
    made = pictures(variant, DIGITS, 10, seed)
    names = [f"▲ {name}" if name == digit else name for name in DIGITS]
    ten = f"<h4>{both('The ten samples; the one with ▲ is looked up', '十个样本；带 ▲ 的正在被查找')}</h4>{wall(made, names)}"
    return f"{ten}{hung(made[int(digit)], find(made[int(digit)]), ('The sample', '样本'))}{made_by(variant, seed=int(seed))}"


@told
def copy(digit, seed) -> str:
    """What a true copy looks like: a digit of the training set itself."""
    pick(tuple(DIGITS), digit, "digit", "数字")
    picture = gan.training_digit(int(digit), number(seed, 0, 2**31 - 1, "seed", whole=True))
    return hung(picture, find(picture), ("A training digit", "一个训练数字"))


def gan_nearest(variant: str = "dcgan", digit: str = "3", seed: int = 0, n: int = 5) -> dict:
    """Make one digit and find the n (1-20) training digits nearest to it, in pixels.

    picture: the sample, a PNG file; nearest: those training digits, PNG files; distances: Euclidean, between pixels in [0, 1]; distance: the smallest;
    percentile: the percentage of up to 500 unseen real digits of that kind that come closer to a training digit, below 1 is suspicious;
    suspicious, sentence: what that means; searched: how many training digits were looked through.
    """
    pick(tuple(DIGITS), digit, "digit", "数字")
    (made,) = pictures(variant, digit, 1, seed)
    found = find(made, number(n, 1, 20, "n", whole=True))
    return {
        "picture": file(made), "distance": found.distances[0], "percentile": found.percentile, "suspicious": found.suspicious,
        "sentence": say(*sentences(found)), "nearest": [file(each) for each in found.pictures], "distances": list(found.distances), "searched": found.searched,
    }  # fmt: skip


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    gr.HTML(note(*LESSON))
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            digit = gr.Radio(list(DIGITS), value="3", label=t("Which of the ten samples", "查十个样本中的哪一个"))
            seed = gr.Number(7, label=t("Seed", "随机种子"), precision=0)
            variant = gr.Radio(choices(), value="dcgan", label=t("Model", "模型"))
            press = gr.Button(t("Find its nearest training digits", "查找最近的训练数字"), variant="primary")
            true = gr.Button(t("Show me a true copy", "看看真正的抄袭是什么样"))
        with gr.Column(scale=2, min_width=280):
            result = gr.HTML(empty("The nearest training digits appear here.", "最近的训练数字会显示在这里。"), elem_id="copies-result")
    shared = {"concurrency_id": "copies", "concurrency_limit": 16, "api_visibility": "private"}
    gr.on([press.click, digit.input], check, [variant, digit, seed], result, **shared)
    true.click(copy, [digit, seed], result, **shared)
    gr.api(told(gan_nearest), api_name="gan_nearest", concurrency_id="copies", concurrency_limit=16)
    parts |= {"copies_button": press, "copies_true": true, "copies_digit": digit, "copies_seed": seed, "copies_variant": variant}
