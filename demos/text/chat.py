"""A conversation with a language model that was taught to converse: on this machine, or on a server that the host has chosen. It lives in the page alone."""

import re
import time

import gradio as gr

from demos import download
from demos.i18n import both, escape, t, told
from demos.pen import ASKED, Pen, stopped_by
from demos.pieces import made_by, note, refused
from demos.text.write import PROMPT, settings_of
from genkit import models, text
from genkit.core import Problem, number, pick

TITLE = ("Chat with a language model", "与语言模型对话")
LESSON = (
    "A chat model is a language model too: it goes on with a text in which your questions and its answers stand between marks, its template. It was tuned on many such texts; "
    "that is all that makes it answer. It can be wrong and sound sure. Code that it writes is shown, never run on this server.",
    "对话模型也是语言模型：它接着写一段文本，您的提问和它的回答就夹在这段文本的标记（模板）之间。它在大量这样的文本上调教过，这就是它会“回答”的全部原因。"
    "它可能出错，却说得很肯定。它写的代码只供阅读，绝不会在本服务器上运行。",
)
EXAMPLES = ("Write a poem about autumn.", "写一首关于秋天的诗。", "Write Python code: a box plot of the iris data set.")
HAN = re.compile("[\u4e00-\u9fff]")
SYSTEM = 2000  # characters of the system prompt, in the page
NEVER = (
    "This code was written by a model and is only shown: it is never run on this server. Read it before you run it yourself.",
    "这段代码由模型写成，只供阅读：绝不会在本服务器上运行。您自己运行之前请先读懂它。",
)
FOREIGN = (
    "SmolLM2 has read hardly any Chinese. Qwen answers in Chinese; at the top of this tab, gpt-tang writes Chinese verse.",
    "SmolLM2 几乎没有读过中文。Qwen 可以用中文回答；本页上方的 gpt-tang 会写中文古诗。",
)


def speakers() -> list[str]:
    """The models to talk with: those on another server, those here, those that may be fetched."""
    names = [name for name in models.catalogue("text") if name in text.INSTRUCT or name not in text.PRETRAINED]
    return sorted(names, key=lambda name: (not models.elsewhere("text", name), not models.is_here("text", name)))


def replies(history, message, system, model, template, *settings):
    """(what the model was given, the pieces of its answer so far), again and again, at most four times a second; the last one is whole."""
    messages, settings = text.conversation(history, message, system), settings_of(*settings)
    pick(tuple(download.choices("text")), model, "text model", "文本模型")
    network = models.use("text", model)
    read, made, sent = text.given(network, messages, template=bool(template)), [], 0.0
    yield read, made
    for piece, _ in models.guard(text.pieces(network, read.prompt, **settings)):
        made.append(piece)
        if time.monotonic() - sent > 0.25:
            sent = time.monotonic()
            yield read, made
    yield read, made


def text_chat(
    message: str,
    history: list[dict] | None = None,
    system: str = "",
    model: str = "smollm2",
    max_new_tokens: int = 300,
    temperature: float = 0.2,
    top_k: int = 0,
    top_p: float = 0.9,
    seed: int = 0,
    repetition_penalty: float = 1.0,
) -> str:
    """Answer `message`; streams the answer so far. history: what was said before, a list of {"role": "user" or "assistant", "content": text}.

    What does not fit into the model's context is cut, the oldest first. A model without a chat template goes on with the bare texts.
    """
    for _, made in replies(
        [] if history is None else history, message, system, model, True, max_new_tokens, temperature, top_k, top_p, repetition_penalty, seed
    ):
        yield "".join(made)


def answer(pen, asked, history, system, model, template, *settings):
    """The conversation, which ends with the user's message, with the model's answer growing below it; and what is to be said of it."""
    mark, read, made, trouble = made_by(str(model), temperature=settings[1], seed=settings[-1]), None, [], ""
    yield history, mark
    try:
        for reply in replies(history, None, system, model, template, *settings):
            read, made = reply
            if pen.rests(asked):
                return
            yield spoken(history, made), mark
    except Problem as problem:
        trouble = refused(problem)  # what has come stays
    said = "".join(made)
    yield spoken(history, made), trouble + (mark if said else "") + (remarks(read, said, model) if read and not (trouble and not said) else "")


def spoken(history: list, made: list[str]) -> list:
    return [*history, {"role": "assistant", "content": "".join(made)}] if "".join(made) else history


def remarks(read, said: str, model: str) -> str:
    """What the model could not use of the conversation, what it was given of it, and what becomes of code."""
    told = []
    if read.turns or read.characters:
        yours = (
            ("", "")
            if not read.characters
            else (f", and the first {read.characters} characters of your last one", f"，以及您最后一条消息开头的 {read.characters} 个字符")
        )
        en, zh = f"Too long for the model's memory. Left out: the oldest {read.turns} messages", f"超出了模型的记忆长度。未被使用：最早的 {read.turns} 条消息"
        told.append(note(f"{en}{yours[0]}.", f"{zh}{yours[1]}。", warn=True))
    if not said:
        told.append(note("The model ended its answer before the first word: press Again.", "模型一个字也没写就结束了：请点“重答”。", warn=True))
    if "```" in said:
        told.append(note(*NEVER))
    if model.startswith("smollm2") and HAN.search(read.text):
        told.append(note(*FOREIGN, warn=True))
    if not read.templated:
        told.append(note("This model was given the bare texts, without a chat template.", "这个模型读到的是不带对话模板的纯文本。"))
    if read.text:
        given = both("What the model was given", "模型实际读到的文本")
        told.append(f'<details><summary>{given}</summary><pre class="given" tabindex="0">{escape(read.text)}</pre></details>')
    return "".join(told)


@told
def send(pen, asked, message, history, *rest):
    """What a visitor has written, and the answer to it; the box is emptied once."""
    if not isinstance(message, str) or not message.strip():
        raise Problem("the message is empty; write a question or a task", "消息为空；请写一个问题或任务")
    box = ""
    for shown, about in answer(pen, asked, [*history, {"role": "user", "content": message}], *rest):
        yield shown, about, box
        box = gr.skip()


@told
def again(pen, asked, history, *rest):
    """Another answer to the last message, from the next seed."""
    history = list(history)
    while history and history[-1]["role"] != "user":
        history.pop()
    if not history:
        raise Problem("there is nothing to answer again yet; write a message first", "还没有可以重答的内容；请先写一条消息")
    *others, seed = rest
    seed = number(seed, 0, 2**31 - 2, "seed", whole=True) + 1
    for shown, about in answer(pen, asked, history, *others, seed):
        yield shown, about, seed


@told
def edited(change: gr.EditData, pen, asked, history, *rest):
    """The answer to a message of the visitor's that was changed; what came after it is forgotten."""
    index = change.index[0] if isinstance(change.index, list | tuple) else change.index
    yield from answer(pen, asked, [*history[:index], {"role": "user", "content": str(change.value)}], *rest)


def usual(model: str) -> tuple:
    """Temperature, top-k, top-p and repetition penalty that suit a model."""
    remote = models.catalogue("text").get(model)
    settings = {"temperature": 0.7, "top_k": 0, "top_p": 0.95, "repetition_penalty": 1, **(remote.defaults if remote else {})}
    return settings["temperature"], settings["top_k"], settings["top_p"], settings["repetition_penalty"]


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    gr.HTML(note(*LESSON))
    names = speakers()
    temperature, top_k, top_p, repetition_penalty = usual(names[0])
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            model = gr.Dropdown(names, value=names[0], label=t("Chat model", "对话模型"), filterable=False, elem_id="text-chat-model")
            download.panel("text", model, parts["chat"])
            with gr.Accordion(t("More", "更多"), open=False):
                system = gr.Textbox(
                    "", label=t("System prompt", "系统提示"), info=t("Who the model is to be.", "您希望模型扮演谁。"), lines=2, max_lines=6, max_length=SYSTEM
                )
                template = gr.Checkbox(
                    True, label=t("Chat template", "对话模板"), info=t("Without it the model just goes on with the text.", "不用模板时，模型只是接着往下写。")
                )
                length = gr.Slider(10, 1000, 300, step=10, label=t("Length, tokens", "长度（词元）"))
                warmth = gr.Slider(0, 2, temperature, step=0.05, label=t("Temperature", "温度"))
                most = gr.Slider(0, 200, top_k, step=1, label=t("Top-k (0: all)", "Top-k（0 表示全部）"))
                mass = gr.Slider(0.05, 1, top_p, step=0.05, label="Top-p")
                penalty = gr.Slider(1, 2, repetition_penalty, step=0.05, label=t("Repetition penalty", "重复惩罚"))
                seed = gr.Number(7, label=t("Seed", "随机种子"), precision=0)
        with gr.Column(scale=2, min_width=280):
            chat = gr.Chatbot(
                label=t("Conversation", "对话"),
                placeholder=t("Ask something, or press one of the examples below.", "请提问，或点下面的例子。"),
                height=420,
                editable="user",
                buttons=["copy"],
                allow_tags=False,
                latex_delimiters=[],
                elem_id="text-chat-log",
            )
            about = gr.HTML(elem_id="text-chat-about")
            message = gr.Textbox(
                label=t("Your message", "您的消息"),
                lines=1,
                max_lines=8,
                max_length=PROMPT,
                placeholder=t("Enter sends it", "按回车发送"),
                elem_id="text-chat-message",
            )
            with gr.Row():
                go = gr.Button(t("Send", "发送"), variant="primary", min_width=80)
                stop = gr.Button(t("Stop", "停止"), min_width=70)
                redo = gr.Button(t("Again", "重答"), min_width=70)
            with gr.Row(elem_classes="examples"):
                examples = [gr.Button(example, size="sm", min_width=120) for example in EXAMPLES]

    settings = [system, model, template, length, warmth, most, mass, penalty, seed]
    pool = {"concurrency_id": "chat", "concurrency_limit": 8, "api_visibility": "private", "show_progress": "hidden"}
    pen, now = stopped_by(stop)
    gr.on([go.click, message.submit], send, [pen, now, message, chat, *settings], [chat, about, message], js=ASKED, **pool)
    for button, example in zip(examples, EXAMPLES, strict=True):
        put = f"(pen, now, message, ...asked) => [pen, Date.now(), {example!r}, ...asked]"
        button.click(send, [pen, now, message, chat, *settings], [chat, about, message], js=put, **pool)
    redo.click(again, [pen, now, chat, *settings], [chat, about, seed], js=ASKED, **pool)
    chat.edit(edited, [pen, now, chat, *settings], [chat, about], js=ASKED, **pool)
    chat.clear(forget, [pen, now], [chat, about], js="(pen) => [pen, Date.now()]", queue=False, api_visibility="private", show_progress="hidden")
    model.change(usual, model, [warmth, most, mass, penalty], queue=False, api_visibility="private", show_progress="hidden")
    gr.api(told(text_chat), api_name="text_chat", concurrency_id="chat", concurrency_limit=8)


def forget(pen: Pen, now):
    """An empty conversation; an answer that is being written ends."""
    pen.stop(now)
    return [], ""
