"""A conversation as a language model reads it: the messages, put into the model's own chat template, as token ids that fit into its context.

What is generated after them is the answer: pieces(model, given(model, messages).prompt).
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from jinja2 import TemplateError

from genkit.core import Problem
from genkit.text.remote import Endpoint
from genkit.text.sampling import _plain, clean, room

ROLES = ("system", "user", "assistant")
MESSAGES, CHARACTERS, MESSAGE = 200, 50_000, 10_000  # that a conversation may have, and characters that a message may have


@dataclass(frozen=True)
class Given:
    """What a model is given of a conversation."""

    prompt: list  # token ids; for a model elsewhere the messages: the template is its server's affair
    text: str  # the same as text, with every mark of the template; "" for a model elsewhere
    turns: int = 0  # messages left out at the beginning, because they did not fit into the context
    characters: int = 0  # left out at the beginning of the last message, which alone did not fit
    templated: bool = True


def conversation(history, message: str | None = None, system: str = "") -> list[dict]:
    """The messages [{"role", "content"}] of a system prompt, what was said before, and a new message. They end with the user's.

    history: messages whose content is text, or a list of {"type": "text", "text"}. Raises Problem for anything else, and for what is too long.
    """
    if not isinstance(history, list | tuple):
        raise Problem(
            'the history must be a list of {{"role", "content"}}, got {kind}',
            '对话历史必须是由 {{"role", "content"}} 组成的列表，收到的是 {kind}',
            kind=type(history).__name__,
        )
    said = [*history, *([{"role": "user", "content": message}] if message is not None else [])]
    if len(said) > MESSAGES:
        raise Problem(
            "the conversation has {n} messages; at most {most} are read: clear it", "对话有 {n} 条消息；最多读取 {most} 条：请清空", n=len(said), most=MESSAGES
        )
    messages = [_message(each) for each in [*([{"role": "system", "content": system}] if _text(system or "").strip() else []), *said]]
    if any(each["role"] == "system" for each in messages[1:]):
        raise Problem("only the first message may be the system's", "只有第一条消息可以是系统消息")
    if not messages or messages[-1]["role"] != "user" or not messages[-1]["content"].strip():
        raise Problem("the message is empty; write a question or a task", "消息为空；请写一个问题或任务")
    n = sum(len(each["content"]) for each in messages)
    if n > CHARACTERS:
        en, zh = "the conversation has {n} characters; at most {most} are read: clear it", "对话有 {n} 个字符；最多读取 {most} 个：请清空"
        raise Problem(en, zh, n=n, most=CHARACTERS)
    return _joined(messages)


def _joined(messages: list[dict]) -> list[dict]:
    """The messages without empty ones, and what one says twice in a row as one: many templates insist on turns."""
    told: list[dict] = []
    for each in messages:
        if told and told[-1]["role"] == each["role"]:
            told[-1] = {**each, "content": f"{told[-1]['content']}\n\n{each['content']}"}
        elif each["content"].strip():
            told.append(each)
    return told


def _message(given) -> dict:
    """One message with its content as plain text."""
    if not isinstance(given, dict) or given.get("role") not in ROLES:
        role = str(given.get("role") if isinstance(given, dict) else given)[:60]
        raise Problem(
            "'{role}' is not the role of a message; choose one of: {roles}", "“{role}”不是消息的角色；可选：{roles}", role=role, roles=", ".join(ROLES)
        )
    content = _text(given.get("content"))
    if given["role"] != "assistant" and len(content) > MESSAGE:
        en, zh = "a message has {n} characters; at most {most} are read", "有一条消息有 {n} 个字符；最多读取 {most} 个"
        raise Problem(en, zh, n=len(content), most=MESSAGE)
    return {"role": given["role"], "content": clean(content)}


def _text(content) -> str:
    """The content of a message, which Gradio and OpenAI write as text or as a list of parts."""
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else part for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise Problem("a message must be text, got {kind}", "消息必须是文本，收到的是 {kind}", kind=type(content).__name__)
    return "".join(texts)


def given(model, messages: list[dict], *, template: bool = True) -> Given:
    """What `model` is given of a conversation(): as much of its end as fits, beginning with a message of the user's.

    Without its template, or if it has none, a model is given the bare texts, one below the other, and goes on. Raises Problem if the system prompt leaves no room.
    """
    if isinstance(model, Endpoint):
        return Given(messages, "")
    templated = bool(template and model.tokenizer.chat_template)
    system, turns = ([messages[0]], messages[1:]) if messages[0]["role"] == "system" else ([], messages)

    def read(said: list[dict]) -> tuple[str, list[int]]:
        return (_templated if templated else _bare)(model, [*system, *said])

    starts = [index for index, each in enumerate(turns) if each["role"] == "user"]  # the last one is that of the last message
    first = starts[min(bisect_left(starts, True, key=lambda start: len(read(turns[start:])[1]) <= room(model)), len(starts) - 1)]
    text, ids = read(turns[first:])
    if len(ids) <= room(model):
        return Given(ids, text, first, 0, templated)
    last = turns[-1]
    keep = room(model) - len(read([{**last, "content": ""}])[1])
    if keep <= 0:
        en, zh = "the system prompt fills the memory of this model; write a shorter one", "系统提示占满了这个模型的记忆；请写短一些"
        raise Problem(en, zh)
    offsets = model.tokenizer(last["content"], add_special_tokens=False, return_offsets_mapping=True, verbose=False).offset_mapping
    cut = offsets[-keep][0]
    text, ids = read([{**last, "content": last["content"][cut:]}])
    return Given(ids, text, first, cut, templated)


def _templated(model, messages: list[dict]) -> tuple[str, list[int]]:
    """The conversation in the model's own template, up to where its answer begins."""
    options = {"add_generation_prompt": True, "tokenize": False, "enable_thinking": False}  # Qwen3 would think aloud first; others ignore it
    try:
        text = model.tokenizer.apply_chat_template(messages, **options)
    except TemplateError as error:
        if messages[0]["role"] != "system":
            en, zh = "the chat template of this model refuses the conversation ({error}); clear it", "这个模型的对话模板不接受这段对话（{error}）；请清空"
            raise Problem(en, zh, error=str(error)[:200]) from None
        system, first, *others = messages  # some templates refuse the system's role
        return _templated(model, [{**first, "content": f"{system['content']}\n\n{first['content']}"}, *others])
    return text, model.tokenizer(text, add_special_tokens=False, verbose=False).input_ids


def _bare(model, messages: list[dict]) -> tuple[str, list[int]]:
    """The texts alone. A model with a template may call the mark of a turn its beginning-of-text token, so it gets what its tokenizer itself adds."""
    text = "\n\n".join(each["content"] for each in messages)
    return text, model.tokenizer(text, verbose=False).input_ids if model.tokenizer.chat_template else _plain(model, text)
