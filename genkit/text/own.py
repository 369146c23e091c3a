"""A text of one's own: from the bytes of a file, or what was pasted, to three parts that a model can learn from and be judged on.

Nothing is guessed silently: which encoding was read is said, what is no text is refused, and every step of the cleaning counts what it changed.
This file stays light: the page imports it before torch.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from genkit.core import Problem, pick

MOST = 5_000_000  # bytes of a file, or of what was pasted, in UTF-8
LEAST = 500  # characters, cleaned: a page of handwriting; of less, the part for validation is a few words
SHARES = 0.70, 0.15  # of the text: to learn, to validate; the rest is the test
LONG = 20  # characters: a shorter line that stands there twice may be the name of a speaker or a refrain

# --- reading

MARKS = (  # the byte order marks, the longer ones first: that of UTF-32 begins with that of UTF-16
    (b"\xff\xfe\0\0", "utf-32", "UTF-32"),
    (b"\0\0\xfe\xff", "utf-32", "UTF-32"),
    (b"\xef\xbb\xbf", "utf-8-sig", "UTF-8"),
    (b"\xff\xfe", "utf-16", "UTF-16"),
    (b"\xfe\xff", "utf-16", "UTF-16"),
)
OTHERS = {  # how files begin that are no plain text, whatever their name
    b"%PDF": ("a PDF document", "PDF 文档"),
    b"PK\x03\x04": ("a zip or an Office document", "zip 或 Office 文档"),
    b"\xd0\xcf\x11\xe0": ("an old Office document", "旧版 Office 文档"),
    b"{\\rtf": ("an RTF document", "RTF 文档"),
    b"\x1f\x8b": ("a gzip archive", "gzip 压缩包"),
    b"Rar!": ("a RAR archive", "RAR 压缩包"),
    b"7z\xbc\xaf": ("a 7z archive", "7z 压缩包"),
    b"\x89PNG": ("a picture", "图片"),
    b"\xff\xd8\xff": ("a picture", "图片"),
    b"GIF8": ("a picture", "图片"),
    b"\x7fELF": ("a program", "程序"),
}
CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff]")  # C0 and C1 but for tabs and line ends; and the byte order mark in mid-text
HAN = re.compile("[\u3400-\u9fff\uf900-\ufaff]")
# frequent characters of Chinese, of today and classical, simplified and traditional: about a third of any page, 4 % of one that is read in the wrong encoding
FREQUENT = frozenset(
    "的一是不了在人有我他这個个們们中来來上大为為和国國地到以说說时時要就出会會可也你对對生能而子那得于於着著下自之年过過发發后後作里裡用道行所然家种事成方多经么去法学"
    "如都同现当没动面起看定天分还進进好小部其些主样理心她本前開开但因只从想实日者意无無力它与與长長把十民第此已情明知全三又关点正外将將两高間间由问問很最山水風风云雲月花"
    "春秋夜何君不相見见谁誰空白清新深青江歸归路門门言曰乃故若夫吾矣乎非亦"
)
COMMON = 0.12  # of the Chinese characters of a text must be FREQUENT ones


@dataclass(frozen=True)
class Read:
    """A text and how it was read."""

    text: str
    encoding: str  # "" for what was pasted
    replaced: int = 0  # characters that were no characters: halves of a pair


def read(data: bytes) -> Read:
    """The text of a file in UTF-8, UTF-16, UTF-32 or GB18030. Raises Problem for what is empty, too large, or no text in one of these."""
    if not data:
        raise Problem("the file is empty; choose one with text in it", "文件是空的；请选择有内容的文件")
    _check_size(len(data))
    for start, kind in OTHERS.items():
        if data.startswith(start):
            en, zh = "this is {kind}, not plain text; save it as .txt in UTF-8 first", "这是{kind}，不是纯文本；请先另存为 UTF-8 编码的 .txt"
            raise Problem(en, zh, kind=kind)
    text, encoding = _decoded(data)
    if len(CONTROLS.findall(text)) > len(text) / 10:
        raise _binary()
    return Read(text, encoding)


def pasted(text: str) -> Read:
    """What was typed or pasted, as valid Unicode: halves of a surrogate pair are joined, lone ones become U+FFFD. Raises Problem for nothing and for too much."""
    if not isinstance(text, str):
        raise Problem("the text must be text, got {kind}", "必须是文本，收到的是 {kind}", kind=type(text).__name__)
    if not text.strip():
        raise Problem("there is no text yet; paste some, or choose a file", "还没有文本；请粘贴，或选择文件")
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    _check_size(len(whole.encode("utf-8")))
    return Read(whole, "", whole.count("\ufffd") - text.count("\ufffd"))


def _check_size(size: int) -> None:
    if size > MOST:
        raise Problem(
            "this text has {n} bytes; at most {most} (5 MB) are read: cut it into parts",
            "这段文本有 {n} 字节；最多读取 {most} 字节（5 MB）：请截取一部分",
            n=f"{size:,}",
            most=f"{MOST:,}",
        )


def _decoded(data: bytes) -> tuple[str, str]:
    """The text and the name of its encoding, which no other one of the list could be."""
    for mark, codec, name in MARKS:
        if data.startswith(mark):
            return _strictly(data, codec, name), f"{name}, with its mark"
    if b"\0" in data:
        return _wide(data), "UTF-16, without a mark"
    try:
        return data.decode("utf-8"), "UTF-8"
    except UnicodeDecodeError as error:
        first = error.start
    try:
        text = data.decode("gb18030")
        if _is_chinese(text):
            return text, "GB18030"
    except UnicodeDecodeError:
        pass
    raise Problem(
        "this text is neither UTF-8 (byte {n} does not belong there) nor Chinese in GB18030; save it as UTF-8 and choose it again",
        "这段文本既不是 UTF-8（第 {n} 个字节不合法），也不是 GB18030 中文；请另存为 UTF-8 后重新选择",
        n=f"{first + 1:,}",
    )


def _strictly(data: bytes, codec: str, name: str) -> str:
    try:
        return data.decode(codec)
    except UnicodeDecodeError as error:
        en, zh = (
            "this is no {name} text after all (byte {n}); save it as UTF-8 and choose it again",
            "这不是完好的 {name} 文本（第 {n} 个字节）；请另存为 UTF-8 后重新选择",
        )
        raise Problem(en, zh, name=name, n=f"{error.start + 1:,}") from None


def _wide(data: bytes) -> str:
    """UTF-16 without a byte order mark: of the two orders the one that gives known characters. Turned round, a line end is none."""
    for codec in ("utf-16-le", "utf-16-be"):
        try:
            text = data.decode(codec)
        except UnicodeDecodeError:
            continue
        if not CONTROLS.search(text) and not _unassigned(text):
            return text
    raise _binary()


def _unassigned(text: str) -> bool:
    return any(unicodedata.category(character) in ("Co", "Cn") for character in set(text))


def _is_chinese(text: str) -> bool:
    """Whether it reads like Chinese: GB18030 decodes nearly every file, and of a Korean, Russian or traditional Big5 one it makes rare characters."""
    han = HAN.findall(text)
    return not _unassigned(text) and sum(character in FREQUENT for character in han) > COMMON * len(han)


def _binary() -> Problem:
    return Problem("this file is not plain text; save it as .txt in UTF-8 first", "这个文件不是纯文本；请先另存为 UTF-8 编码的 .txt")


# --- cleaning


@dataclass(frozen=True)
class Counts:
    """What there is in a text."""

    characters: int
    lines: int
    empty: int  # lines with nothing to see
    repeated: int  # lines that stand there already, further up
    controls: int
    alphabet: int  # different characters


def counts(text: str) -> Counts:
    lines = _lines(_ends(text)[0])
    seen = [line for line in lines if line.strip()]
    return Counts(len(text), len(lines), len(lines) - len(seen), len(seen) - len(set(seen)), len(CONTROLS.findall(text)), len(set(text)))


def _lines(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n") if text else []


def _ends(text: str) -> tuple[str, int]:
    return re.subn("\r\n|[\r\v\f\x85\u2028\u2029]", "\n", text)


def _controls(text: str) -> tuple[str, int]:
    return CONTROLS.subn("", text)


def _unicode(text: str) -> tuple[str, int]:
    """Counts lines: how many characters changed is not defined where two became one."""
    lines = text.split("\n")
    whole = [unicodedata.normalize("NFC", line) for line in lines]
    return "\n".join(whole), sum(map(str.__ne__, lines, whole))


def _repeated(text: str) -> tuple[str, int]:
    """Without the lines that repeat the one before, and the long ones that stand there already."""
    kept, seen, before, gone = [], set(), None, 0
    for line in text.split("\n"):
        said = line.strip()
        if said and (said == before or len(said) >= LONG and said in seen):
            gone += 1
        else:
            kept.append(line)
            seen.add(said)
            before = said or before  # empty lines in between change nothing
    return "\n".join(kept), gone


def _empty(text: str) -> tuple[str, int]:
    """With at most one empty line at a time, and none at the beginning and the end."""
    kept, lines = [], _lines(text)
    for line in lines:
        if line.strip():
            kept.append(line)
        elif kept and kept[-1]:
            kept.append("")
    if kept and not kept[-1]:
        kept.pop()
    return "\n".join(kept) + "\n" * bool(kept and text.endswith("\n")), len(lines) - len(kept)


STEPS: dict[str, Callable[[str], tuple[str, int]]] = {  # in their order; each gives the text and how much it changed
    "ends": _ends,
    "controls": _controls,
    "unicode": _unicode,
    "repeated": _repeated,
    "empty": _empty,
}


@dataclass(frozen=True)
class Cleaned:
    """A text after the cleaning, and what that did."""

    text: str
    before: Counts
    after: Counts
    changed: dict[str, int]  # step -> line ends, characters, lines, lines, lines


def clean(text: str, steps: Iterable[str] = tuple(STEPS)) -> Cleaned:
    """The text after the chosen steps. Raises Problem for a step that does not exist."""
    chosen, before, changed = {pick(tuple(STEPS), step, "step", "步骤") for step in steps}, counts(text), {}
    for name, step in STEPS.items():
        if name in chosen:
            text, changed[name] = step(text)
    return Cleaned(text, before, counts(text), changed)


# --- three parts


@dataclass(frozen=True)
class Parts:
    """Three stretches of a text, one after the other. Never scattered lines: a line's neighbours give it away, and the loss would flatter the model."""

    learn: str
    validate: str
    test: str

    @property
    def strange(self) -> float:
        """The share of the characters to validate and test with that never occur in what is learnt: no model can foresee them."""
        known, rest = set(self.learn), self.validate + self.test
        return sum(character not in known for character in rest) / max(1, len(rest))


def split(text: str) -> Parts:
    """The first 70 % to learn, the next 15 % to validate, the last 15 % to test, cut at line ends where some are near. Raises Problem for too little text."""
    if len(text) < LEAST:
        raise Problem(
            "{n} characters are too few to learn from: at least {least} are needed, {more} more (of what was repeated, cleaning keeps one)",
            "{n} 个字符太少，学不到东西：至少需要 {least} 个，还差 {more} 个（重复的内容清洗后只留一份）",
            n=f"{len(text):,}",
            least=LEAST,
            more=LEAST - len(text),
        )
    first = _cut(text, SHARES[0])
    second = _cut(text, sum(SHARES))
    return Parts(text[:first], text[first:second], text[second:])


def _cut(text: str, share: float) -> int:
    place = int(share * len(text))
    return text.rfind("\n", place - len(text) // 50, place) + 1 or place
