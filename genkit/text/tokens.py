"""What a model is given for a text: its tokens, with their numbers and the bytes they stand for.

T tokens. A byte-level tokenizer (Radford et al. 2019, section 2.2: https://openai.com/index/better-language-models/) may split a Chinese character
or an emoji into several tokens, none of which is a character.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace

from transformers.convert_slow_tokenizer import bytes_to_unicode

from genkit.core import Problem
from genkit.text.sampling import clean, context_length, wrapped

LONGEST = 256  # tokens that are looked into
BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # how SentencePiece writes a byte that belongs to no token


@dataclass(frozen=True)
class Token:
    """One token of a text."""

    id: int
    text: str  # what it says; "" if it is less than a character
    bytes: bytes  # UTF-8
    kind: str = "text"  # "unknown": its character is none of the model's, text says which; "special": a sign of the model's own, such as where a turn begins
    part: int = 1  # which of the `parts` tokens that make up `whole` it is
    parts: int = 1
    whole: str = ""  # the characters that it is a part of


@dataclass(frozen=True)
class Reading:
    """What a model reads of a text: at most LONGEST tokens, the last ones."""

    ids: tuple[int, ...]
    tokens: tuple[Token, ...]
    cut: int  # characters at the beginning that were left out


def reading(model, prompt: str, written: str = "") -> Reading:
    """The tokens of a prompt and of what was written after it. A chat model gets its template around the prompt.

    Raises Problem for what is no text, and for a text without a token.
    """
    prompt, written, room = clean(prompt), clean(written), min(LONGEST, context_length(model))
    if not model.tokenizer.chat_template:
        prompt, written = prompt + written, ""
    after, after_offsets = _encoded(model, written)
    prompt_ids, offsets = _encoded(model, prompt)
    frame = len(wrapped(model, ""))  # the template, or the beginning-of-text token
    left = max(0, room - frame)
    kept, cut = max(0, left - len(after)), 0
    if len(prompt_ids) > kept:
        cut = offsets[-kept][0] if kept else len(prompt)
        if len(after) > left:
            after, cut = after[-left:], cut + after_offsets[-left][0]
    ids = [*wrapped(model, prompt[cut:]), *after][-room:]
    if not ids:
        raise Problem("the text is empty; write a beginning", "文本为空；请写一个开头")
    return Reading(tuple(ids), tuple(_tokens(model, ids, prompt[cut:])), cut)


def _encoded(model, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Token ids of a text, and from which to which character each of them reaches."""
    encoded = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return encoded.input_ids, encoded.offset_mapping


def _tokens(model, ids: list[int], text: str) -> list[Token]:
    """The tokens of `ids`. text: what they were made from, which alone knows the characters that became <unk>."""
    own, offsets = _encoded(model, text)
    aligned = ids[len(ids) - len(own) :] == own
    sources = [""] * (len(ids) - len(own)) + [text[start:end] for start, end in offsets] if aligned else [""] * len(ids)
    decoder, special = repr(model.tokenizer.backend_tokenizer.decoder), set(model.tokenizer.added_tokens_decoder)
    tokens = [_token(model.tokenizer, each, source, decoder, special) for each, source in zip(ids, sources, strict=True)]
    if not model.tokenizer.chat_template and len(ids) > len(own):  # nobody wrote the beginning-of-text token
        tokens[0] = replace(tokens[0], text=tokens[0].text or (_whole(tokens[:1]) or ""), kind="special")
    return _joined(tokens)


def _token(tokenizer, each: int, source: str, decoder: str, special: set[int]) -> Token:
    piece, byte_level = tokenizer.convert_ids_to_tokens(each), "ByteLevel" in decoder
    if each == tokenizer.unk_token_id and not byte_level:
        return Token(each, source, source.encode(), "unknown")
    if each in special:
        return Token(each, piece, piece.encode(), "special")
    if byte_level:
        return Token(each, "", bytes(_table()[letter] for letter in piece))
    if byte := BYTE.fullmatch(piece):
        return Token(each, "", bytes.fromhex(byte[1]))
    return Token(each, "", (piece.replace("▁", " ") if "▁" in decoder else piece).encode())


@functools.cache
def _table() -> dict[str, int]:
    """The byte that each letter of a byte-level token stands for."""
    return {letter: byte for byte, letter in bytes_to_unicode().items()}


def _joined(tokens: list[Token]) -> list[Token]:
    """The tokens with their text; those that are parts of a character know which of how many they are, and of what."""
    done, run = [], []
    for token in tokens:
        if token.kind != "text":
            done += [*_run(run), token]
            run = []
            continue
        run.append(token)
        if _whole(run) is not None:
            done += _run(run)
            run = []
    return done + _run(run)


def _whole(run: list[Token]) -> str | None:
    """The text of a run of tokens; None if its bytes are no whole characters (yet)."""
    try:
        return b"".join(token.bytes for token in run).decode()
    except UnicodeDecodeError:
        return None


def _run(run: list[Token]) -> list[Token]:
    if len(run) == 1:
        return [replace(run[0], text=_whole(run) or "")]
    whole = _whole(run) or ""
    return [replace(token, part=index, parts=len(run), whole=whole) for index, token in enumerate(run, 1)]
