"""Variational autoencoders: a digit is squeezed to a few numbers z ~ q(z|x) and drawn again from them, p(x|z).

Kingma & Welling 2013: https://arxiv.org/abs/1312.6114. The pretrained ones are the autoencoders of Stable Diffusion, for photos.
This file stays light: torch is imported when load, train, sample ... are first asked for.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from genkit.core import Remote


@dataclass(frozen=True)
class Config:
    """One variant: its network and the recipe that its shipped weights were trained with."""

    arch: str  # a key of model.ARCHITECTURES
    latent_dim: int
    channels: int  # width: of the hidden layer (mlp), of the first feature map (conv)
    beta: float = 1.0  # weight of the KL term; 1 is the ELBO, more is beta-VAE
    steps: int = 9000
    every: int = 100  # steps between events
    batch_size: int = 128
    lr: float = 2e-3


VARIANTS: dict[str, Config] = {
    "mlp": Config(arch="mlp", latent_dim=64, channels=256, steps=4000),
    "conv": Config(arch="conv", latent_dim=32, channels=32, steps=2500, batch_size=64),
}
PRETRAINED: dict[str, Remote] = {
    "sd-vae": Remote("stabilityai/sd-vae-ft-mse", 335_000_000, "MIT", files=("config.json", "diffusion_pytorch_model.safetensors"), memory=2_000_000_000),
    "taesd": Remote("madebyollin/taesd", 9_800_000, "MIT", files=("config.json", "diffusion_pytorch_model.safetensors"), memory=400_000_000),
}

_HEAVY = {
    "VAE": "model", "Reconstruction": "model", "load": "model", "save": "model", "sample": "model", "reconstruct": "model", "reconstruct_many": "model",
    "digit_from": "pictures", "reconstruct_photo": "photo", "train": "training", "elbo_terms": "training", "report": "evaluate",
}  # fmt: skip


def __getattr__(name: str):
    if name not in _HEAVY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HEAVY[name]}"), name)
