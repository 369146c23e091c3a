"""What is kept of a run: its curve and its timeline, thinned, and what there is to know about it at one moment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from genkit.core import Problem

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Frame:
    """What a run looked like at one event."""

    step: int
    metrics: dict[str, float]
    preview: list[Image] | str = field(repr=False)
    exam: Any = field(repr=False)


@dataclass(frozen=True)
class Snapshot:
    """What there is to know about a run at one moment."""

    id: str
    title: str
    state: str  # waiting, running, paused, done, stopped or failed
    place: int  # in the line: 1 is next; 0 when not waiting
    expected_wait: float  # seconds until it begins; 0 when not waiting
    step: int
    steps: int  # 0 before the first event
    elapsed: float  # seconds of running, pauses not counted
    remaining: float | None  # seconds to go, None while unknown
    metrics: tuple[tuple[int, dict[str, float]], ...]  # (step, metrics) from the first event to the newest, thinned to POINTS
    preview: list[Image] | str | None = field(repr=False)  # of the newest event
    problem: Problem | None  # why it failed, or was stopped by the server
    version: int  # grows with each change
    about: dict[str, Any] = field(default_factory=dict)  # what it was started with, for whoever wants to repeat it
    exam: Any = None  # of the newest event
    exams: tuple = ()  # the different ones so far, thinned to FRAMES
    frames: tuple[int, ...] = ()  # the steps of the timeline: frame() has what the run looked like there
    settings: Any = None  # what its Control holds now, None without one
    changed: dict[str, int] = field(default_factory=dict)  # setting -> the step at which it was changed last
    rest: float = 0.0  # seconds between two events, on purpose

    @property
    def ended(self) -> bool:
        return self.state in ("done", "stopped", "failed")


class Thinned:
    """A growing series, thinned evenly to at most `most` items; the first and the newest are always among them."""

    def __init__(self, most: int):
        self.most, self.kept, self.seen, self.stride, self.newest = most, [], 0, 1, None  # every stride-th item seen is kept

    def add(self, item: Any) -> None:
        if self.seen % self.stride == 0:
            self.kept.append(item)
        if len(self.kept) >= self.most:
            self.kept, self.stride = self.kept[::2], self.stride * 2
        self.seen, self.newest = self.seen + 1, item

    def items(self) -> tuple:
        return tuple(self.kept) if not self.kept or self.kept[-1] is self.newest else (*self.kept, self.newest)
