"""Digits out of a network for a class that has too few: does a classifier learn the rare digit better from them? Held-out test digits decide.

A set in which one class is reduced to n: Chawla et al. 2002 name the problem: https://arxiv.org/abs/1106.1813.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from genkit import core
from genkit.classifier import Classifier, classify, one_cycle
from genkit.digits import digits, draw, to_float
from genkit.vae import GENERATORS
from genkit.vae.fit import evenly, fit, small
from genkit.vae.model import VAE
from genkit.vae.model import draw as sketch

OTHERS = 1000  # training digits of each class that is not rare, or all there are
LATENT, VAE_STEPS, STEPS, BATCH = 16, 600, 250, 64
WITHOUT = "without"


@dataclass(frozen=True)
class Row:
    """Accuracy on the test digits, over the runs."""

    rare: tuple[float, ...]  # share of the rare class that is right, of each run
    whole: tuple[float, ...]  # mean of the shares of the ten classes

    @property
    def mean(self) -> float:
        return statistics.mean(self.rare)

    @property
    def spread(self) -> float:
        """Standard deviation of the runs; 0 for a single one."""
        return statistics.stdev(self.rare) if len(self.rare) > 1 else 0.0


@dataclass(frozen=True)
class Augmented:
    rare: int  # which digit
    n: int  # real examples of it
    rows: dict[str, Row]  # "without" and one for each generator
    filled: int  # examples of the rare class after augmentation: as many as of any other

    def gain(self, generator: str) -> float:
        """In points of accuracy on the rare class."""
        return 100 * (self.rows[generator].mean - self.rows[WITHOUT].mean)


def augment(n: int, generators: Sequence[str] = GENERATORS, seed: int = 0, *, rare: int = 8, runs: int = 3) -> Iterator[float | Augmented]:
    """Train a small classifier on digits of which `rare` has only n examples, and again with the gap filled; yields the share done, then, last, the result.

    generators: "repeat" shows the n again and again; "conditional" is a small conditional VAE that has been trained on the same reduced set, and on nothing
    else; "dcgan" is the GAN of the other tab, which HAS seen all training digits: what it adds is more than the n examples held.
    Raises Problem for an unknown generator.
    """
    n, rare = core.number(n, 1, OTHERS, ("n", "数量"), whole=True), core.number(rare, 0, 9, ("digit", "数字"), whole=True)
    chosen = [core.pick(GENERATORS, name, "generator", "生成器") for name in dict.fromkeys(generators)]
    test, results = _test(rare), {name: [] for name in (WITHOUT, *chosen)}
    stages, done = runs * (1 + len(chosen) + ("conditional" in chosen)), 0
    for run in range(runs):
        x, y, gap = reduced(rare, n, (seed, run))
        for name in results:
            more = None
            if name == "conditional":
                model = small(LATENT, seed + run, conditional=True)
                for share in fit(model, evenly(x, y, 128), steps=VAE_STEPS, lr=2e-3, seed=seed + run):
                    yield (done + share) / stages
                more, done = imagined(model, x, y, rare, gap, (seed, run)), done + 1
            elif name != WITHOUT:
                more = {"repeat": repeated, "dcgan": _dcgan}[name](x[y == rare], rare, gap, (seed, run))
            results[name].append(_accuracy(_learn(*_joined(x, y, more, rare), (seed, run)), *test, rare))
            done += 1
            yield done / stages
    rows = {name: Row(*map(tuple, zip(*found, strict=True))) for name, found in results.items()}
    yield Augmented(rare, n, rows, n + gap)


def reduced(rare: int, n: int, seed: tuple) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Training digits x (N, 28, 28) uint8 and y (N,), n of the rare class and up to 1,000 of each other; how many the rare class lacks."""
    x, y = digits("train")
    order = torch.randperm(len(x), generator=core.seeded(*seed, "reduced"))
    parts = [order[y[order] == digit][: n if digit == rare else OTHERS] for digit in range(10)]
    most = max(map(len, parts))
    kept = torch.cat(parts)
    return x[kept], y[kept], most - len(parts[rare])


def repeated(few: torch.Tensor, rare: int, gap: int, seed: tuple) -> torch.Tensor:
    """The few, shown again and again: (gap, 28, 28) uint8. What any generator must beat."""
    return few[torch.randint(len(few), (gap,), generator=core.seeded(*seed, "repeated"))]


@torch.inference_mode()
def imagined(model: VAE, x: torch.Tensor, y: torch.Tensor, rare: int, gap: int, seed: tuple) -> torch.Tensor:
    """(gap, 28, 28) uint8 of the rare digit. How they are written is taken from real digits of all classes: z ~ q(z|x, y), decoded as the rare one."""
    rng, at = core.seeded(*seed, "imagined"), core.device()
    chosen = torch.randint(len(x), (gap,), generator=rng)
    mu, logvar = model.encode(to_float(x[chosen]).to(at), y[chosen].long().to(at))
    z = mu + (logvar / 2).exp() * torch.randn(mu.shape, generator=rng).to(at)
    return _levels(sketch(model, z, torch.full((gap,), rare)))


@torch.inference_mode()
def _dcgan(few: torch.Tensor, rare: int, gap: int, seed: tuple) -> torch.Tensor:
    from genkit import gan

    model, at = gan.load("dcgan"), core.device()
    z = torch.randn(gap, model.latent_dim, generator=core.seeded(*seed, "dcgan")).to(at)
    return torch.cat([_levels(model.generator(part, torch.full((len(part),), rare, device=at))) for part in z.split(500)])


def _levels(x: torch.Tensor) -> torch.Tensor:
    """(B, 1, 28, 28) in [-1, 1] -> (B, 28, 28) uint8 on the CPU."""
    return (x.squeeze(1).cpu().clamp(-1, 1) * 127.5 + 127.5).round().byte()


def _joined(x: torch.Tensor, y: torch.Tensor, more: torch.Tensor | None, rare: int) -> tuple[torch.Tensor, torch.Tensor]:
    return (x, y) if more is None else (torch.cat([x, more]), torch.cat([y, torch.full((len(more),), rare, dtype=y.dtype)]))


@torch.enable_grad()
def _learn(x: torch.Tensor, y: torch.Tensor, seed: tuple) -> Classifier:
    """A small classifier, from scratch."""
    model = core.build(lambda: Classifier([8, 16, 32], 64), seed[0] + seed[1]).to(core.device()).train()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    for step in range(STEPS):
        seen, labels = (part.to(core.device()) for part in draw(x, y, BATCH, core.seeded(*seed, "classifier", step)))
        for group in optimizer.param_groups:
            group["lr"] = one_cycle(step, STEPS, 4e-3)
        optimizer.zero_grad()
        F.cross_entropy(model(seen), labels).backward()
        optimizer.step()
    return model.eval()


def _test(rare: int) -> tuple[torch.Tensor, torch.Tensor]:
    """All test digits of the rare class and 200 of each other, x (N, 28, 28) uint8 and y (N,)."""
    x, y = digits("test")
    chosen = torch.cat([torch.nonzero(y == digit).flatten()[: None if digit == rare else 200] for digit in range(10)])
    return x[chosen], y[chosen]


def _accuracy(model: Classifier, x: torch.Tensor, y: torch.Tensor, rare: int) -> tuple[float, float]:
    """Of the rare class, and the mean of all classes."""
    right = (classify(to_float(x), model).argmax(dim=1) == y).float()
    each = [right[y == digit].mean().item() for digit in range(10)]
    return each[rare], statistics.mean(each)
