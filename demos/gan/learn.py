"""Train a GAN in front of everybody: whole or step by step, in slow motion, broken on purpose and mended while it runs."""

import dataclasses
import secrets

import gradio as gr

from demos import training
from demos.gan import report
from demos.gan.make import choices
from demos.gan.report import CLINIC
from demos.i18n import t, told
from demos.pieces import note
from genkit import gan, runs
from genkit.core import Control, number, pick

TITLE = ("Train it yourself", "自己训练")
LESSON = (
    "Both networks start knowing nothing. Watch the noise turn into strokes, then into digits, while the two pull at each other.",
    "两个网络一开始什么都不会。看噪声如何变成笔画，再变成数字，同时双方互相拉扯。",
)
TRAINED = ("dcgan", "unconditional", "mlp", "wgan-gp", "style")  # what can be trained here from noise
OPTIMIZERS = {"adam": "Adam", "rmsprop": "RMSprop", "sgd": "SGD"}
STEPS, EXAMS = gan.LIVE, 25  # offered first; between two examinations
SLOW = 1.0  # seconds of rest between two steps in slow motion


def recipe(variant: str) -> list:
    """The variant's own optimizer, learning rate, steps of D, latent size and loss."""
    config = pick(gan.VARIANTS, variant, "GAN variant", "GAN 变体")
    return [config.optimizer, config.lr, config.rules.d_steps, config.latent_dim, config.rules.loss]


def ruled(variant: str, loss: str, d_steps) -> gan.Rules:
    """The variant's rules with another loss and other steps of D. The Wasserstein loss says nothing unless the slope of D is bounded."""
    own, loss = gan.VARIANTS[variant].rules, pick(tuple(report.LOSSES), loss, "loss", "损失")
    penalty = "gradient" if loss == "wasserstein" else own.penalty
    return dataclasses.replace(own, loss=loss, penalty=penalty, d_steps=number(d_steps, 1, 5, "d_steps", whole=True))


def play(owner: str, variant: str, rules: gan.Rules, steps, seed, slow, options: dict, about: dict | None = None) -> str:
    """Start a run by these rules; its id. options: arguments of train()."""
    control = Control(dataclasses.replace(rules, single=bool(slow)))
    run = training.begin(owner, "gan", variant, steps, seed, control=control, about=about, exams=EXAMS, **options)
    runs.slow(run, owner, SLOW if slow else 0)
    return run


def begin(owner: str, variant, optimizer, lr, d_steps, latent_dim, loss, steps, seed, slow) -> str:
    """Start what the controls say; its id. What is as in the recipe is left to it: only its own settings come with a promise of time."""
    config = pick(gan.VARIANTS, variant, "GAN variant", "GAN 变体")
    asked = {
        "optimizer": pick(gan.OPTIMIZERS, optimizer, "optimizer", "优化器"),
        "lr": number(lr, 1e-5, 0.1, "learning rate"),
        "latent_dim": number(latent_dim, 2, 128, "latent size", whole=True),
    }
    options = {name: value for name, value in asked.items() if value != getattr(config, name)}
    return play(owner, variant, ruled(variant, loss, d_steps), steps, seed, slow, options)


def go_on(run: str, owner: str) -> None:
    """Both play again, after single steps too."""
    runs.change(run, owner, players="both", single=runs.snapshot(run).rest > 0)
    runs.resume(run, owner)


def set_slow(run: str, owner: str, slow) -> None:
    """Slow motion of a run that is going on: every step is shown and followed by a rest."""
    if run and runs.mine(owner, "gan") == run:
        runs.change(run, owner, single=bool(slow) or runs.snapshot(run).state == "paused")
        runs.slow(run, owner, SLOW if slow else 0)


def examined(run: str, exam) -> str:
    """What an earlier examination of a run had found."""
    return report.examination(exam, report.conditional(runs.snapshot(run)))


def stepping(desk: training.Panel, players: str):
    """The handler of a single step: of the run in view, or of a new one."""

    @told
    def step(kept, request: gr.Request, *values):
        run, owner = desk.chosen(kept, request)
        if run == (kept or {}).get("gan", ""):  # not one that the address names
            owner = owner or secrets.token_urlsafe(12)
            run = runs.mine(owner, "gan") or begin(owner, *values)
            kept = {**(kept or {}), "owner": owner, "gan": run}
        runs.change(run, owner, players=players, single=True)
        runs.once(run, owner)
        return kept

    return step


def controls(parts: dict) -> list:
    """Build what a run is started with; the components in the order of begin()."""
    optimizer, lr, d_steps, latent_dim, loss = recipe("dcgan")
    parts["learn_variant"] = gr.Radio(choices(TRAINED), value="dcgan", label=t("What to train", "训练什么"))
    parts["learn_steps"] = gr.Slider(10, 5000, STEPS, step=10, label=t("Steps", "步数"))
    parts["learn_seed"] = gr.Number(0, label=t("Seed", "随机种子"), precision=0)
    with gr.Accordion(t("More", "更多"), open=False):
        parts["learn_optimizer"] = gr.Radio([(name, key) for key, name in OPTIMIZERS.items()], value=optimizer, label=t("Optimizer", "优化器"))
        info = t("How large each step of learning is, from 0.00001 to 0.1.", "每一步学习的幅度，0.00001 到 0.1。")
        parts["learn_lr"] = gr.Number(lr, label=t("Learning rate", "学习率"), info=info)
        parts["learn_d_steps"] = gr.Slider(1, 5, d_steps, step=1, label=t("D learns so many times for each time of G", "G 每学一次，D 学几次"))
        info = t("How many random numbers a digit is made from.", "一个数字由多少个随机数生成。")
        parts["learn_latent"] = gr.Slider(2, 128, latent_dim, step=1, label=t("Latent size", "潜变量个数"), info=info)
        parts["learn_loss"] = gr.Dropdown([(t(*label), key) for key, label in report.LOSSES.items()], value=loss, label=t("Loss", "损失"), filterable=False)
    order = ("variant", "optimizer", "lr", "d_steps", "latent", "loss", "steps", "seed")
    return [parts[f"learn_{name}"] for name in order]


def operation(desk: training.Panel, parts: dict) -> None:
    """Build the buttons that start and operate a run."""
    desk.buttons()
    with gr.Row():
        for key, en, zh in (("d", "Step D", "D 走一步"), ("g", "Step G", "G 走一步"), ("both", "Step both", "各走一步")):
            parts[f"learn_step_{key}"] = desk.button(f"step-{key}", en, zh, size="sm")
    slow = t("Slow motion: show every step and wait a second", "慢动作：每一步都展示，并停一秒")
    parts["learn_slow"] = gr.Checkbox(False, label=slow, elem_id="gan-slow")
    parts["learn_reset"] = desk.button("reset", "Reset everything", "全部重置", size="sm")
    parts["learn_break"] = CLINIC.breaks()


def stage(desk: training.Panel, parts: dict) -> None:
    """Build what shows a run."""
    parts["learn_lesson"] = gr.HTML()
    desk.status()
    CLINIC.ward(parts)
    with desk.look():
        parts["learn_report"] = gr.HTML(elem_id="gan-report", elem_classes="live")
    desk.numbers()


def findings(parts: dict):
    """What the lab shows of a run beside the panel's own: component -> value."""

    def more(shot, own: bool, fresh: bool) -> dict:
        once = {parts["learn_slow"]: shot.rest > 0} if fresh else {}
        return {
            parts["learn_formula"]: report.game(shot),
            parts["learn_report"]: report.examination(shot.exam, report.conditional(shot)),
            **CLINIC.findings(parts, shot, own, fresh),
            **{parts[f"learn_step_{player}"]: gr.Button(interactive=own) for player in gan.PLAYERS},
            **once,
        }

    return more


def usual(parts: dict, settings: list) -> dict:
    """How the page opens: component -> value."""
    steps = {parts[f"learn_step_{player}"]: gr.Button(interactive=True) for player in gan.PLAYERS}
    offered = dict(zip(settings, ["dcgan", *recipe("dcgan"), STEPS, 0], strict=True)) | {parts["learn_slow"]: False}
    return {**CLINIC.empty(parts), **steps, **offered, parts["learn_report"]: "", parts["learn_formula"]: report.game()}


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> training.Panel:
    """Build the lab; its panel. What the lesson operates goes into `parts` as learn_..."""
    desk = training.Panel(kept, "gan", more=findings(parts), detail=examined, resume=go_on)
    gr.HTML(note(*LESSON))
    parts["learn_formula"] = gr.HTML(report.game(), elem_id="gan-formula")
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
    steps = [parts[f"learn_step_{player}"] for player in gan.PLAYERS]
    words = [parts[f"learn_{name}"] for name in ("formula", "doctor", "report", "lesson", "slow")]
    desk.extra = [*words, *parts["learn_repair"].values(), *steps]
    slow = parts["learn_slow"]
    desk.starts(desk.start, begin, [*settings, slow])
    for key, button in parts["learn_break"].items():
        desk.starts(button, CLINIC.breaking(key, play), [parts["learn_steps"], parts["learn_seed"], slow])
    for player, button in zip(gan.PLAYERS, steps, strict=True):
        stepped = button.click(stepping(desk, player), [desk.kept, *settings, slow], desk.kept, **training.PRIVATE)
        stepped.success(desk.reattach, desk.kept, desk.shown, concurrency_limit=None, **training.PRIVATE)
    for key, button in parts["learn_repair"].items():
        desk.acts(button.click, CLINIC.mending(key))
    desk.acts(slow.input, set_slow, [slow])
    desk.resets(parts["learn_reset"], lambda: usual(parts, settings), settings)
    parts["learn_variant"].input(told(recipe), parts["learn_variant"], settings[1:6], queue=False, **training.PRIVATE)
    desk.ready(page)
