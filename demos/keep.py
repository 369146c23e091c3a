"""The "Keep it" panel, the same in every tab: take a model along as a zip, load one, push one to the Hub, and the code that makes the same again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

import genkit
from demos.endpoints import stored
from demos.i18n import escape, say, t, told
from demos.pieces import empty, note
from genkit import keep, runs
from genkit.core import Problem

UNTRAINED = ("you have trained no model yet; start one under 'Train it yourself'", "您还没有训练过模型；请在“自己训练”里开始一次")


DATA = "MNIST (LeCun et al. 1998; CC BY-SA 3.0, as commonly stated by its distributors), {count:,} training digits"
CHANGED = "\n# changed on the way, here from the start: {changes}\n"
STOP = "\n    if event.step >= {step}:  # as far as it has come by now\n        break"


@dataclass(frozen=True)
class Made:
    """A model that can be kept: the name of its files, and the card that says how it came to be."""

    name: str
    model: Any
    card: keep.Card


@dataclass(frozen=True)
class Keeping:
    """What a family tells the panel. `values` are those of the tab's own controls, in the order that panel() was given them.

    Without `shipped` and `sampling` the panel is about the visitor's own model alone.
    """

    family: str
    form: Callable[[], keep.Form]  # what a model that somebody brings may look like
    shipped: Callable[..., Made] | None  # (*values): the model that is chosen in the tab
    trained: Callable[[runs.Snapshot, Any], Made]  # (run, model)
    show: Callable[..., str]  # (model, *values): HTML of what a model that was brought makes
    sampling: Callable[..., str] | None  # (*values): Python that makes what the tab shows
    training: Callable[..., str]  # (run, *values): Python that trains the same again
    brings: tuple[str, str] | None = (
        "config.json and model.safetensors",
        "config.json 和 model.safetensors",
    )  # what a loose model consists of; None: it comes as a zip only
    name: str = ""  # the title of the runs, where a family has several panels
    save: Callable | None = None  # (model, folder), where it is not the family's own

    @property
    def title(self) -> str:
        return self.name or self.family

    @property
    def place(self) -> str:
        """What the ids of its components begin with."""
        return self.title if self.shipped else f"{self.title}-own"


def call(name: str, *arguments: Any, **options: Any) -> str:
    """A call as a line of Python: call("gan.train", "dcgan", steps=5) -> 'gan.train("dcgan", steps=5)'."""
    return f"{name}({', '.join([*map(literal, arguments), *(f'{key}={literal(value)}' for key, value in options.items())])})"


def literal(value: Any) -> str:
    """A value as Python writes it: strings in double quotes; a dataclass of a family as the call that makes it."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if dataclasses.is_dataclass(value):
        changed = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if getattr(value, field.name) != field.default}
        return call(f"{type(value).__module__.rpartition('.')[2]}.{type(value).__name__}", **changed)
    return repr(value)


def recipe(family: str, run: runs.Snapshot, **unrepeated: Any) -> dict:
    """The arguments of train() that make the run again: rules that were changed on the way stand in it as they are now, but for those `unrepeated`."""
    module = genkit.family(family)
    known = {"variant", "every", "seed", "examples", *(field.name for field in dataclasses.fields(module.Config))}
    about = {name: value for name, value in run.about.items() if name in known}
    usual = module.VARIANTS[about["variant"]].rules
    rules = dataclasses.replace(run.settings or about.get("rules", usual), **unrepeated)
    return {name: value for name, value in about.items() if name != "rules"} | ({"rules": rules} if rules != usual else {})


def rows(run: runs.Snapshot, arguments: dict) -> dict[str, str]:
    """A recipe() as the table of a card. While the run goes on, its last tensors may be a step younger than its first."""
    told = {name: value if isinstance(value, str) else literal(value) for name, value in arguments.items() if name != "every"}
    return {**told, "steps": f"{run.step} of {run.steps}"}


def program(family: str, template: str, run: runs.Snapshot, arguments: dict, changed: dict[str, int], **values: Any) -> str:
    """Python that trains the run again, as far as it has come by now. changed: the rules that were changed on the way, and at which step."""
    changes = ", ".join(f"{name} at step {step}" for name, step in changed.items())
    return template.format(
        changed=CHANGED.format(changes=changes) if changes else "",
        train=call(f"{family}.train", arguments["variant"], **{name: value for name, value in arguments.items() if name != "variant"}),
        stop=STOP.format(step=run.step) if run.step < run.steps else "",
        **values,
    )


def own_run(title: str, kept: dict | None) -> runs.Snapshot:
    """The newest run of this title that this visitor has started. Raises Problem if there is none, or none any more."""
    run, owner = (kept or {}).get(title), (kept or {}).get("owner")
    if not run or not runs.owns(run, owner):  # the number of a run is in the address that anybody may follow it by
        raise Problem(*UNTRAINED)
    return runs.snapshot(run)


def panel(keeping: Keeping, kept: gr.BrowserState, fold: gr.Accordion, controls: list) -> None:
    """Build the panel inside `fold`."""
    shelf = keep.Shelf()

    def chosen(source, kept, values) -> Made:
        if source != "own" and keeping.shipped:
            return keeping.shipped(*values)
        return keeping.trained(own_run(keeping.title, kept), runs.model(kept[keeping.title]))

    def folder(made: Made):
        return keep.packed(lambda path: (keeping.save or genkit.family(keeping.family).save)(made.model, path), made.card)

    @told
    def pack(source, kept, *values):
        made = chosen(source, kept, values)
        with folder(made) as path:
            return gr.File(stored(keep.zipped(path), f"{made.name}.zip"), visible=True)

    def push(source, kept, name, token, private, *values):
        try:
            made = chosen(source, kept, values)
            with folder(made) as path:
                address = escape(keep.push(path, str(name).strip(), str(token).strip(), private=bool(private)))
        except Problem as problem:  # told here, not by told(): whatever came of it, the token goes from the page
            return note(escape(problem.en), escape(problem.zh), warn=True), ""
        link = f'<a href="{address}" target="_blank" rel="noopener">{address}</a>'
        return note(f"Your model is on the Hub: {link}", f"您的模型已在 Hub 上：{link}"), ""

    @told
    def bring(files, key, *values):
        model = keep.read(files if isinstance(files, list) else [files] if files else [], keeping.form())
        shelf.drop(key)
        key = shelf.put(model)
        return key, gr.skip(), keeping.show(model, *values), gr.Row(visible=True)

    @told
    def again(key, *values):
        return key, keeping.show(shelf.get(key), *values)  # the key too: the State begins to count its time anew

    def put_away(key):
        shelf.drop(key)
        return "", None, WAITING, gr.Row(visible=False)

    def code(source, kept, *values):
        try:
            own = source == "own" or keeping.sampling is None
            return keeping.training(own_run(keeping.title, kept), *values) if own else keeping.sampling(*values)
        except Problem as problem:
            return "# " + say(problem.en, problem.zh)

    gr.HTML(
        note(
            "A model is a few small files: its settings and its weights. Take them home, bring them back, or show them to the world.",
            "一个模型就是几个小文件：设置和权重。带回家、带回来，或展示给全世界。",
        )
    )
    source = gr.Radio(
        [(t("The model chosen at the top of this tab", "本页顶部选择的模型"), "shipped"), (t("The model you are training", "您正在训练的模型"), "own")],
        value="shipped" if keeping.shipped else "own",
        label=t("Which model", "哪个模型"),
        visible=keeping.shipped is not None,
    )
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            go = gr.Button(t("Pack it as a zip", "打包成 zip"), variant="primary", elem_id=f"{keeping.place}-pack")
            zipped = gr.File(label=t("Your model, to download", "您的模型，可下载"), interactive=False, visible=False, elem_id=f"{keeping.place}-zip")
            with gr.Accordion(t("Push it to the Hugging Face Hub", "推送到 Hugging Face Hub"), open=False):
                name = gr.Textbox(
                    label=t("Name of the repository", "仓库名称"),
                    placeholder="my-first-model",
                    max_length=96,
                    html_attributes=gr.InputHTMLAttributes(autocomplete="off", autocapitalize="off", spellcheck=False),
                )
                token = gr.Textbox(
                    label=t("Your token, with write access", "您的令牌（需写权限）"),
                    info=t(
                        "Used once for this push and forgotten. Make one at huggingface.co/settings/tokens.",
                        "只用于这一次推送，用后即忘。可在 huggingface.co/settings/tokens 创建。",
                    ),
                    type="password",
                    max_length=256,
                    html_attributes=gr.InputHTMLAttributes(autocomplete="off"),
                )
                private = gr.Checkbox(True, label=t("Private: only you can see it", "私有：只有您能看到"))
                send = gr.Button(t("Push", "推送"))
                answer = gr.HTML()
        with gr.Column(scale=1, min_width=260):
            files = gr.File(
                label=t(f"Load a model: its zip, or {keeping.brings[0]}", f"载入模型：zip，或 {keeping.brings[1]}")
                if keeping.brings
                else t("Load a model: its zip", "载入模型：它的 zip"),
                file_count="multiple",
                height=140,
                elem_id=f"{keeping.place}-bring",
            )
            key = gr.State("", time_to_live=shelf.keep, delete_callback=shelf.drop)
            brought = gr.HTML(WAITING, elem_id=f"{keeping.place}-brought")
            with gr.Row(visible=False) as after:
                more = gr.Button(t("Make again with it", "用它再生成"), min_width=110)
                away = gr.Button(t("Put it away", "收起它"), min_width=90)
    lines = gr.Code(
        keeping.sampling(*(control.value for control in controls)) if keeping.sampling else "",
        language="python",
        label=t("The code for this", "对应的代码"),
        interactive=False,
        lines=6,
        wrap_lines=True,
        elem_id=f"{keeping.place}-code",
    )

    private_event = {"api_visibility": "private"}
    shown = [key, files, brought, after]
    go.click(pack, [source, kept, *controls], zipped, concurrency_limit=4, **private_event)
    files.upload(bring, [files, key, *controls], shown, concurrency_limit=2, **private_event)
    more.click(again, [key, *controls], [key, brought], concurrency_limit=8, **private_event)
    gr.on([away.click, files.clear], put_away, key, shown, queue=False, **private_event)
    send.click(push, [source, kept, name, token, private, *controls], [answer, token], concurrency_limit=4, **private_event)
    gr.on(
        [fold.expand, source.change, kept.change, *(control.change for control in controls)],
        code,
        [source, kept, *controls],
        lines,
        show_progress="hidden",
        concurrency_limit=16,
        **private_event,
    )


WAITING = empty("A model that you load shows here what it can do. Nobody else can use it.", "您载入的模型会在这里展示本领，其他人无法使用。")
