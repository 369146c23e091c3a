"""What a text-to-image model can read: how much of a prompt fits, where its tokens stand, and which words mini-sd has never seen.

Only emoji.py's captions were shown to mini-sd, so its vocabulary is known to the last word. What is spelt like a strange word is found by
difflib's ratio (Ratcliff & Obershelp 1988): 2 x letters in common / letters of both. It knows nothing of meanings, and says so.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import re
from dataclasses import dataclass

from genkit import emoji

ALIKE = 0.6  # the least ratio of two spellings that are called near
FILLING = ("a an the of on and with in background picture drawing emoji one", "的 色 色的 背景 背景上的 上 上的 和 一 个 只 张 在 有")


def legible(text) -> str:
    """The text without what no tokenizer can read, such as half a surrogate pair, and without space around it."""
    return str(text).encode("utf-8", "replace").decode("utf-8").strip()


def readers(pipe) -> list[tuple]:
    """(tokenizer, most tokens that it reads) of a pipeline."""
    from genkit.diffusion.pipeline import defaults

    tokenizers = [part for name, part in pipe.components.items() if name.startswith("tokenizer") and part is not None]
    longest = inspect.signature(pipe.__call__).parameters.get("max_sequence_length")
    most = defaults(pipe).get("max_sequence_length", longest.default if longest else 10_000)
    return [(tokenizer, min(tokenizer.model_max_length, most)) for tokenizer in tokenizers]


def fit(pipe, text: str) -> tuple[str, str]:
    """What the most patient of the pipeline's tokenizers reads of the text, and what is cut off at its end; both are parts of legible(text)."""
    from genkit.diffusion.pipeline import read_in_turn
    from genkit.diffusion.remote import Endpoint

    text = legible(text)
    if isinstance(pipe, Endpoint):  # only its server knows
        return text, ""
    patient = [(len(tokenizer(text, verbose=False).input_ids) - most, tokenizer, most) for tokenizer, most in readers(read_in_turn(pipe))]
    if not patient:
        return text, ""
    over, tokenizer, most = min(patient, key=lambda each: each[0])
    if over <= 0:
        return text, ""
    ends = [end for start, end in tokenizer(text, verbose=False, return_offsets_mapping=True)["offset_mapping"] if end > start]
    specials = most + over - len(ends)
    for end in reversed(ends[: max(most - specials, 0)]):  # half a word may take more tokens than it did within the whole one
        if len(tokenizer(text[:end], verbose=False).input_ids) <= most:
            return text[:end].rstrip(), text[end:].lstrip()
    return "", text


def spans(pipe, text: str) -> list[tuple[int, int]]:
    """(start, end) in the text of each token that the picture looks at, the one that ends it left out; (0, 0) for what is no part of it."""
    from genkit.diffusion import kinds

    kind = kinds.kind_of(pipe)
    tokenizer = getattr(pipe, kind.reader)
    if not kind.template:
        return [tuple(span) for span in tokenizer(text, verbose=False, return_offsets_mapping=True)["offset_mapping"][:-1]]
    whole = tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True, enable_thinking=True)
    begin = max(whole.find(text), 0)
    found = [(start - begin, end - begin) for start, end in tokenizer(whole, verbose=False, return_offsets_mapping=True)["offset_mapping"]]
    return [span if span[0] >= 0 and span[1] <= len(text) else (0, 0) for span in found]


# --- what mini-sd knows


@functools.cache
def known() -> tuple[frozenset[str], frozenset[str]]:
    """All English words and all Chinese expressions that stand in the captions of emoji.py."""
    things = emoji.THINGS.values()
    names = [name for thing in things for name in thing.names]
    english = {*FILLING[0].split(), *emoji.TINTS, *emoji.BACKGROUNDS, "grey", "two", "three"}
    english |= {word for name in names for word in (*name.split(), *emoji.plural(name).split())}
    chinese = {*FILLING[1].split(), "两", "三", "二"} | {part for thing in things for part in (thing.zh, thing.measure)}
    return frozenset(english), frozenset(chinese | {form for colour in emoji.CHINESE.values() for form in (colour, colour + "色")})


@functools.cache
def names() -> tuple[str, ...]:
    """All that mini-sd can be asked for by name: things and colours, English and Chinese."""
    things = emoji.THINGS.values()
    return (
        *(name for thing in things for name in thing.names),
        *emoji.BACKGROUNDS,
        *(thing.zh for thing in things),
        *(f"{c}色" for c in emoji.CHINESE.values()),
    )


@dataclass(frozen=True)
class Word:
    """A piece of a prompt from `start` to `end`. near: what mini-sd knows that is spelt like it, the nearest first."""

    text: str
    start: int
    end: int
    known: bool
    near: tuple[str, ...] = ()


def split(text: str) -> list[Word]:
    """The words of a prompt in English or Chinese (or any script), as mini-sd may know them. Chinese is taken apart into the longest known expressions."""
    found = []
    for match in re.finditer(r"[\u4e00-\u9fff]+|[^\W\d_\u4e00-\u9fff]+(?:['’-][^\W\d_\u4e00-\u9fff]+)*|\d+", text):
        piece, start = match[0], match.start()
        found += _chinese(piece, start) if "\u4e00" <= piece[0] <= "\u9fff" else [_english(piece, start)]
    return found


def _english(piece: str, start: int) -> Word:
    told = piece.lower() in known()[0] or piece in ("1", "2", "3")
    return Word(piece, start, start + len(piece), told, () if told else near(piece))


def _chinese(piece: str, start: int) -> list[Word]:
    """The longest known expression at each place; what lies between them is one strange word."""
    found, strange, place = [], "", 0
    longest = max(map(len, known()[1]))

    def close(at: int) -> None:
        if strange:
            found.append(Word(strange, start + at - len(strange), start + at, False, near(strange)))

    while place < len(piece):
        size = next((size for size in range(longest, 0, -1) if piece[place : place + size] in known()[1] and place + size <= len(piece)), 0)
        if size:
            close(place)
            strange = ""
            found.append(Word(piece[place : place + size], start + place, start + place + size, True))
        else:
            strange += piece[place]
        place += size or 1
    close(place)
    return found


def near(word: str, most: int = 3) -> tuple[str, ...]:
    """Names that are spelt like the word, the nearest first."""
    return tuple(difflib.get_close_matches(word.lower(), names(), most, ALIKE))
