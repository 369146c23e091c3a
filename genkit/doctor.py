"""What the failure doctors of the families share: the words of a diagnosis, and a training that is broken on purpose. Light: the page imports it before torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from genkit.core import Control, Event


@dataclass(frozen=True)
class Diagnosis:
    illness: str  # a key of the family's ILLNESSES
    sentence: tuple[str, str]  # what is seen and why, English and Chinese
    repairs: tuple[str, ...]  # keys of the family's REPAIRS, the best first


@dataclass(frozen=True)
class Repair:
    label: tuple[str, str]
    changes: dict[str, Any]  # fields of the family's Rules


@dataclass(frozen=True)
class Break:
    """A way to make a training fail on purpose."""

    label: tuple[str, str]
    see: tuple[str, str]  # what you see
    why: tuple[str, str]
    mend: tuple[str, str]
    options: dict[str, Any] = field(default_factory=dict)  # arguments of train(): variant, lr, optimizer ...
    rules: dict[str, Any] = field(default_factory=dict)  # fields of the family's Rules
    illness: str = ""  # what the doctor should say


def first(what: Callable[[Any], Any], events: Iterator[Event]) -> Any:
    """The first examination of a training for which what(exam) is true, else the last."""
    for event in events:
        if what(event.exam):
            break
    return event.exam


def broken(one: Break, seed: int, variants: dict, train: Callable, diagnose: Callable[[Sequence], Diagnosis | None]) -> tuple[str, int]:
    """What the doctor first says of a training that is broken on purpose, as the page starts it, and after how many steps; "" if he says nothing."""
    options, exams = dict(one.options), []
    variant = options.pop("variant")
    control = Control(dataclasses.replace(variants[variant].rules, **one.rules))
    for event in train(variant, every=25, exams=25, seed=seed, control=control, **options):
        exams.append(event.exam)
        if found := diagnose(exams):
            return found.illness, event.step
    return "", event.step
