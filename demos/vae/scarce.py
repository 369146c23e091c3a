"""Augmentation: one digit is rare; do invented ones help a classifier to learn it?"""

import gradio as gr

from demos.i18n import both, t
from demos.pen import ASKED, stopped_by
from demos.pieces import empty, note
from demos.vae.odd import experiment
from genkit import vae
from genkit.core import number, pick

LESSON = (
    "Suppose there were only a handful of eights in the world. A classifier that learns from them misses most others. A conditional VAE that knows the same handful, and all other digits, can invent more eights: in handwritings it has seen elsewhere. "
    "Do they help? Both classifiers are tested on real eights that nobody has learnt from.",
    "假设世界上只有寥寥几个 8。用它们学习的分类器会认不出大多数别的 8。条件式 VAE 认识同样的几个 8，也认识所有别的数字，于是能用别处见过的笔迹编出更多的 8。有用吗？两个分类器都用没人学过的真实的 8 来检验。",
)
FILLERS = {
    "repeat": ("show the few again and again", "把这几个反复给它看"),
    "conditional": ("invented by a conditional VAE (same few examples)", "条件式 VAE 编的（只见过同样几个）"),
    "dcgan": ("made by the GAN tab's dcgan (has seen all digits: not fair)", "GAN 页的 dcgan 生成的（见过全部数字：不公平）"),
}
WITHOUT = ("without help", "没有帮助")


def begin(rare, n, generators, seed):
    """The experiment of the controls. Raises Problem for what is no digit and for an unknown generator."""
    rare = int(pick(tuple("0123456789"), str(rare), "digit", "数字"))
    chosen = [pick(tuple(FILLERS), name, "generator", "生成器") for name in (generators or ())]
    return vae.augment(number(n, 5, 500, "n", whole=True), chosen, number(seed, 0, 2**31 - 1, "seed", whole=True), rare=rare)


def compared(found) -> str:
    """Accuracy on the rare digit, with and without help, as bars with their numbers, and in words."""
    names = {"without": WITHOUT, **FILLERS}

    def row(name: str) -> str:
        mean, spread = found.rows[name].mean, found.rows[name].spread
        bar = f'<i style="--w:{100 * mean:.1f}%"></i>'
        return f"<li><span>{both(*names[name])}</span>{bar}<b>{mean:.1%} ± {spread:.1%}</b></li>"

    runs = len(found.rows["without"].rare)
    said = "".join(sentence(name, found.gain(name), found.rows[name].spread + found.rows["without"].spread) for name in found.rows if name != "without")
    about = note(
        f"Real test digits {found.rare} that are recognised; mean and spread of {runs} trainings. {found.n} real examples, filled up to {found.filled}.",
        f"真实测试数字 {found.rare} 被认出的比例；{runs} 次训练的平均与离散。真实例子 {found.n} 个，补足到 {found.filled} 个。",
    )
    return f'<ul class="rows">{"".join(map(row, found.rows))}</ul>{about}<div role="status">{said}</div>'


def sentence(name: str, gain: float, spread: float) -> str:
    """What a way to fill the gap has brought, honestly."""
    points = f"{gain:+.1f}".replace("-", "−")
    if gain > 100 * spread:
        judged = ("It helps.", "有用。")
    elif gain < -100 * spread:
        judged = ("It hurts.", "有害。")
    else:
        judged = ("That is within the spread: no proof that it helps.", "这在离散范围之内：不能证明有用。")
    return note(f"{FILLERS[name][0].capitalize()}: {points} points. {judged[0]}", f"{FILLERS[name][1]}：{points} 个百分点。{judged[1]}")


def run(pen, asked, *values):
    """The experiment that a visitor asked for at `asked`, by their clock, until it is done or they stop it."""
    for said in experiment(begin, compared)(*values):
        if pen.rests(asked):
            yield empty("Stopped.", "已停止。")
            return
        yield said


def build(parts: dict) -> None:
    gr.HTML(note(*LESSON))
    with gr.Row():
        rare = gr.Dropdown(list("0123456789"), value="8", label=t("Rare digit", "稀有数字"), filterable=False, min_width=110)
        n = gr.Slider(5, 500, 20, step=5, label=t("How many real examples", "真实例子的数量"), min_width=200, scale=2)
        seed = gr.Number(0, label=t("Seed", "随机种子"), precision=0, min_width=100)
    generators = gr.CheckboxGroup(
        [(t(*said), name) for name, said in FILLERS.items()], value=["repeat", "conditional"], label=t("Fill the gap with", "用什么补足")
    )
    with gr.Row():
        press = gr.Button(t("Train the classifiers", "训练分类器"), variant="primary", min_width=180)
        halt = gr.Button(t("Stop the experiment", "停止实验"), min_width=120)
    result = gr.HTML(empty("About two minutes of training, then the answer.", "大约训练两分钟，然后见分晓。"), elem_id="vae-scarce")
    light = {"api_visibility": "private", "show_progress": "hidden"}
    inputs = [*stopped_by(halt), rare, n, generators, seed]
    press.click(run, inputs, result, js=ASKED, concurrency_id="experiment", concurrency_limit=1, **light)
    parts |= {"scarce_rare": rare, "scarce_n": n, "scarce_generators": generators, "scarce_button": press, "scarce_result": result}
