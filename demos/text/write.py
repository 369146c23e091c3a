"""Writing on from a beginning: streamed, stopped, and coloured by how much each token surprised the model that wrote it."""

import time

import gradio as gr

from demos import download
from demos.i18n import escape, t, told
from demos.pen import ASKED, Pen, stopped_by
from demos.pieces import empty, made_by, note, refused, written
from genkit import models, text
from genkit.core import Problem, number, pick

EXAMPLES = {"gpt-shakespeare": "ROMEO:\n", "gpt-tang": "五律·春夜："}
PROMPT = 10_000  # characters; more is refused, and what exceeds the model's context is cut and said
POOL = {"concurrency_id": "text", "concurrency_limit": 16}  # who reads from one model shares its turns: genkit.text.readers.SLOTS
VISIBLE = {" ": "␣", "\n": "⏎", "\t": "⇥"}
SHOWING = (
    "The darker a token, the more it surprised the model that wrote it. Point at it for the number; click it to go back there and choose another one.",
    "颜色越深，模型写到这里越感意外。指着一个词元可看数值；点它，就回到那里另选一个。",
)

UNKNOWN = ("A model on another server sends its words only, not how likely they were.", "另一台服务器上的模型只送来文字，不提供各个词元的概率。")


def settings_of(max_new_tokens, temperature, top_k, top_p, repetition_penalty, seed) -> dict:
    """The settings of text.sample(), every number moved into its range."""
    return {
        "max_new_tokens": number(max_new_tokens, 1, 1000, "max_new_tokens", whole=True),
        **daring(temperature, top_k, top_p, repetition_penalty),
        "seed": number(seed, 0, 2**31 - 1, "seed", whole=True),
    }


def daring(temperature, top_k, top_p, repetition_penalty) -> dict:
    """The settings that change the chances of the next token, every number moved into its range."""
    return {
        "temperature": number(temperature, 0, 5, "temperature"),
        "top_k": number(top_k, 0, 1000, "top_k", whole=True),
        "top_p": number(top_p, 0.01, 1, "top_p"),
        "repetition_penalty": number(repetition_penalty, 1, 3, "repetition_penalty"),
    }


def checked(prompt, model: str) -> str:
    """The prompt. Raises Problem for one that is no text or too long, and for a model that is not in the catalogue."""
    pick(tuple(download.choices("text")), model, "text model", "文本模型")
    if not isinstance(prompt, str) or len(prompt) > PROMPT:
        raise Problem("the prompt has {n} characters; at most {most} are read", "提示有 {n} 个字符；最多读取 {most} 个", n=len(str(prompt)), most=PROMPT)
    return prompt


def stream(prompt, model, *settings):
    """The pieces so far, each (text, bits of surprise; None from a model elsewhere), again and again, at most four times a second; the last list is whole."""
    prompt, settings = checked(prompt, model), settings_of(*settings)
    made, sent = [], 0.0
    for piece in models.guard(text.pieces(models.use("text", model), prompt, **settings)):
        made.append(piece)
        if time.monotonic() - sent > 0.25:
            sent = time.monotonic()
            yield made
    yield made


def joined(made: list[tuple[str, float]]) -> str:
    return "".join(piece for piece, _ in made)


def text_sample(
    prompt: str,
    model: str = "gpt-shakespeare",
    max_new_tokens: int = 200,
    temperature: float = 0.8,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    repetition_penalty: float = 1.0,
) -> str:
    """Continue `prompt`; streams the continuation so far. temperature 0 always takes the likeliest token; top_k 0, top_p 1 and repetition_penalty 1 cut nothing."""
    for made in stream(prompt, model, max_new_tokens, temperature, top_k, top_p, repetition_penalty, seed):
        yield joined(made)


@told
def write(pen, asked, prompt, model, *settings):
    """What a visitor asked for at `asked`, by their clock, until it is whole or they stop it."""
    made, mark, trouble = [], made_by(str(model), seed=settings[-1], temperature=settings[1]), ""
    try:
        for made in stream(prompt, model, *settings):
            if pen.rests(asked):
                break
            yield written(prompt, joined(made), writing=True) + mark
    except Problem as problem:
        if not joined(made):
            raise
        trouble = refused(problem)  # what has come stays
    yield surprising(prompt, made) + trouble + remarks(prompt, model) + mark


def surprising(prompt: str, made: list[tuple[str, float]]) -> str:
    """The prompt in grey, and what was written, each piece coloured by its surprise."""

    def token(piece: str, bits: float | None) -> str:
        if bits is None:
            return escape(piece)
        name = "" if piece.strip() else f' aria-label="{escape(visible(piece))}"'
        return f'<span tabindex="0" role="button"{name} style="--s:{min(100, 12 * bits):.0f}" data-chance="{percent(2**-bits)}" data-bits="{bits:.3f}">{escape(piece)}</span>'

    body = "".join(token(piece, bits) for piece, bits in made)
    said = UNKNOWN if any(bits is None for _, bits in made) else SHOWING
    return f'<div class="written tokens" role="log"><span class="yours">{escape(prompt)}</span>{body}</div>{note(*said)}'


def visible(piece: str) -> str:
    """A piece of text with signs for what cannot be seen."""
    return "".join(VISIBLE.get(letter, letter) for letter in piece)


def percent(chance: float) -> str:
    """0.123 -> 12 %; small chances keep one digit that counts."""
    return f"{100 * chance:.0f} %" if chance >= 0.095 else f"{100 * chance:.1g} %" if chance >= 0.00095 else "< 0.1 %"


def remarks(prompt: str, model: str) -> str:
    """What the model could not use of the prompt: characters that it never saw, text beyond its context."""
    if models.elsewhere("text", model):
        return ""
    network = models.use("text", model)
    strange, (_, cut) = text.unknown(network, prompt), text.fit(network, prompt)
    said = note(f"Characters this model has never seen: {escape(strange[:40])}", f"这个模型没见过的字符：{escape(strange[:40])}", warn=True) if strange else ""
    return said + lost(cut)


def lost(cut: int) -> str:
    """That the beginning of a prompt did not fit, if so."""
    if not cut:
        return ""
    return note(
        f"The first {cut} characters did not fit into the model's memory and were left out.",
        f"开头的 {cut} 个字符超出了模型的记忆长度，未被使用。",
        warn=True,
    )


def first() -> str:
    """What the tab shows when it opens."""
    *_, last = write(Pen(), 1, EXAMPLES["gpt-shakespeare"], "gpt-shakespeare", 240, 0.8, 0, 1, 1, 7)
    return last


def build(parts: dict) -> None:
    """Build the controls and the result; what other sections need of them goes into `parts`."""
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            prompt = gr.Textbox(
                EXAMPLES["gpt-shakespeare"], label=t("Your beginning", "您的开头"), lines=3, max_lines=8, max_length=PROMPT, elem_id="text-prompt"
            )
            model = gr.Dropdown(download.choices("text"), value="gpt-shakespeare", label=t("Model", "模型"), filterable=False)
            download.panel("text", model)
            temperature = gr.Slider(
                0, 2, 0.8, step=0.05, label=t("Temperature", "温度"), info=t("Low: safe and repetitive. High: wild.", "低：稳妥而重复；高：奔放。")
            )
            with gr.Accordion(t("More", "更多"), open=False):
                length = gr.Slider(10, 1000, 240, step=10, label=t("Length, tokens", "长度（词元）"))
                top_k = gr.Slider(0, 200, 0, step=1, label=t("Top-k (0: all)", "Top-k（0 表示全部）"), info=t("Only the k likeliest.", "只留最可能的 k 个。"))
                top_p = gr.Slider(
                    0.05, 1, 1, step=0.05, label="Top-p", info=t("Only the likeliest that together reach p.", "只留最可能的、合计达到 p 的那些。")
                )
                penalty = gr.Slider(
                    1,
                    2,
                    1,
                    step=0.05,
                    label=t("Repetition penalty", "重复惩罚"),
                    info=t("What stands there already becomes less likely.", "已经写过的变得不太可能。"),
                )
                seed = gr.Number(7, label=t("Seed", "随机种子"), precision=0)
            with gr.Row():
                go = gr.Button(t("Write on", "续写"), variant="primary", min_width=110)
                stop = gr.Button(t("Stop", "停止"), min_width=80)
        with gr.Column(scale=2, min_width=280):
            result = gr.HTML(empty("The model is waking up…", "模型正在启动……"), elem_id="text-result")

    inputs = [*stopped_by(stop), prompt, model, length, temperature, top_k, top_p, penalty, seed]
    pool = {**POOL, "api_visibility": "private"}
    go.click(write, inputs, result, js=ASKED, **pool)
    model.change(
        lambda name, now: EXAMPLES.get(name, now) if now in EXAMPLES.values() else now,
        [model, prompt],
        prompt,
        queue=False,
        api_visibility="private",
        show_progress="hidden",
    )
    gr.api(told(text_sample), api_name="text_sample", **POOL)
    parts |= {"prompt": prompt, "model": model, "result": result, "temperature": temperature, "top_k": top_k, "top_p": top_p, "repetition_penalty": penalty}
    parts |= {"length": length, "seed": seed, "go": go}
