"""Diffusion in two dimensions, on points that the visitor draws: the one place where data, noise, paths and the field can all be seen at once."""

import gradio as gr

from demos import pad, training
from demos.diffusion import levels
from demos.i18n import t, told
from demos.pieces import empty, heading, note, promise
from genkit import runs
from genkit.core import Problem, number, pick

TITLE = ("Train it yourself: points you draw", "自己训练：您画的点")
LESSON = (
    "Draw a shape: two thousand points are taken from it, and a small network learns in seconds how to move noise there. A picture is one point in a space of "
    "thousands of dimensions; here there are two, and you can see all of it.",
    "画一个形状：从中取两千个点，一个小网络几秒内就学会怎样把噪声移到那里。一张图片是几千维空间里的一个点；这里只有两维，全都看得见。",
)
SHAPES = {
    "ring": ("Ring", "圆环"),
    "moons": ("Two moons", "双月"),
    "spiral": ("Spiral", "螺旋"),
    "islands": ("Eight islands", "八座岛"),
    "letter": ("Letter R", "字母 R"),
}
NAME, EVERY, DEADLINE = "diffusion-points", 200, 300.0
PATHS, STEPS = 160, 40  # points that are followed, and their steps
VIEW, SIZE = 2.4, 480  # how far one sees; of the picture
WAITING = empty(
    "When it has begun to learn, the points on their way and the field that moves them appear here.", "开始学习之后，这里会显示途中的点，以及推动它们的场。"
)


def drawn(shape: str) -> str:
    """The pad's value that shows a ready shape."""
    from genkit.diffusion import points  # brings torch, which the page must not wait for

    return pad.address(points.shape(pick(tuple(SHAPES), shape, "shape", "形状")))


def begin(owner: str, value, steps, seed) -> str:
    """Start a run on what is on the pad; its id. The drawing itself goes into no snapshot but for the pictures that it makes."""
    from genkit.diffusion import points

    if not value:
        raise Problem("nothing is drawn yet; draw a shape on the pad, or pick a ready one", "画板是空的；请画一个形状，或选一个现成的")
    steps, seed = number(steps, EVERY, 10_000, "steps", whole=True), number(seed, 0, 2**31 - 1, "seed", whole=True)
    asked = {"steps": steps, "every": EVERY, "seed": seed}
    taken = points.from_picture(pad.picture(value), seed)
    return runs.start(owner, points.train(taken, **asked), title=NAME, deadline=DEADLINE, about=asked)


def examined(exam, exams=()) -> str:
    if exam is None:
        return ""
    said = note(
        f"At step {exam.step}, {exam.right:.0%} of 400 fresh samples lie on your drawing (within the width of the pen). Above, left to right: noise on its way to the shape.",
        f"第 {exam.step} 步时，400 个新样本中有 {exam.right:.0%} 落在您的画上（相差不超过笔宽）。上图从左到右：噪声走向形状的过程。",
    )
    return f'<div class="exam">{promise(exam, levels.ENDS, DEADLINE)}{said}{levels.levels(exams or (exam,))}</div>'


def plot(net, step: int, seed: int, arrows: bool) -> str:
    """The points at a step of their way, the paths behind them, and the field at that noise level: SVG and a sentence."""
    from genkit.diffusion import points

    way, times = points.paths(net, PATHS, STEPS, seed), [*points.timesteps(STEPS), 0]
    level, scale = times[step], SIZE / 2 / VIEW

    def place(x) -> str:
        return f"{SIZE / 2 + x[0] * scale:.1f},{SIZE / 2 - x[1] * scale:.1f}"

    trails = "".join(f'<polyline points="{" ".join(map(place, path))}"/>' for path in way[: step + 1, : PATHS // 4].transpose(0, 1).tolist()) if step else ""
    dots = "".join('<circle cx="{}" cy="{}" r="3"/>'.format(*place(x).split(",")) for x in way[step].tolist())
    lines = "".join(_arrow(place, a, b) for a, b in zip(*(part.tolist() for part in points.field(net, level)), strict=True)) if arrows else ""
    said = note(
        f"Noise level t = {level}, step {step} of {STEPS}. Dots: {PATHS} samples; lines: the way some of them came; arrows: the field, which points to where noisy points are denser. "
        f"{_told(level)[0]}",
        f"噪声强度 t = {level}，第 {step} 步，共 {STEPS} 步。圆点：{PATHS} 个样本；细线：其中一些走来的路；箭头：场，指向带噪声的点更密的地方。{_told(level)[1]}",
    )
    return (
        f'<svg class="field" viewBox="0 0 {SIZE} {SIZE}" role="img" aria-label="t = {level}"><g class="arrows">{lines}</g><g class="trails">{trails}</g>'
        f'<g class="dots">{dots}</g></svg>{said}'
    )


def _arrow(place, at: list, score: list) -> str:
    """A line from a place in the direction of the score; long scores are shortened, so that all fit."""
    size = (score[0] ** 2 + score[1] ** 2) ** 0.5 or 1.0
    reach = 0.22 * size / (1 + size)
    tip = [here + reach * part / size for here, part in zip(at, score, strict=True)]
    (x1, y1), (x2, y2) = place(at).split(","), place(tip).split(",")
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/><circle cx="{x2}" cy="{y2}" r="1.6"/>'


def _told(level: int) -> tuple[str, str]:
    if level > 700:
        return "Nearly everything has drowned: all arrows point to the middle.", "几乎全被淹没：所有箭头都指向中间。"
    if level > 150:
        return "The shape begins to show: the arrows part.", "形状开始显现：箭头分成了几路。"
    return "Little noise is left: each arrow points to the nearest part of your shape.", "噪声所剩无几：每个箭头都指向最近的那一段形状。"


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    report = gr.HTML(elem_id="diffusion-points-report", elem_classes="live", render=False)
    looking = gr.Column(visible=False, render=False, elem_id="diffusion-points-look")
    desk = training.Panel(
        kept,
        "diffusion",
        name=NAME,
        more=lambda shot, own, fresh: {report: examined(shot.exam, shot.exams), looking: gr.Column(visible=shot.step > 0)},
        detail=lambda run, exam: examined(exam, levels.until(run, exam)),
    )
    gr.HTML(note(*LESSON))
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            ready = gr.Radio(
                [(t(*label), name) for name, label in SHAPES.items()], value=None, label=t("A ready shape, to be changed at will", "现成的形状，可以随意改")
            )
            canvas = pad.pad(10, elem_id="diffusion-points-pad", label=t("Your shape", "您的形状"))
            steps = gr.Slider(EVERY, 10_000, 4000, step=EVERY, label=t("Steps", "步数"))
            seed = gr.Number(0, label=t("Seed", "随机种子"), precision=0)
            desk.buttons()
        with gr.Column(scale=2, min_width=280):
            desk.status()
            with desk.look():
                report.render()
            desk.numbers()
            looking.render()
            with looking:
                heading(
                    "Look at the way",
                    "看看途中",
                    "Move the step from noise to shape, while it learns or afterwards.",
                    "拖动步数，从噪声到形状；边训练边看，或之后再看。",
                )
                at = gr.Slider(
                    0,
                    STEPS,
                    0,
                    step=1,
                    label=t("Step of the way: 0 is noise, 40 is the shape", "途中的步数：0 是噪声，40 是形状"),
                    elem_id="diffusion-points-at",
                )
                arrows = gr.Checkbox(True, label=t("Show the field (the score)", "显示场（score）"))
                shown = gr.HTML(WAITING, elem_id="diffusion-points-field")
    desk.extra = [report, looking]

    @told
    def look(kept, at, arrows, request: gr.Request):
        run, _ = desk.chosen(kept, request)
        net, seed = runs.model(run), runs.snapshot(run).about["seed"]
        return plot(net, number(at, 0, STEPS, "step", whole=True), seed, bool(arrows))

    desk.starts(desk.start, begin, [canvas, steps, seed])
    ready.input(told(drawn), ready, canvas, **training.PRIVATE)
    gr.on([at.input, at.release, arrows.input], look, [desk.kept, at, arrows], shown, trigger_mode="always_last", concurrency_limit=4, **training.PRIVATE)
    desk.ready(page)
