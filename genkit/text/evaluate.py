"""What the shipped language models are worth: their loss on text that they never learnt, and their speed."""

from __future__ import annotations

import time
from collections.abc import Iterator

from genkit import corpora
from genkit.core import Problem
from genkit.text import VARIANTS
from genkit.text.model import load
from genkit.text.sampling import context_length, sample
from genkit.text.training import encode, validation


def report(options) -> Iterator[str]:
    """One line a variant. Loss in nats per character over the whole last tenth of its corpus, in windows of the model's context, each read afresh."""
    for name, config in VARIANTS.items():
        model = load(name)
        try:
            _, held_out = corpora.split(corpora.corpus(config.corpus))
        except Problem as problem:
            yield f"text {name}: {problem.en}"
            continue
        loss = validation(model, encode(model.tokenizer, held_out))
        yield (
            f"text {name}: validation loss {loss:.4f} nats per character, last 10 % of {config.corpus} ({len(held_out):,} characters, "
            f"windows of {context_length(model)}); {speed(model):.0f} tokens/s; {model.num_parameters():,} parameters"
        )


def speed(model, tokens: int = 200) -> float:
    """Tokens per second of sample(), the first token included; the best of three."""
    seconds = []
    for seed in range(3):
        start, n = time.perf_counter(), sum(1 for _ in sample(model, "", max_new_tokens=tokens, seed=seed))
        seconds.append((time.perf_counter() - start) / max(n, 1))
    return 1 / min(seconds)
