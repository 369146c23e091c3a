"""Diffusion: pictures out of noise (Ho et al. 2020, https://arxiv.org/abs/2006.11239).

Two variants, both saved as folders of the diffusers library:
- `mini-sd`: a miniature Stable Diffusion (Rombach et al. 2021, https://arxiv.org/abs/2112.10752): an autoencoder to 4 x 16 x 16 latents,
  a CLIP text encoder for English and Chinese, a U-Net that is told the caption by cross-attention. 64 x 64 pictures of emoji.
- `digits`: a small class-conditional U-Net on the pixels of MNIST.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field

from genkit.core import Remote


@dataclass(frozen=True)
class Config:
    """How a variant is trained. A learning rate is the peak of its schedule; steps are optimizer steps."""

    arch: str  # "latent" or "pixel"
    steps: int
    batch_size: int
    lr: float
    every: int  # steps between events
    # only for "latent": steps, batch size and lr of the stages before the U-Net; they are part of `steps`
    autoencoder: dict = field(default_factory=dict)
    decoder: dict = field(default_factory=dict)
    text_encoder: dict = field(default_factory=dict)
    pictures: int = 0  # latents kept for the U-Net


VARIANTS = {
    "mini-sd": Config(
        arch="latent",
        steps=11_000,
        batch_size=32,
        lr=1e-3,
        every=200,
        autoencoder={"steps": 2600, "batch_size": 8, "lr": 2e-3},
        decoder={"steps": 3000, "batch_size": 8, "lr": 1.5e-3},
        text_encoder={"steps": 600, "batch_size": 48, "lr": 1.5e-3},
        pictures=32_000,
    ),
    "digits": Config(arch="pixel", steps=1800, batch_size=32, lr=2e-3, every=50),
}
PRETRAINED: dict[str, Remote] = {}

_HOME = {"load": "pipeline", "save": "pipeline", "sample": "pipeline", "Step": "pipeline", "train": "training"}


def __getattr__(name: str):
    """The heavy names come from their modules when they are first asked for (PEP 562): importing this package costs no torch."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
