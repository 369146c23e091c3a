"""The trainings of the tab as the page runs them: what they reach, and whether they end when it was promised. Minutes each."""

from __future__ import annotations

import time
from collections.abc import Iterator

from genkit.core import Problem
from genkit.diffusion import LIVE, pixel, training

EVERY = 25  # steps between two reports, as in the page


def report(options) -> Iterator[str]:
    for stage in (digits,):
        try:
            yield from stage(options)
        except Problem as problem:  # data that are not here: the rest is still measured
            yield f"diffusion live: {problem.en}"


def kept(exam) -> str:
    """The promise of the end beside what became of it."""
    return f"end promised after {exam.promised:.0f} s, came after {exam.arrived:.0f} s ({exam.arrived / exam.promised - 1:+.0%})"


def digits(options) -> Iterator[str]:
    """Seconds of one thread, and how many of 500 samples are the digit asked for at the end."""
    began = time.process_time()
    *_, event = training.train("digits", steps=LIVE, every=EVERY, exams=2 * EVERY, seed=options.seed)
    spent, n = time.process_time() - began, options.n or 500
    share = pixel.right(event.model, n, options.seed)
    yield (
        f"diffusion digits, live, {LIVE} steps: {kept(event.exam)}; {spent:.0f} s of processor time with the samples on the way; the digit asked for in {share:.1%} of "
        f"{n} samples (20 steps, guidance 1.5); loss by noise level {', '.join(f'{loss:.3f}' for loss in event.exam.losses)}"
    )
