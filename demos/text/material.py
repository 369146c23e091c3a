"""What a model is to learn: a corpus that is on this machine or the visitor's own text, what cleaning made of it, and its three parts.

A visitor's own text stays in the memory of this process: a pasted one for as long as it takes, an uploaded one under a key that only its visitor
holds, for half an hour after its last use. The uploaded file is deleted when it has been read.
"""

from __future__ import annotations

import functools
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from demos.i18n import both, escape
from demos.pieces import note, refused
from demos.text.write import visible
from genkit import corpora
from genkit.core import Problem, pick
from genkit.keep import Shelf
from genkit.text import own

OWN = "own"
CORPORA = {
    "shakespeare": ("Shakespeare's plays", "莎士比亚戏剧（英文）"),
    "tang": ("Tang poems (Chinese)", "唐诗"),
    "python": ("The manual of the Python language", "Python 语言手册（英文）"),
    OWN: ("My own text", "我自己的文本"),
}
STEPS = {  # of the cleaning: what it is called, and what it did
    "ends": (("Line ends: all alike", "统一换行符"), ("line ends made alike", "统一的换行符")),
    "controls": (("Control characters: out", "去掉控制字符"), ("control characters taken out", "去掉的控制字符")),
    "unicode": (("Unicode: one way to write é (NFC)", "Unicode 规范化（NFC）"), ("lines written in the normal form", "规范化的行")),
    "repeated": (("Repeated lines: once", "重复的行只留一行"), ("repeated lines taken out", "去掉的重复行")),
    "empty": (("Empty lines: one at a time", "连续空行只留一行"), ("empty lines taken out", "去掉的空行")),
}
COUNTED = {
    "characters": ("characters", "字符"),
    "lines": ("lines", "行"),
    "empty": ("empty lines", "空行"),
    "repeated": ("repeated lines", "重复的行"),
    "controls": ("control characters", "控制字符"),
    "alphabet": ("different characters", "不同的字符"),
}
PARTS = (("to learn from", "用来学习"), ("to validate: which moment was best?", "用来验证：哪一刻最好？"), ("to test, at the very end", "最后用来测试"))
LETTERS = 60  # of the alphabet that are shown
SHELF = Shelf(
    cap=60,
    nothing=("the file is no longer kept (it goes {n} minutes after its last use); choose it again", "文件已不再保留（最后一次使用后 {n} 分钟）；请重新选择"),
)


@dataclass(frozen=True)
class Material:
    """What is to be learnt."""

    parts: own.Parts
    cleaned: own.Cleaned | None = None  # of a text of one's own
    read: own.Read | None = None


def take(path: str, key: str) -> tuple[str, str]:
    """Read an uploaded file and delete it: the key of what was in it, and its name. The file under the former key goes.

    Gradio keeps equal files in one place: of a class that uploads what the teacher has handed out, one may find it deleted by another, and takes over what that one read.
    """
    SHELF.drop(key)
    file = Path(path)
    try:
        with file.open("rb") as opened:
            read = own.read(opened.read(own.MOST + 1))
    except FileNotFoundError:
        read = SHELF.get(_takers.get(path, ""))
    finally:
        with suppress(OSError):
            file.unlink()
    key = SHELF.put(read)
    _takers.pop(path, None)
    _takers[path] = key
    while len(_takers) > SHELF.cap:
        _takers.pop(next(iter(_takers)))
    return key, file.name


_takers: dict[str, str] = {}  # where an uploaded file was -> the newest key of what was in it


def material(source, pasted, key, steps) -> Material:
    """What the controls say. Raises Problem for what cannot be learnt."""
    if pick(tuple(CORPORA), source, "corpus", "语料") != OWN:
        return Material(_known(source))
    read = SHELF.get(key) if key else own.pasted(pasted or "")
    cleaned = own.clean(read.text, steps if isinstance(steps, list) else ())
    return Material(own.split(cleaned.text), cleaned, read)


@functools.cache
def _known(source: str) -> own.Parts:
    return own.split(corpora.corpus(source))


def report(source, pasted, key, steps) -> str:
    """What cleaning and splitting make of it (HTML); a problem stands in its place."""
    if source == OWN and not key and not (pasted or "").strip():
        return note(
            f"Paste a text or choose a file: a story, a chat, your own essay, {own.LEAST} characters at least. What you see here is counted before anything is learnt.",
            f"请粘贴文本或选择文件：故事、聊天记录、自己的作文都可以，至少 {own.LEAST} 个字符。学习开始之前，这里先给出统计。",
        )
    try:
        return told(material(source, pasted, key, steps))
    except Problem as problem:
        return refused(problem) + (washed(pasted, key, steps) if source == OWN else "")


def washed(pasted, key, steps) -> str:
    """What cleaning did to a text of which too little is left."""
    try:
        read = SHELF.get(key) if key else own.pasted(pasted or "")
        return cleaning(own.clean(read.text, steps if isinstance(steps, list) else ()))
    except Problem:
        return ""


def told(found: Material) -> str:
    """A material in numbers and words."""
    said = ""
    if found.read and found.read.encoding:
        zh = found.read.encoding.replace(", with its mark", "（带标记）").replace(", without a mark", "（无标记）")
        said += note(f"Read as {found.read.encoding}.", f"读取时的编码：{zh}。")
    if found.read and found.read.replaced:
        n = found.read.replaced
        said += note(f"{n} halves of a character became �.", f"{n} 个不完整的字符变成了 �。", warn=True)
    if found.cleaned:
        said += cleaning(found.cleaned)
    return said + divided(found.parts)


def cleaning(cleaned: own.Cleaned) -> str:
    """The counts before and after, and what each step did."""
    rows = "".join(
        f"<tr><th scope=row>{both(*words)}</th><td>{getattr(cleaned.before, name):,}</td><td>{getattr(cleaned.after, name):,}</td></tr>"
        for name, words in COUNTED.items()
    )
    head = "".join(f"<th scope=col>{both(*words)}</th>" for words in (("Cleaning", "清洗"), ("before", "之前"), ("after", "之后")))
    did = [(STEPS[name][1], n) for name, n in cleaned.changed.items() if n]
    en, zh = "; ".join(f"{words[0]}: {n:,}" for words, n in did), "；".join(f"{words[1]}：{n:,}" for words, n in did)
    said = note(f"{en[:1].upper()}{en[1:]}.", f"{zh}。") if did else note("Nothing needed cleaning.", "没有需要清洗的内容。")
    return f'<table class="sums"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{said}'


def divided(parts: own.Parts) -> str:
    """The three parts as a bar, and in words."""
    sizes = [len(part) for part in (parts.learn, parts.validate, parts.test)]
    bar = "".join(f'<i style="flex-grow:{size}"></i>' for size in sizes)
    rows = "".join(f"<li><b>{size:,}</b> ({size / sum(sizes):.0%}) {both(*words)}</li>" for size, words in zip(sizes, PARTS, strict=True))
    why = note(
        "The parts are stretches of the text, not scattered lines: a line's neighbours give it away, and the loss would flatter the model.",
        "三部分各是连续的一段，而不是随机挑选的行：相邻的行会泄露答案，损失就会好看得不真实。",
    )
    return f'<div class="parted"><div class="bar" aria-hidden="true">{bar}</div><ol>{rows}</ol></div>{why}{letters(parts)}'


def letters(parts: own.Parts) -> str:
    """The alphabet of what is learnt, and how much of the rest lies beyond it."""
    known = sorted(set(parts.learn))
    shown = escape(" ".join(visible(letter) for letter in known[:LETTERS] if letter.isprintable() or letter in "\n\t"))
    more = " …" if len(known) > LETTERS else ""
    said = note(
        f"Alphabet: {len(known):,} characters, each a token: <code>{shown}{more}</code>",
        f"字母表：{len(known):,} 个字符，每个是一个词元：<code>{shown}{more}</code>",
    )
    if parts.strange >= 0.0005:
        said += note(
            f"{parts.strange:.1%} of the characters to validate and test with never occur in the part that is learnt: no model can foresee them, and the loss counts them.",
            f"用来验证和测试的字符中有 {parts.strange:.1%} 在学习部分从未出现：任何模型都无法预见，而损失会把它们算进去。",
        )
    return said
