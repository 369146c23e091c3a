"""Train a VAE in front of everybody: both terms on a chart, beta under the visitor's finger, broken on purpose and mended while it runs."""

import functools

import gradio as gr

from demos import training
from demos.i18n import t, told
from demos.pieces import note
from demos.vae import report
from demos.vae.make import NAMES
from demos.vae.report import CLINIC
from genkit import runs, vae
from genkit.core import Control, number, pick
from genkit.vae import doctor

TITLE = ("Train it yourself", "自己训练")
LESSON = (
    "The loss has two terms: redraw the digit well (reconstruction), and keep the numbers close to a plain bell curve (KL), so that new ones can be drawn from it. "
    "β is how much the second one counts. Move it while the training runs, and watch the two curves pull at each other.",
    "损失有两项：把数字画准（重建），并让这些数接近普通的钟形分布（KL），这样才能从中抽出新的数字。β 决定第二项有多重要。训练时移动它，看两条曲线怎样互相拉扯。",
)
TRAINED = {  # what can be trained here
    "conv": NAMES["conv"],
    "conv2d": NAMES["conv2d"],
    "mlp": NAMES["mlp"],
    "ae": NAMES["ae"],
    "conditional": NAMES["conditional"],
    "denoise": ("Denoising (sees a spoilt digit)", "去噪（看到的是弄脏的数字）"),
}
EXAMPLES = {0: ("all of them", "全部"), 5000: ("5,000 digits", "5000 个"), 500: ("500 digits", "500 个"), 50: ("50 digits", "50 个")}
STEPS, EXAMS = 600, 25  # offered first; between two examinations
LIMITS = {"beta": (0.0, 80.0), "free_bits": (0.0, 3.0), "warmup": (0, 2000)}  # of the rules


def ruled(name: str, value) -> float | int:
    """A value of a rule, moved into its limits."""
    return number(value, *LIMITS[name], report.SETTINGS[name][0], whole=name == "warmup")


def recipe(variant: str) -> list:
    """The variant's own beta, free bits, warm-up, latent size and learning rate."""
    config = pick(vae.VARIANTS, variant, "VAE variant", "VAE 变体")
    return [config.rules.beta, config.rules.free_bits, config.rules.warmup, config.latent_dim, config.lr]


def play(owner: str, variant: str, rules: vae.Rules, steps, seed, options: dict, about: dict | None = None) -> str:
    """Start a run by these rules; its id. options: arguments of train()."""
    return training.begin(owner, "vae", variant, steps, seed, control=Control(rules), about=about, exams=EXAMS, **options)


def begin(owner: str, variant, beta, free_bits, warmup, latent_dim, lr, examples, steps, seed) -> str:
    """Start what the controls say; its id. What is as in the recipe is left to it."""
    config = pick(vae.VARIANTS, variant, "VAE variant", "VAE 变体")
    asked = {"latent_dim": number(latent_dim, 1, 128, "latent size", whole=True), "lr": number(lr, 1e-5, 0.1, "learning rate")}
    options = {name: value for name, value in asked.items() if value != getattr(config, name)}
    examples = number(examples, 0, 60_000, "examples", whole=True)
    rules = vae.Rules(**{name: ruled(name, value) for name, value in (("beta", beta), ("free_bits", free_bits), ("warmup", warmup))})
    return play(owner, variant, rules, steps, seed, options | ({"examples": examples} if examples else {}))


def setting(name: str):
    """The function that changes a rule of the run in view, if it is the visitor's own and goes on."""

    def change(run: str, owner: str, value) -> None:
        if run and runs.mine(owner, "vae") == run:
            runs.change(run, owner, **{name: ruled(name, value)})

    return change


def examined(run: str, exam) -> str:
    """What an earlier examination of a run had found."""
    return report.examination(exam, report.latent_dim(runs.snapshot(run)))


def controls(parts: dict) -> list:
    """Build what a run is started with; the components in the order of begin()."""
    beta, free_bits, warmup, latent_dim, lr = recipe("conv")
    choices = [(t(*label), name) for name, label in TRAINED.items()]
    parts["learn_variant"] = gr.Radio(choices, value="conv", label=t("What to train", "训练什么"))
    info = t(
        "0: only redraw well. 1: the VAE. More: tidy numbers above all. Move it while it trains.", "0：只求画得像。1：VAE。更大：编码整齐优先。训练时可以移动。"
    )
    parts["learn_beta"] = gr.Slider(*LIMITS["beta"], beta, step=0.1, label=t("β, the weight of KL", "β：KL 的权重"), info=info, elem_id="vae-beta")
    parts["learn_steps"] = gr.Slider(10, 5000, STEPS, step=10, label=t("Steps", "步数"))
    parts["learn_seed"] = gr.Number(0, label=t("Seed", "随机种子"), precision=0)
    with gr.Accordion(t("More", "更多"), open=False):
        info = t("Few examples: it learns them by heart.", "例子太少，它就会死记硬背。")
        parts["learn_examples"] = gr.Radio(
            [(t(*label), amount) for amount, label in EXAMPLES.items()], value=0, label=t("Training digits", "训练数字"), info=info
        )
        info = t("So many nats of each number cost nothing: no number falls silent.", "每个数的这么多纳特不计代价，这样没有数会沉默。")
        parts["learn_free_bits"] = gr.Slider(*LIMITS["free_bits"], free_bits, step=0.05, label=t("Free nats for each number", "每个数免费的纳特"), info=info)
        info = t("β grows from 0 over so many steps.", "β 在这么多步里从 0 增大。")
        parts["learn_warmup"] = gr.Slider(*LIMITS["warmup"], warmup, step=10, label=t("Warm-up of β", "β 预热"), info=info)
        info = t("How many numbers a digit is squeezed into.", "把一个数字压缩成多少个数。")
        parts["learn_latent"] = gr.Slider(1, 128, latent_dim, step=1, label=t("Latent size", "潜变量个数"), info=info)
        info = t("How large each step of learning is, from 0.00001 to 0.1.", "每一步学习的幅度，0.00001 到 0.1。")
        parts["learn_lr"] = gr.Number(lr, label=t("Learning rate", "学习率"), info=info)
    order = ("variant", "beta", "free_bits", "warmup", "latent", "lr", "examples", "steps", "seed")
    return [parts[f"learn_{name}"] for name in order]


def operation(desk: training.Panel, parts: dict) -> None:
    """Build the buttons that start and operate a run."""
    desk.buttons()
    parts["learn_reset"] = desk.button("reset", "Reset everything", "全部重置", size="sm")
    parts["learn_break"] = CLINIC.breaks()


def stage(desk: training.Panel, parts: dict) -> None:
    """Build what shows a run."""
    parts["learn_lesson"] = gr.HTML()
    desk.status()
    CLINIC.ward(parts)
    gr.HTML(note("Digits from pure chance, decoded by the model of this moment:", "由此刻的模型从随机数解码出的数字："))
    with desk.look():
        parts["learn_report"] = gr.HTML(elem_id="vae-report", elem_classes="live")
    desk.numbers()


def findings(parts: dict):
    """What the lab shows of a run beside the panel's own: component -> value."""

    def more(shot, own: bool, fresh: bool) -> dict:
        rules = {parts[f"learn_{name}"]: getattr(shot.settings, name) for name in LIMITS} if fresh and own and shot.settings and not shot.ended else {}
        return {
            parts["learn_formula"]: report.game(shot),
            parts["learn_report"]: report.examination(shot.exam, report.latent_dim(shot)),
            **CLINIC.findings(parts, shot, own, fresh),
            **rules,
        }

    return more


def usual(parts: dict, settings: list) -> dict:
    """How the page opens: component -> value."""
    offered = dict(zip(settings, ["conv", *recipe("conv"), 0, STEPS, 0], strict=True))
    return {**CLINIC.empty(parts), **offered, parts["learn_report"]: "", parts["learn_formula"]: report.game()}


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> training.Panel:
    """Build the lab; its panel. What the lesson operates goes into `parts` as learn_..."""
    desk = training.Panel(kept, "vae", more=findings(parts), detail=examined)
    gr.HTML(note(*LESSON))
    parts["learn_formula"] = gr.HTML(report.game(), elem_id="vae-formula")
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            settings = controls(parts)
            operation(desk, parts)
        with gr.Column(scale=2, min_width=280):
            stage(desk, parts)
    names = ("start", "pause", "resume", "stop", "state", "picture", "timeline", "curve")
    parts |= {f"learn_{name}": getattr(desk, name) for name in names}
    connect(page, desk, parts, settings)
    return desk


def connect(page: gr.Blocks, desk: training.Panel, parts: dict, settings: list) -> None:
    """Every button of the lab to what it does."""
    rules = {name: parts[f"learn_{name}"] for name in LIMITS}
    desk.extra = [*(parts[f"learn_{name}"] for name in ("formula", "doctor", "report", "lesson")), *parts["learn_repair"].values(), *rules.values()]
    desk.starts(desk.start, begin, settings)
    for key, button in parts["learn_break"].items():
        desk.starts(button, CLINIC.breaking(key, play), [parts["learn_steps"], parts["learn_seed"]])
    for name, slider in rules.items():
        desk.acts(functools.partial(slider.input, trigger_mode="always_last"), setting(name), [slider])
    for key, button in parts["learn_repair"].items():
        desk.acts(button.click, CLINIC.mending(key))
        changes = doctor.REPAIRS[key].changes
        moved = [name for name in changes if name in rules]
        button.click(lambda values=[changes[name] for name in moved]: tuple(values) if len(values) > 1 else values[0], None, [rules[name] for name in moved], queue=False, **training.PRIVATE)  # fmt: skip
    desk.resets(parts["learn_reset"], lambda: usual(parts, settings), settings)
    parts["learn_variant"].input(told(recipe), parts["learn_variant"], settings[1:6], queue=False, **training.PRIVATE)
    desk.ready(page)
