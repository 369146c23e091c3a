"""Generative adversarial networks that draw the digit asked for: a generator G learns to fool a discriminator D.

Goodfellow et al. 2014: https://arxiv.org/abs/1406.2661; told which digit by Mirza & Osindero 2014: https://arxiv.org/abs/1411.1784.
This file stays light: torch is imported when load, train, sample ... are first asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from genkit import core
from genkit.core import Remote


@dataclass(frozen=True)
class Rules:
    """Of the game between G and D: what may be changed while it is played (core.Control)."""

    loss: str = "non-saturating"  # a key of losses.LOSSES
    penalty: str = ""  # a key of losses.PENALTIES: on the slope of D
    d_steps: int = 1  # of D for each of G
    g_steps: int = 1
    d_rate: float = 1.0  # times the learning rate of the run
    g_rate: float = 1.0
    smoothing: float = 0.0  # how far the target of D for real digits is below 1: one-sided label smoothing
    crowd: bool = False  # whether D sees how much the pictures of a batch differ
    players: str = "both"  # who learns: a name in PLAYERS
    single: bool = False  # whether every step is reported, as for slow motion


LIVE = 1500  # steps that the page offers first: fewer, and the learning rate falls before anything has been learnt
PLAYERS = ("both", "d", "g")
OPTIMIZERS = ("adam", "rmsprop", "sgd")


@dataclass(frozen=True)
class Config:
    """One variant: its networks and the recipe that its shipped weights were trained with."""

    arch: str  # a key of networks.ARCHITECTURES
    latent_dim: int
    channels: int  # width: of the last feature map before the picture (dcgan), of the first hidden layer of G (mlp)
    d_channels: int = 0  # of D, where it is not that of G
    conditional: bool = True  # whether G and D are told which digit
    mismatched: int = 4000  # steps over which the share of wrong labels in what D should call fake falls from 1/2 to 0
    steps: int = 12000
    every: int = 100  # steps between events
    batch_size: int = 64
    lr: float = 1e-3
    optimizer: str = "adam"  # a name in OPTIMIZERS
    betas: tuple[float, float] = (0.5, 0.999)  # DCGAN, section 4: momentum 0.9 oscillates
    ema: float = 0.999  # the generator that is shown and saved is this running average of the one that is trained
    rules: Rules = Rules()
    recognisable: int = 0  # steps until 90 % are the digit asked for, in trainings of LIVE steps or more: what a time promise is made from; 0: none is made
    teacher: str = ""  # the variant whose pictures the generator learns to repeat, beside playing


_WGAN_GP = Rules(loss="wasserstein", penalty="gradient", d_steps=2)
VARIANTS: dict[str, Config] = {
    "dcgan": Config(arch="deep", latent_dim=64, channels=32, rules=Rules(penalty="r1"), recognisable=285),
    "unconditional": Config(arch="dcgan", latent_dim=64, channels=32, conditional=False),
    "mlp": Config(arch="mlp", latent_dim=100, channels=256, mismatched=40_000, steps=6000, lr=4e-4),
    "wgan-gp": Config(arch="dcgan", latent_dim=64, channels=32, steps=15000, betas=(0.0, 0.9), rules=_WGAN_GP),
    "style": Config(arch="style", latent_dim=64, channels=32, steps=15000, betas=(0.0, 0.9), rules=_WGAN_GP),
    "student": Config(arch="deep", latent_dim=64, channels=16, d_channels=32, steps=8000, rules=Rules(penalty="r1"), teacher="dcgan"),
}
PRETRAINED: dict[str, Remote] = {}

__getattr__ = core.lazily(__name__, {
    "GAN": "model", "load": "model", "save": "model", "sample": "model", "sample_many": "model", "train": "training", "report": "evaluate",
    "judge": "verdict", "reference": "verdict", "nearest": "copies", "training_digit": "copies", "measure": "compare", "recognised": "compare",
    "Spot": "latent", "LAYERS": "latent", "morph": "latent", "mix": "latent", "truncate": "latent", "plane_many": "latent", "lattice": "latent",
    "circle": "latent",
})  # fmt: skip
