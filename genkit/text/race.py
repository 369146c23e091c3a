"""What a few minutes of training are worth: our small GPT against nanoGPT's settings for a CPU, by the same clock on the same machine.

nanoGPT's README, "I only have a macbook" (karpathy/nanoGPT): 4 layers, 4 heads, 128 wide, 64 characters of context, batches of 12, no dropout, AdamW. B batch, T tokens.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from genkit import core, corpora
from genkit.text import VARIANTS
from genkit.text.model import character_tokenizer, network
from genkit.text.training import WARM_UP, _optimizers, _step, encode, validation, windows

SECONDS = 180
NANO_WARM_UP = 100  # steps


@dataclass(frozen=True)
class Runner:
    """A network with its optimizers, and the learning rate as a share of the highest one, from the step and from the share of the time that has passed."""

    name: str
    model: torch.nn.Module
    optimizers: list[torch.optim.Optimizer]
    lr: float
    pace: Callable[[int, float], float]
    batch_size: int
    context: int


@dataclass(frozen=True)
class Finish:
    name: str
    seconds: float
    steps: int
    tokens: int
    loss: float  # nats per character over the whole held-out part
    parameters: int


def ours(tokenizer, seed: int = 0) -> Runner:
    """gpt-mini as it trains in the page; its line up and down is drawn over the time instead of over a number of steps."""
    config = VARIANTS["gpt-mini"]
    model = core.build(lambda: network(config, tokenizer), seed).to(core.device())

    def pace(step: int, passed: float) -> float:
        return min((passed + 1e-3) / WARM_UP, (1 - passed) / (1 - WARM_UP), 1.0)

    return Runner("gpt-mini", model, _optimizers(model, config.lr), config.lr, pace, config.batch_size, config.context_length)


def nano(tokenizer, seed: int = 0) -> Runner:
    """nanoGPT's CPU settings on transformers' GPT-2; its cosine from 1e-3 down to 1e-4, too, is drawn over the time."""
    shape = {"n_layer": 4, "n_head": 4, "n_embd": 128, "n_positions": 64, "vocab_size": len(tokenizer), "tie_word_embeddings": True}
    quiet = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": None, "eos_token_id": None}
    model = core.build(lambda: GPT2LMHeadModel(GPT2Config(**shape, **quiet)), seed).to(core.device())
    matrices, vectors = ([p for p in model.parameters() if (p.ndim >= 2) == wide] for wide in (True, False))
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]

    def pace(step: int, passed: float) -> float:
        return min((step + 1) / NANO_WARM_UP, 0.1 + 0.9 * (1 + math.cos(math.pi * passed)) / 2)

    return Runner("nanoGPT's CPU settings", model, [torch.optim.AdamW(groups, 1e-3, betas=(0.9, 0.99))], 1e-3, pace, 12, 64)


def race(corpus: str = "shakespeare", seconds: float = SECONDS, seed: int = 0, download: bool = False) -> Iterator[Finish]:
    """Train one after the other for `seconds` by the wall clock; judge each on the last tenth, in windows of its own context."""
    text = corpora.corpus(corpus, download)
    tokenizer = character_tokenizer(text, VARIANTS["gpt-mini"].vocab_size)
    learn, held_out = (encode(tokenizer, part) for part in corpora.split(text))
    for make in (ours, nano):
        yield run(make(tokenizer, seed), learn, held_out, seconds, seed)


def run(runner: Runner, learn: torch.Tensor, held_out: torch.Tensor, seconds: float, seed: int = 0) -> Finish:
    acc, start, steps = core.accelerator(), time.perf_counter(), 0
    while (passed := (time.perf_counter() - start) / seconds) < 1:
        x, y = windows(learn, runner.batch_size, runner.context, core.seeded(seed, steps))
        _step(acc, runner.model, runner.optimizers, x.to(core.device()), y.to(core.device()), runner.lr * runner.pace(steps, passed))
        steps += 1
    spent, tokens = time.perf_counter() - start, steps * runner.batch_size * runner.context
    loss = validation(runner.model.eval(), held_out)
    return Finish(runner.name, spent, steps, tokens, loss, runner.model.num_parameters())
