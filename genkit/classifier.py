"""A small convolutional digit classifier: the judge of what gan and vae draw, and the features in which their distance to real digits is measured.

Dimensions: B batch, H = W = 28. Shipped in weights/classifier/digits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from torch import nn

from genkit import core, folders
from genkit.digits import digits, draw, to_float


@dataclass(frozen=True)
class Config:
    channels: tuple[int, int, int] = (24, 48, 96)
    features: int = 128
    steps: int = 3000
    every: int = 500
    batch_size: int = 128
    lr: float = 4e-3


VARIANTS: dict[str, Config] = {"digits": Config()}


class Classifier(nn.Module, PyTorchModelHubMixin):
    """Three convolutions, each halving the picture, and a layer of features; (B, 1, 28, 28) in [-1, 1] -> logits (B, 10)."""

    def __init__(self, channels: list[int] = (24, 48, 96), features: int = 128):
        super().__init__()
        a, b, c = channels
        self.body = nn.Sequential(
            nn.Conv2d(1, a, 5, padding=2, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(a), nn.ReLU(),  # (B, a, 14, 14)
            nn.Conv2d(a, b, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(b), nn.ReLU(),  # (B, b, 7, 7)
            nn.Conv2d(b, c, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(c), nn.ReLU(),  # (B, c, 3, 3)
            nn.Flatten(), nn.Linear(9 * c, features, bias=False), nn.BatchNorm1d(features), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(features, 10)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 1, 28, 28) in [-1, 1] -> (B, F), not negative."""
        return self.body(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x))


def load(source: str | Path = "digits") -> Classifier:
    """The classifier of a variant or of a folder, in eval mode on core.device(). Raises Problem for an unknown name or a damaged file."""
    folder = core.WEIGHTS / "classifier" / source if source in VARIANTS else Path(source)
    return folders.read(Classifier, folder).to(core.device())


def save(model: Classifier, path: Path) -> None:
    """Write config.json and model.safetensors into folder `path`. Raises Problem for a full disk."""
    folders.write(model, path)


@cache
def shipped() -> Classifier:
    """The shipped classifier, loaded once."""
    return load("digits")


@torch.inference_mode()
def classify(x: torch.Tensor, model: Classifier | None = None) -> torch.Tensor:
    """Probabilities (B, 10), on the CPU, of digits x (B, 1, 28, 28) in [-1, 1]."""
    model = model or shipped()
    at = next(model.parameters()).device
    return torch.cat([model(part.to(at)).softmax(dim=1).cpu() for part in x.split(1000)])


@torch.inference_mode()
def features(x: torch.Tensor, model: Classifier | None = None) -> torch.Tensor:
    """Features (B, 128), on the CPU, of digits x (B, 1, 28, 28) in [-1, 1]: what distances between sets of digits are measured in."""
    model = model or shipped()
    at = next(model.parameters()).device
    return torch.cat([model.features(part.to(at)).cpu() for part in x.split(1000)])


def jitter(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Turn each digit up to 12 degrees, scale it by up to 12 %, shear it up to 0.15 and move it up to 2 pixels; (B, 1, 28, 28) in [-1, 1]."""
    turn, zoom, shear, right, down = torch.empty(5, len(x)).uniform_(-1, 1, generator=rng) * torch.tensor([[0.21], [0.12], [0.15], [1 / 7], [1 / 7]])
    cos, sin = turn.cos() * (1 + zoom), turn.sin() * (1 + zoom)
    theta = torch.stack([torch.stack([cos, shear - sin, right], 1), torch.stack([sin, cos, down], 1)], 1)  # (B, 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x + 1, grid, align_corners=False) - 1  # outside is 0 to grid_sample: make that the paper


def one_cycle(step: int, steps: int, lr: float) -> float:
    """Rise to lr over the first fifth, fall to 0 along a cosine. Smith & Topin 2017: https://arxiv.org/abs/1708.07120"""
    rise = max(steps // 5, 1)
    return lr * (step + 1) / rise if step < rise else lr * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1)))


def train(variant: str = "digits", *, steps=None, every=None, batch_size=None, lr=None, seed=0, checkpoint=None, download=False) -> Iterator[core.Event]:
    """Learn the training digits, each jittered; metrics are the loss and the share of the first 1,000 test digits that are right."""
    config = core.pick(VARIANTS, variant, "classifier", "分类器")
    steps, every, batch_size, lr = steps or config.steps, every or config.every, batch_size or config.batch_size, lr or config.lr
    (x, y), test = digits("train", download), digits("test", download)
    acc = core.accelerator()
    model = core.build(lambda: Classifier(list(config.channels), config.features), seed)
    model, optimizer = acc.prepare(model, torch.optim.AdamW(model.parameters(), lr, weight_decay=0.05))
    start, losses = core.resume(acc, checkpoint), []
    yield _event(acc, model, start, steps, losses, test)
    for step in range(start, steps):
        losses.append(_step(acc, model, optimizer, draw_jittered(x, y, batch_size, core.seeded(seed, step, acc.process_index)), one_cycle(step, steps, lr)))
        if (step + 1) % every == 0 or step + 1 == steps:
            core.keep(acc, checkpoint, step + 1)
            yield _event(acc, model, step + 1, steps, losses, test)
            losses = []


def draw_jittered(x, y, n: int, rng: torch.Generator):
    """n digits drawn from x, y, each jittered: (n, 1, 28, 28) and (n,)."""
    real, labels = draw(x, y, n, rng)
    return jitter(real, rng), labels


@torch.enable_grad()
def _step(acc, model, optimizer, batch, lr: float) -> torch.Tensor:
    model.train()
    real, labels = (part.to(acc.device) for part in batch)
    for group in optimizer.param_groups:
        group["lr"] = lr
    loss = F.cross_entropy(model(real), labels, label_smoothing=0.05)
    optimizer.zero_grad()
    acc.backward(loss)
    optimizer.step()
    return loss.detach()


def _event(acc, model, step: int, steps: int, losses: list, test) -> core.Event:
    plain = acc.unwrap_model(model).eval()
    right = accuracy(plain, *(part[:1000] for part in test))
    metrics = {"loss": torch.stack(losses).mean().item(), "accuracy": right} if losses else {}
    return core.Event(step, steps, metrics, plain, f"{right:.1%} of 1,000 test digits right")


def accuracy(model: Classifier, x: torch.Tensor, y: torch.Tensor) -> float:
    """The share of digits x (N, 28, 28) uint8 whose most probable class is y (N,)."""
    return (classify(to_float(x), model).argmax(dim=1) == y).float().mean().item()


def report(options) -> Iterator[str]:
    """Lines on the shipped classifier: what share of the test digits is right."""
    x, y = digits("test", options.download)
    model = shipped()
    parameters = sum(p.numel() for p in model.parameters())
    yield f"classifier digits: {parameters:,} parameters, {accuracy(model, x, y):.2%} of {len(x):,} test digits right"
