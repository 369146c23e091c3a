"""Generative adversarial networks that draw the digit asked for: a generator G learns to fool a discriminator D.

Goodfellow et al. 2014: https://arxiv.org/abs/1406.2661; told which digit by Mirza & Osindero 2014: https://arxiv.org/abs/1411.1784.
This file stays light: torch is imported when load, train, sample ... are first asked for.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from genkit.core import Remote


@dataclass(frozen=True)
class Config:
    """One variant: its networks and the recipe that its shipped weights were trained with."""

    arch: str  # a key of model.ARCHITECTURES
    latent_dim: int
    channels: int  # width: of the last feature map before the picture (dcgan), of the first hidden layer of G (mlp)
    steps: int = 5000
    every: int = 100  # steps between events
    batch_size: int = 64
    lr: float = 1e-3
    betas: tuple[float, float] = (0.5, 0.999)  # DCGAN, section 4: momentum 0.9 oscillates
    ema: float = 0.999  # the generator that is shown and saved is this running average of the one that is trained


VARIANTS: dict[str, Config] = {
    "mlp": Config(arch="mlp", latent_dim=100, channels=256, steps=12000, lr=4e-4),
    "dcgan": Config(arch="dcgan", latent_dim=64, channels=32),
}
PRETRAINED: dict[str, Remote] = {}

_HEAVY = {"GAN": "model", "load": "model", "save": "model", "sample": "model", "sample_many": "model", "train": "training", "report": "evaluate"}


def __getattr__(name: str):
    if name not in _HEAVY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HEAVY[name]}"), name)
