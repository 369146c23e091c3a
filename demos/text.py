"""The text tab: a prompt, and a small language model that goes on, one token after the other."""

import time

import gradio as gr

from demos import download, training
from demos.i18n import escape, t, told
from demos.pieces import empty, made_by, note, written
from genkit import corpora, models, text
from genkit.core import Problem, number, pick

TITLE = ("Text", "文本")
SENTENCE = (
    "The model has learnt one thing only: after these characters, which one comes next? Asked again and again, it writes.",
    "模型只学会了一件事：看到这些字之后，下一个字是什么？反复问下去，它就写出文章。",
)
HOW = (("text so far", "已有文本"), ("network", "神经网络"), ("chances of each next token", "下一个词元的概率"), ("draw one, append", "抽一个，接上"))
EVERY = 25  # training steps between two looks at the samples
LESSON = (
    "At first every character is equally likely. Watch letters become words, then lines, as the loss falls.",
    "一开始每个字符的机会都一样。看损失下降时，字母怎样变成单词，再变成诗行。",
)
CORPORA = {
    "shakespeare": ("Shakespeare's plays", "莎士比亚戏剧（英文）"),
    "tang": ("Tang poems (Chinese)", "唐诗"),
    "python": ("The manual of the Python language", "Python 语言手册（英文）"),
}
EXAMPLES = {"gpt-shakespeare": "ROMEO:\n", "gpt-tang": "五律·春夜："}
PROMPT = 10_000  # characters; more is refused, and what exceeds the model's context is cut and said


def checked(prompt, model: str, max_new_tokens, temperature, top_k, top_p, seed) -> tuple[str, dict]:
    """The prompt and the settings of text.sample(), every number moved into its range."""
    pick(tuple(download.choices("text")), model, "text model", "文本模型")
    if not isinstance(prompt, str) or len(prompt) > PROMPT:
        raise Problem("the prompt has {n} characters; at most {most} are read", "提示有 {n} 个字符；最多读取 {most} 个", n=len(str(prompt)), most=PROMPT)
    return prompt, {
        "max_new_tokens": number(max_new_tokens, 1, 1000, "max_new_tokens", whole=True),
        "temperature": number(temperature, 0, 5, "temperature"),
        "top_k": number(top_k, 0, 1000, "top_k", whole=True),
        "top_p": number(top_p, 0.01, 1, "top_p"),
        "seed": number(seed, 0, 2**31 - 1, "seed", whole=True),
    }


def stream(prompt, model, *settings):
    """The text so far, again and again, at most four times a second; the last one is whole."""
    prompt, settings = checked(prompt, model, *settings)
    answer, sent = "", 0.0
    for answer in models.guard(text.sample(models.use("text", model), prompt, **settings)):
        if time.monotonic() - sent > 0.25:
            sent = time.monotonic()
            yield answer
    yield answer


def text_sample(
    prompt: str, model: str = "gpt-shakespeare", max_new_tokens: int = 200, temperature: float = 0.8, top_k: int = 0, top_p: float = 1.0, seed: int = 0
) -> str:
    """Continue `prompt`; streams the continuation so far. temperature 0 always takes the likeliest token; top_k 0 and top_p 1 cut nothing."""
    yield from stream(prompt, model, max_new_tokens, temperature, top_k, top_p, seed)


@told
def write(prompt, model, *settings):
    answer, mark = "", made_by(str(model), seed=settings[-1], temperature=settings[1])
    for answer in stream(prompt, model, *settings):
        yield written(prompt, answer, writing=True) + mark
    yield written(prompt, answer) + remarks(prompt, model) + mark


def remarks(prompt: str, model: str) -> str:
    """What the model could not use of the prompt: characters that it never saw, text beyond its context."""
    network, said = models.use("text", model), ""
    strange, (_, cut) = text.unknown(network, prompt), text.fit(network, prompt)
    if strange:
        said += note(f"Characters this model has never seen: {escape(strange[:40])}", f"这个模型没见过的字符：{escape(strange[:40])}", warn=True)
    if cut:
        said += note(
            f"The first {cut} characters did not fit into the model's memory and were left out.",
            f"开头的 {cut} 个字符超出了模型的记忆长度，未被使用。",
            warn=True,
        )
    return said


def first() -> str:
    """What the tab shows when it opens."""
    *_, last = write(EXAMPLES["gpt-shakespeare"], "gpt-shakespeare", 240, 0.8, 0, 1, 7)
    return last


def build(page: gr.Blocks, kept: gr.BrowserState) -> gr.HTML:
    """Build the tab; the component that shows first()."""
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            prompt = gr.Textbox(EXAMPLES["gpt-shakespeare"], label=t("Your beginning", "您的开头"), lines=3, max_lines=8, max_length=PROMPT)
            model = gr.Dropdown(download.choices("text"), value="gpt-shakespeare", label=t("Model", "模型"), filterable=False)
            download.panel("text", model)
            temperature = gr.Slider(
                0, 2, 0.8, step=0.05, label=t("Temperature", "温度"), info=t("Low: safe and repetitive. High: wild.", "低：稳妥而重复；高：奔放。")
            )
            with gr.Accordion(t("More", "更多"), open=False):
                length = gr.Slider(10, 1000, 240, step=10, label=t("Length, tokens", "长度（词元）"))
                top_k = gr.Slider(0, 200, 0, step=1, label=t("Top-k (0: all)", "Top-k（0 表示全部）"))
                top_p = gr.Slider(0.05, 1, 1, step=0.05, label="Top-p")
                seed = gr.Number(7, label=t("Seed", "随机种子"), precision=0)
            with gr.Row():
                go = gr.Button(t("Write on", "续写"), variant="primary", min_width=110)
                stop = gr.Button(t("Stop", "停止"), min_width=80)
        with gr.Column(scale=2, min_width=280):
            result = gr.HTML(empty("The model is waking up…", "模型正在启动……"), elem_id="text-result")
    with gr.Accordion(t("Train it yourself", "自己训练"), open=False):
        training.panel(
            page, kept, "text", {name: (t(*CORPORA[name]), {"variant": "gpt-mini", "corpus": name}) for name in corpora.available()}, LESSON, steps=400
        )

    inputs = [prompt, model, length, temperature, top_k, top_p, seed]
    pool = {"concurrency_id": "heavy", "concurrency_limit": 2, "api_visibility": "private"}
    writing = go.click(write, inputs, result, **pool)
    stop.click(None, cancels=[writing], queue=False)
    stop.click(None, js="() => document.querySelectorAll('#text-result .cursor').forEach((pen) => pen.classList.remove('cursor'))")
    model.change(
        lambda name, now: EXAMPLES.get(name, now) if now in EXAMPLES.values() else now,
        [model, prompt],
        prompt,
        queue=False,
        api_visibility="private",
        show_progress="hidden",
    )
    gr.api(told(text_sample), api_name="text_sample", concurrency_id="heavy", concurrency_limit=2)
    return result
