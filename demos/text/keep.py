"""Take a language model along, bring one, push one, and the code for what the tab shows."""

import dataclasses
import math

import gradio as gr

from demos import keep as panel
from demos.keep import call, literal
from demos.pieces import made_by, note, written
from demos.text.material import CORPORA, OWN
from demos.text.write import PROMPT, checked, settings_of
from genkit import keep, models, runs, text
from genkit.core import Problem

TITLE = ("Keep it: download, load, share, code", "带走它：下载、载入、分享、代码")
CONTROLS = ("prompt", "model", "length", "temperature", "top_k", "top_p", "repetition_penalty", "seed")
MOST = 300  # tokens that a model which a visitor has brought writes at a time
NGRAM = (
    "An n-gram is nothing but the text that it has counted: whoever gets its files can read your text. The others hold none of it, though one that over-fits may know passages by heart.",
    "n-gram 就是它数过的文本本身：拿到文件的人能读到您的文本。其他模型里没有原文，但过拟合的模型可能背下一些段落。",
)
WHAT = {
    "gpt": "A small transformer (Llama architecture) that writes character by character, {how}.",
    "lstm": "An LSTM that writes character by character, {how}.",
    "hmm": "A hidden Markov model that writes character by character, {how}.",
    "ngram": "An n-gram model of characters with interpolated Kneser-Ney smoothing, {how}. Its weights are the text that it has counted.",
}
LOAD = 'from genkit import text\n\nmodel = text.load("the folder of this file")\n*_, written = text.sample(model, "", max_new_tokens=100, seed=7)\n'
SAMPLE = """from genkit import {imports}

model = {load}
*_, written = {sample}
print(written)
"""
TRAIN = """{imports}
{material}
for event in {learn}:
    print(event.step, event.metrics){stop}
text.save(event.model, "my-model")  # the best one so far
*_, written = {sample}
print(written)
"""
MINE = """read = text.read(Path("my-text.txt").read_bytes())  # your own text
parts = text.split(text.clean(read.text, {cleaning}).text)"""


def sample(model: str, values) -> str:
    """The call that writes what the controls ask for, clamped as the tab clamps it."""
    prompt, _, *settings = values
    prompt = str(prompt)[:PROMPT].encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # as the model is given it
    usual = {"top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0}
    asked = {name: value for name, value in settings_of(*settings).items() if value != usual.get(name, math.nan)}
    return f"text.sample({model}, {literal(prompt)}, {', '.join(f'{name}={literal(value)}' for name, value in asked.items())})"


def shipped(_prompt, name, *_) -> panel.Made:
    """A variant as it is in the repository. Raises Problem for a pretrained model, which others keep."""
    if name not in text.VARIANTS:
        raise Problem(
            "{name} is not ours to pack: it is on the Hugging Face Hub already; choose a shipped model, or train one",
            "{name} 不是本画廊的模型：它已在 Hugging Face Hub 上；请选择随附的模型，或自己训练一个",
            name=str(name)[:60],
        )
    config = text.VARIANTS[name]
    rows = {"variant": name, **{key: value for key, value in dataclasses.asdict(config).items() if key != "corpus" and value}, "seed": 0}
    summary = WHAT[config.arch].format(how="as shipped with the gallery")
    return panel.Made(name, models.use("text", name), keep.Card(name, summary, rows, CORPORA[config.corpus][0], LOAD, ("text-generation", config.arch)))


def recipe(run: runs.Snapshot) -> dict:
    """The arguments of learn() beside the variant and the text."""
    known = {"steps", "every", "seed", *(field.name for field in dataclasses.fields(text.Config))} - {"corpus"}
    return {name: value for name, value in run.about.items() if name in known}


def trained(run: runs.Snapshot, model) -> panel.Made:
    """A run's model: the one of its best moment so far."""
    about, arch = run.about, recipe(run).get("arch", text.VARIANTS[run.about["variant"]].arch)
    source = f"a visitor's own text of {about['characters']:,} characters" if about.get("corpus") == OWN else CORPORA[about["corpus"]][0]
    rows = {"variant": about["variant"], **recipe(run), "steps": f"{run.step} of {run.steps}"}
    if run.exam:
        rows |= {"best step": run.exam.best, "validation loss, nats per token": f"{run.exam.loss_val:.4f}"}
        rows |= {"test loss, nats per token": f"{run.exam.test:.4f}"} if run.exam.test is not None else {}
    summary = WHAT[arch].format(how="trained in front of everybody by a visitor of the gallery")
    return panel.Made(f"my-{arch}-{run.step}", model, keep.Card("My language model", summary, rows, source, LOAD, ("text-generation", arch)))


def show(model, prompt, _name, length, *settings) -> str:
    """What a model that a visitor has brought writes."""
    prompt, asked = checked(prompt, "gpt-mini"), settings_of(length, *settings)
    asked["max_new_tokens"] = min(asked["max_new_tokens"], MOST)
    with models.guarded():
        *_, made = text.sample(model, prompt, **asked)
    return written(prompt, made) + made_by("text (zip)", seed=asked["seed"], temperature=asked["temperature"])


def sampling(*values) -> str:
    """Python that writes what the tab shows."""
    name = str(values[1])
    own = name in text.VARIANTS
    load = call("text.load", name) if own else call("models.use", "text", name)
    return SAMPLE.format(imports="text" if own else "models, text", load=load, sample=sample("model", values))


def training(run: runs.Snapshot, *values) -> str:
    """Python that trains the same again, as far as it has come by now, and has it write what the tab asks for."""
    about = run.about
    if "characters" not in about:  # a run of the /train endpoint
        raise Problem(*panel.UNTRAINED)
    mine = about["corpus"] == OWN
    return TRAIN.format(
        imports="from pathlib import Path\n\nfrom genkit import text\n" if mine else "from genkit import corpora, text\n",
        material=MINE.format(cleaning="[" + ", ".join(map(literal, about["cleaning"])) + "]")
        if mine
        else f"parts = text.split({call('corpora.corpus', about['corpus'])})",
        learn=call("text.learn", about["variant"], Name("parts"), **recipe(run)),
        stop=panel.STOP.format(step=run.step) if run.step < run.steps else "",
        sample=sample("event.model", values),
    )


class Name:
    """A variable in a line of code."""

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return self.name


def form() -> keep.Form:
    """What a language model that somebody brings may look like."""
    from genkit.text import foreign  # brings torch, which the page must not wait for

    return foreign.form()


BRINGS = ("its three files", "它的三个文件")  # a longer label would lie under the buttons on a phone
KEEPING = panel.Keeping("text", form, shipped, trained, show, sampling, training, BRINGS)


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    gr.HTML(note(*NGRAM))
    panel.panel(KEEPING, kept, parts["keep"], [parts[name] for name in CONTROLS])
