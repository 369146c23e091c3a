"""What the shipped language models are worth: their loss on text that they never learnt, their speed, the form, rhyme and novelty of their verse.

With --train also what three minutes of training are worth, here and with nanoGPT's settings for a CPU, and whether a training ends when it was promised.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import torch

from genkit import corpora
from genkit.core import Problem
from genkit.text import VARIANTS, own, quality, race
from genkit.text.learning import learn
from genkit.text.model import load
from genkit.text.sampling import context_length, sample
from genkit.text.training import encode, validation

TEMPERATURES = (0.8, 0.5)  # the page's own, and a careful one
POEMS = 50  # of each form


def report(options) -> Iterator[str]:
    """Lines on every variant, on the verse of gpt-tang, and with options.train on three minutes of training."""
    stages = [lambda name=name: line(name, options.download) for name in VARIANTS] + [lambda: verse("gpt-tang", options)]
    for stage in stages + ([lambda: live(options), lambda: promises(options)] if options.train else []):
        try:
            yield from stage()
        except Problem as problem:  # weights or a corpus that are not here: the rest is still measured
            yield f"text: {problem.en}"


def line(name: str, download: bool = False) -> Iterator[str]:
    """Loss in nats per character over the whole last tenth of its corpus, in windows of the model's context, each read afresh."""
    model, config = load(name), VARIANTS[name]
    try:
        _, held_out = corpora.split(corpora.corpus(config.corpus, download))
    except Problem as problem:
        yield f"text {name}: {problem.en}"
        return
    loss = validation(model, encode(model.tokenizer, held_out))
    yield (
        f"text {name}: validation loss {loss:.4f} nats per character (perplexity {math.exp(loss):.2f}), last 10 % of {config.corpus} ({len(held_out):,} characters, "
        f"windows of {context_length(model)}); {speed(model):.0f} tokens/s; {model.num_parameters():,} parameters"
    )


def speed(model, tokens: int = 200) -> float:
    """Tokens per second of sample(), the first token included; the best of three."""
    seconds = []
    for seed in range(3):
        start, n = time.perf_counter(), sum(1 for _ in sample(model, "", max_new_tokens=tokens, seed=seed))
        seconds.append((time.perf_counter() - start) / max(n, 1))
    return 1 / min(seconds)


def verse(name: str, options) -> Iterator[str]:
    """Poems of every form to titles that were never learnt, beside the real poems of those titles' tenth."""
    model = load(name)
    learn, held_out = corpora.split(corpora.corpus(VARIANTS[name].corpus, options.download))
    real = quality.titled(held_out)
    asked = {form: poems[: options.n or POEMS] for form, poems in real.items()}
    for temperature in TEMPERATURES:
        yield f"text {name}, temperature {temperature}: {told(quality.judge(quality.requested(model, asked, temperature, options.seed), learn))}"
    yield f"text {name}, real poems of the last 10 %: {told(quality.judge(real, learn))}"


def told(found: quality.Verse) -> str:
    forms = ", ".join(f"{form} {share:.1%}" for form, share in found.kept.items())
    return (
        f"form kept in {found.form:.1%} of {found.n:,} ({forms}); even lines rhyme by the Pingshui tables in {found.rhymed:.1%} of {found.judged:,}; "
        f"{found.copied:.2%} of the {quality.SPAN}-character spans stand in the first 90 % of the corpus"
    )


def live(options) -> Iterator[str]:
    for end in race.race(seed=options.seed, download=options.download):
        yield (
            f"text {end.name}, trained for {end.seconds:.0f} s with {torch.get_num_threads()} threads: validation loss {end.loss:.4f} nats per character, last 10 % of "
            f"shakespeare; {end.steps:,} steps, {end.tokens:,} characters, {end.parameters:,} parameters"
        )


def promises(options, steps: int = 400, every: int = 25) -> Iterator[str]:
    """Trainings as the page runs them, on the text that every machine has: when their end was promised, and when it came."""
    parts = own.split(corpora.corpus("python"))
    for seed in range(options.seed, options.seed + (options.n or 3)):
        *_, event = learn("gpt-mini", parts, steps=steps, every=every, seed=seed)
        exam = event.exam
        yield (
            f"text gpt-mini, live, {steps} steps on 70 % of Python's manual, seed {seed}: end promised after {exam.promised:.1f} s, came after {exam.arrived:.1f} s "
            f"({exam.arrived / exam.promised - 1:+.0%}); lowest validation loss {exam.loss_val:.3f} at step {exam.best}, test loss {exam.test:.3f} nats per character"
        )
