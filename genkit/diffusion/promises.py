"""The trainings of the tab as the page runs them: what they reach, and whether they end when it was promised. Minutes each."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import torch

from genkit import emoji
from genkit.core import Problem
from genkit.diffusion import LIVE, pixel, points, sprites, teach, training

EVERY = 25  # steps between two reports, as in the page
TAUGHT = ("cat", "frog", "rose", "tree", "apple", "pizza", "car", "rocket", "house", "star", "ghost", "robot")  # as many as the page allows
STEPS = 1300  # of a U-Net: about ten minutes of one thread


def report(options) -> Iterator[str]:
    for stage in (digits, drawn_points, own_model, own_promise):
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


def drawn_points(options) -> Iterator[str]:
    for name in points.SHAPES:
        began = time.process_time()
        *_, event = points.train(points.from_picture(points.shape(name)), seed=options.seed)
        yield (
            f"diffusion points, {name}: {event.exam.right:.1%} of 400 samples lie on it after {event.steps} steps, {time.process_time() - began:.0f} s of processor time; "
            f"{kept(event.exam)}; loss by noise level {', '.join(f'{loss:.3f}' for loss in event.exam.losses)}"
        )


def own_model(options) -> Iterator[str]:
    """Twelve kinds of emoji taught from nothing: the gap between captions, and how often the shipped detector sees what was asked for."""
    things, began = [sprites.emoji_things()[name] for name in TAUGHT], time.process_time()
    for event in teach.train(things, steps=STEPS, seed=options.seed):
        exam = event.exam
        yield (
            f"diffusion own model, {len(things)} things, step {event.step} of {STEPS}, {time.process_time() - began:.0f} s of processor time: loss {exam.true:.3f} with the "
            f"true caption, {exam.other:.3f} with another thing's, gap {exam.gap:.3f}"
        )
    for language in ("en", "zh"):
        right, behind, n = as_asked(event.model, things, language, options.n or 120, options.seed)
        yield (
            f"diffusion own model, {len(things)} things, {language}: the thing asked for in {right:.1%}, the background in {behind:.1%} of {n} prompts of combinations "
            "that it was never shown (14 steps, guidance 4)"
        )


def as_asked(pipe, things: list, language: str, n: int, seed: int) -> tuple[float, float, int]:
    """How often thing and background are seen, in n pictures of held-out combinations of them."""
    from genkit.diffusion import detector, evaluate

    table, rng = {thing.key: thing for thing in things}, random.Random(f"own {language} {seed}")
    unseen = [(name, background) for name in table for background in emoji.BACKGROUNDS if background != "white" and emoji.held_out(name, background)]
    asked = [unseen[index % len(unseen)] for index in range(n)]
    texts = [sprites.caption(emoji.Scene(background, ((name, None),)), table, rng, language) for name, background in asked]
    x = evaluate.draw(pipe, texts, seed)
    wanted = torch.tensor([detector.THINGS.index(name) for name, _ in asked])
    behind = torch.tensor([detector.BACKGROUNDS.index(background) for _, background in asked])
    return (detector.things(detector.load(), x) == wanted).float().mean().item(), (detector.backgrounds(x) == behind).float().mean().item(), n


def own_promise(options, seconds: float = 120.0) -> Iterator[str]:
    """Whether a training ends when it was promised: from the digits, which every machine has."""
    *_, event = teach.train(list(sprites.digit_things().values())[:4], seconds=seconds, seed=options.seed)
    yield f"diffusion own model, four digits, {event.step} steps: {kept(event.exam)}; gap {event.exam.gap:.3f}"
