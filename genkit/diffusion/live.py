"""What a training shows of itself in front of somebody: the loss at each range of noise levels, and the promise of time.

The mean loss over all levels hides what happens: nearly clean pictures are learnt last, nearly pure noise first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from genkit.core import Event
from genkit.diffusion.training import velocity
from genkit.stopwatch import Stopwatch

LEVELS, TIMES = 5, 1000  # equal ranges of t; noise levels in all


@dataclass(frozen=True)
class Exam:
    """How far a training has come, as of a report."""

    step: int
    losses: tuple[float, ...] = ()  # mean squared error of v in each range of t, the clean end first: always on the same pictures with the same noise
    right: float | None = None  # share of the samples that are what was asked for, by a judge trained here
    seconds: float = 0.0  # of training so far, pauses not counted
    promised: float | None = None  # seconds after which the end was promised; None before the calibration, or where the run is too short for one
    arrived: float | None = None  # seconds after which it came


@torch.no_grad()
def by_level(guess: Callable, x0: torch.Tensor, noise: torch.Tensor, alphas_cumprod: torch.Tensor) -> tuple[float, ...]:
    """Mean squared error of guess(x_t, t), which is to give v (B, ...), in each range of t; the B pictures stand evenly in the range."""
    width = TIMES // LEVELS
    places = (torch.arange(len(x0)) * width // len(x0)).to(x0.device)
    found = []
    for level in range(LEVELS):
        x_t, v = velocity(x0, noise, t := places + level * width, alphas_cumprod)
        found.append((guess(x_t, t).float() - v).square().mean().item())
    return tuple(found)


def timed(events: Iterator[Event]) -> Iterator[Event]:
    """The events of a training, their exams with the seconds so far and the promise of the end, made from the time between its first and its third report."""
    watch, before = Stopwatch(0), 0
    watch.go()
    for event in events:
        if event.step and not watch.goal:
            watch.goal, watch.calibration = event.steps, (event.step, 3 * event.step)  # all reports are as far apart as the first two
        watch.step(True, event.step - before)
        before = event.step
        exam = watch.told(event.exam, event.step == event.steps)
        watch.rest()
        yield dataclasses.replace(event, exam=exam)
        watch.go()
