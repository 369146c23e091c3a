"""Train a language model in front of everybody, on a corpus of this machine or on one's own text, and write on with it at once."""

import functools
import time

import gradio as gr

from demos import training
from demos.i18n import both, escape, t, told
from demos.pen import ASKED, stopped_by
from demos.pieces import empty, made_by, note, promise, written
from demos.text import material
from demos.text.chances import named
from demos.text.material import CORPORA, OWN, SHELF
from demos.text.write import PROMPT, percent
from genkit import corpora, models, runs, text
from genkit.core import Problem, number, pick
from genkit.text import learning

TITLE = ("Train it yourself", "自己训练")
LESSON = (
    "At first every character is equally likely. Watch letters become words, then lines, as the loss falls. Bring your own text, and see when the model stops "
    "understanding and begins to learn it by heart.",
    "一开始每个字符的机会都一样。看损失下降时，字母怎样变成单词，再变成诗行。也可以带来自己的文本，看模型从什么时候起不再理解，而开始死记硬背。",
)
KINDS = {  # what can be trained here: label, variant, its settings as far as they differ
    "gpt": ("GPT: a small transformer", "GPT：小型 Transformer", "gpt-mini", {}),
    "lstm": ("LSTM: a network with a memory", "LSTM：带记忆的网络", "gpt-mini", {"arch": "lstm", "n_layer": 1, "n_embd": 256, "batch_size": 16}),
    "ngram": ("n-gram: mere counting, at once", "n-gram：只是数数，立刻学会", "ngram-shakespeare", {"every": 1}),
}
SIZES = {  # label, and for each kind the settings that make it so
    "small": (("small", "小"), {"gpt": {"n_layer": 2, "n_head": 2, "n_embd": 64}, "lstm": {"n_embd": 128}, "ngram": {"order": 3}}),
    "medium": (("medium", "中"), {"ngram": {"order": 5}}),
    "large": (("large", "大"), {"gpt": {"n_layer": 6, "n_head": 6, "n_embd": 192}, "lstm": {"n_embd": 512}, "ngram": {"order": 8}}),
}
COUNTS = 5  # steps of an n-gram: each counts so large a part of the text more
STEPS = 400  # offered first
ENDS = (  # of a run that is cut off
    "keeps its best moment. Fewer steps or a smaller model come to an end.",
    "届时保留最好的一刻。减少步数或选小一些的模型即可走到终点。",
)
SHOWN = 8  # tokens whose chances are listed


def begin(owner: str, source, pasted, key, cleaning, kind, size, steps, seed) -> str:
    """Start what the controls say; its id. The text itself goes into no snapshot: whoever follows the run sees samples only."""
    _, _, variant, settings = pick(KINDS, kind, "kind of model", "模型种类")
    _, changes = pick(SIZES, size, "size", "大小")
    steps = COUNTS if kind == "ngram" else steps
    found = material.material(source, pasted, key, cleaning)
    about = {"kind": kind, "corpus": source, "cleaning": tuple(found.cleaned.changed) if found.cleaned else (), "characters": sum(map(len, (found.parts.learn, found.parts.validate, found.parts.test)))}  # fmt: skip
    return training.begin(
        owner, "text", variant, steps, seed, about=about, train=functools.partial(text.learn, parts=found.parts), **{**settings, **changes.get(kind, {})}
    )


def verdict(shot) -> str:
    """What there is to say of a run beside its curve: the promise, the best moment, learning by heart, the test."""
    exam = shot.exam
    if not isinstance(exam, learning.Exam):
        return ""
    return f'<div class="exam">{promise(exam, ENDS)}{by_heart(shot.metrics)}{figures(exam)}</div>'


def by_heart(points) -> str:
    """A sentence on over-fitting, where there is some."""
    since = text.overfit(points)
    if since is None:
        return ""
    rows = dict(points)
    then, (_, now) = rows[since], next(point for point in reversed(points) if "loss_val" in point[1])
    return note(
        f"Over-fitting: since step {since} it learns by heart. On text that it is not taught the loss has risen from {then['loss_val']:.2f} to {now['loss_val']:.2f}, "
        f"while on what it is taught it fell from {then['loss']:.2f} to {now['loss']:.2f}. More text or a smaller model would help; the model of step {since} is kept.",
        f"过拟合：从第 {since} 步起，它开始死记硬背。在没教过的文本上，损失从 {then['loss_val']:.2f} 升到 {now['loss_val']:.2f}；"
        f"在教过的文本上，却从 {then['loss']:.2f} 降到 {now['loss']:.2f}。更多的文本或更小的模型会有帮助；保留的是第 {since} 步的模型。",
        warn=True,
    )


def figures(exam: learning.Exam) -> str:
    """The losses that count, each with what it means."""
    rows = [
        (
            both("Best moment", "最好的一刻"),
            both(f"step {exam.best}", f"第 {exam.best} 步"),
            both("where the validation loss was lowest: this model is kept, used below and packed", "验证损失最低之处：保留的、下面使用的、打包的都是这个模型"),
        ),
        (both("Validation loss there", "那时的验证损失"), f"{exam.loss_val:.3f}", both("nats a character", "纳特／字符")),
        (
            both("Test loss", "测试损失"),
            f"{exam.test:.3f}" if exam.test is not None else "–",
            both("on the last 15 %, which nothing was chosen by", "在最后 15% 上，它没有参与任何选择")
            if exam.test is not None
            else both("when the training has come to its end", "训练走到终点时给出"),
        ),
    ]
    return f'<dl class="figures">{"".join(f"<div><dt>{name}</dt><dd>{value}</dd><dd>{meaning}</dd></div>" for name, value, meaning in rows)}</dl>'


# --- writing on with it


def own_model(kept: dict):
    """The visitor's run and the model of it that is kept. Raises Problem if there is none of theirs."""
    run, owner = (kept or {}).get("text"), (kept or {}).get("owner")
    if not run or not runs.owns(run, owner):
        raise Problem("you have trained no model yet; start one above", "您还没有训练过模型；请在上面开始一次")
    return runs.snapshot(run), runs.model(run)


@told
def write_on(pen, asked, kept, prompt, temperature):
    """What the visitor's own model writes, until it is whole or they stop it; then the chances of what might have come first."""
    if not isinstance(prompt, str) or len(prompt) > PROMPT:
        raise Problem("the prompt has {n} characters; at most {most} are read", "提示有 {n} 个字符；最多读取 {most} 个", n=len(str(prompt)), most=PROMPT)
    run, model = own_model(kept)
    temperature, so_far, sent = number(temperature, 0, 5, "temperature"), "", 0.0
    mark = made_by(f"{run.about.get('kind', 'gpt')} of a visitor", step=run.exam.best if run.exam else 0, temperature=temperature)
    for so_far in models.guard(text.sample(model, prompt, max_new_tokens=300, temperature=temperature, seed=run.about["seed"])):
        if pen.rests(asked):
            break
        if time.monotonic() - sent > 0.25:
            sent = time.monotonic()
            yield written(prompt, so_far, writing=True) + mark
    yield written(prompt, so_far) + mark + ahead(text.next_tokens(model, prompt, k=SHOWN))


def ahead(found) -> str:
    """The chances of the first token, in words and bars."""
    rows = "".join(
        f'<li><span>{named(each)}</span><i style="--m:{100 * each.model:.1f}%;--d:{100 * each.model:.1f}%"></i><span><b>{percent(each.model)}</b></span></li>'
        for each in found.candidates
    )
    said = note(
        f"What it thought might come right after your beginning; as undecided as between {2**found.entropy:.1f} equal chances:",
        f"紧跟在您的开头之后，它认为可能出现的词元；犹豫程度相当于 {2**found.entropy:.1f} 个均等的机会：",
    )
    return f'{said}<ol class="chances">{rows}</ol>'


# --- the section


def choosing(parts: dict) -> list:
    """Build the choice of a text; what material() takes."""
    offered = [*corpora.available(), OWN]
    parts["learn_source"] = gr.Radio(
        [(t(*CORPORA[name]), name) for name in offered], value=offered[0], label=t("What it learns from", "用什么来学"), elem_id="text-source"
    )
    with gr.Column(visible=False, elem_id="text-own") as parts["learn_own"]:
        parts["learn_paste"] = gr.Textbox(
            label=t("Paste your text here", "在这里粘贴您的文本"),
            info=t("It stays on this server, in memory, and is never shown to others.", "文本只留在本服务器的内存里，不会给别人看。"),
            lines=5,
            max_lines=10,
            elem_id="text-paste",
        )
        with gr.Row():
            parts["learn_upload"] = gr.UploadButton(t("Choose a .txt file (up to 5 MB)", "选择 .txt 文件（最大 5 MB）"), size="sm", elem_id="text-upload")
            parts["learn_forget"] = gr.Button(t("Forget my text", "清除我的文本"), size="sm", min_width=90)
        parts["learn_file"] = gr.HTML(visible=False, elem_id="text-file")
        parts["learn_key"] = gr.State("", time_to_live=SHELF.keep, delete_callback=SHELF.drop)
        with gr.Accordion(t("Cleaning", "清洗"), open=False):
            parts["learn_cleaning"] = gr.CheckboxGroup(
                [(t(*label), name) for name, (label, _) in material.STEPS.items()], value=list(material.STEPS), show_label=False, container=False
            )
    return [parts[f"learn_{name}"] for name in ("source", "paste", "key", "cleaning")]


def controls(parts: dict) -> list:
    """Build the choice of a model; what begin() takes after a text."""
    parts["learn_kind"] = gr.Radio([(t(en, zh), name) for name, (en, zh, *_) in KINDS.items()], value="gpt", label=t("Model", "模型"), elem_id="text-kind")
    parts["learn_size"] = gr.Radio(
        [(t(*label), name) for name, (label, _) in SIZES.items()],
        value="medium",
        label=t("Size", "大小"),
        info=t(
            "A larger one learns more and takes longer; a small text it learns by heart. Of an n-gram: how far it looks back, 3, 5 or 8.",
            "越大学得越多，也越慢；文本太短时会死记硬背。对 n-gram 而言：往回看多远（3、5 或 8）。",
        ),
    )
    parts["learn_steps"] = gr.Slider(25, 3000, STEPS, step=25, label=t("Steps (an n-gram needs none)", "步数（n-gram 不需要）"), elem_id="text-steps")
    parts["learn_seed"] = gr.Number(0, label=t("Seed", "随机种子"), precision=0)
    return [parts[f"learn_{name}"] for name in ("kind", "size", "steps", "seed")]


def writing(desk: training.Panel, parts: dict) -> None:
    """Build what writes on with the visitor's own model."""
    with gr.Column(visible=False, elem_id="text-mine") as parts["learn_mine"]:
        prompt = gr.Textbox(
            label=t("Write on from here, with your model", "用您的模型从这里续写"), lines=2, max_lines=6, max_length=PROMPT, elem_id="text-mine-prompt"
        )
        with gr.Row():
            temperature = gr.Slider(0, 2, 0.8, step=0.05, label=t("Temperature", "温度"), min_width=140)
            go = gr.Button(t("Write with my model", "用我的模型写"), variant="secondary", min_width=110, elem_id="text-mine-go")
            stop = gr.Button(t("Stop writing", "停止写作"), min_width=80, elem_id="text-mine-stop")
        result = gr.HTML(empty("Your model may write while it is still learning.", "边训练边写也可以。"), elem_id="text-mine-result")
    pool = {"concurrency_id": "heavy", "concurrency_limit": 2, "api_visibility": "private"}
    gr.on([go.click], write_on, [*stopped_by(stop), desk.kept, prompt, temperature], result, js=ASKED, **pool)


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    """Build the section. What the lesson operates goes into `parts` as learn_..."""

    def more(shot, own: bool, fresh: bool) -> dict:
        return {parts["learn_verdict"]: verdict(shot), parts["learn_mine"]: gr.Column(visible=own and shot.step > 0)}

    desk = training.Panel(kept, "text", more=more, begins=("Train from nothing", "从零开始训练"))
    gr.HTML(note(*LESSON))
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            chosen = choosing(parts)
            settings = controls(parts)
            desk.buttons()
        with gr.Column(scale=2, min_width=280):
            with gr.Accordion(t("The text: cleaned, counted, divided", "文本：清洗、统计、划分"), open=True):
                parts["learn_report"] = gr.HTML(material.report(chosen[0].value, "", "", list(material.STEPS)), elem_id="text-report")
            desk.status()
            parts["learn_verdict"] = gr.HTML(elem_id="text-verdict")
            desk.look()
            desk.numbers()
            writing(desk, parts)
    names = ("start", "pause", "resume", "stop", "state", "picture", "timeline", "curve")
    parts |= {f"learn_{name}": getattr(desk, name) for name in names}
    connect(page, desk, parts, chosen, settings)


def connect(page: gr.Blocks, desk: training.Panel, parts: dict, chosen: list, settings: list) -> None:
    """Every control of the section to what it does."""
    source, paste, key, cleaning = chosen
    shown = parts["learn_report"]

    @told
    def upload(path, key):
        key, name = material.take(path, key)
        return key, gr.HTML(chip(name), visible=True)

    def forget(key):
        SHELF.drop(key)
        return "", "", gr.HTML("", visible=False), material.report(OWN, "", "", [])

    desk.extra = [parts["learn_verdict"], parts["learn_mine"]]
    desk.starts(desk.start, begin, [*chosen, *settings])
    source.change(lambda source: gr.Column(visible=source == OWN), source, parts["learn_own"], queue=False, **training.PRIVATE)
    looking = {"trigger_mode": "always_last", "concurrency_limit": 4, **training.PRIVATE}
    gr.on([source.change, paste.change, cleaning.change], material.report, chosen, shown, **looking)
    taken = parts["learn_upload"].upload(upload, [parts["learn_upload"], key], [key, parts["learn_file"]], concurrency_limit=4, **training.PRIVATE)
    taken.success(material.report, chosen, shown, **looking)
    parts["learn_forget"].click(forget, key, [paste, key, parts["learn_file"], shown], queue=False, **training.PRIVATE)
    desk.ready(page)


def chip(name: str) -> str:
    """That an uploaded file is in use."""
    return note(f"In use: <b>{escape(name[:60])}</b>, instead of the box above.", f"正在使用：<b>{escape(name[:60])}</b>，代替上面的文本框。")
