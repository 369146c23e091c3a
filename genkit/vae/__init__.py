"""Variational autoencoders: a digit is squeezed to a few numbers z ~ q(z|x) and drawn again from them, p(x|z).

Kingma & Welling 2013: https://arxiv.org/abs/1312.6114. The pretrained ones are the autoencoders of Stable Diffusion, for photos.
This file stays light: torch is imported when load, train, sample ... are first asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from genkit import core
from genkit.core import Remote


@dataclass(frozen=True)
class Rules:
    """Of the bargain between the two terms of the ELBO: what may be changed while a run goes on (core.Control)."""

    beta: float = 1.0  # weight of the KL term; 1 is the ELBO. Higgins et al. 2017: https://openreview.net/forum?id=Sy2fzU9gl
    free_bits: float = 0.0  # nats per latent number that cost nothing. Kingma et al. 2016, equation 15: https://arxiv.org/abs/1606.04934
    warmup: int = 0  # steps over which beta grows from 0, counted from where this rule was set. Sonderby et al. 2016: https://arxiv.org/abs/1602.02282


@dataclass(frozen=True)
class Config:
    """One variant: its network and the recipe that its shipped weights were trained with."""

    arch: str  # a key of networks.ARCHITECTURES
    latent_dim: int
    channels: int  # width: of the hidden layer (mlp, wide), of the first feature map (deep, narrow)
    rules: Rules = Rules()
    variational: bool = True  # False: a plain autoencoder, z = mu, no KL and no prior
    conditional: bool = False  # whether encoder and decoder are told which digit it is. Sohn et al. 2015
    corrupt: bool = False  # whether the encoder sees a corrupted digit (noise.KINDS) and the clean one must be drawn
    binarised: bool = False  # whether each pixel of a training digit is black or white by chance, anew each time. Burda et al. 2016
    importance: int = 1  # samples z of each digit: more than 1 tightens the bound, with weights (IWAE), where the Rules do not count
    steps: int = 9000
    every: int = 100  # steps between events
    batch_size: int = 128
    lr: float = 2e-3


def _deep(**changes) -> Config:
    return Config(**{"arch": "deep", "latent_dim": 32, "channels": 32, "steps": 2000, "batch_size": 64, "lr": 3e-3, **changes})


VARIANTS: dict[str, Config] = {
    "mlp": Config(arch="mlp", latent_dim=64, channels=256, steps=4000),
    "conv": _deep(steps=6000),
    "conv2d": _deep(arch="narrow", latent_dim=2, channels=16, steps=3000),
    "ae": _deep(variational=False),
    "ae2d": _deep(arch="narrow", latent_dim=2, channels=16, variational=False, steps=3000),
    "conditional": _deep(conditional=True),
    "beta-0.1": _deep(rules=Rules(beta=0.1)),
    "beta-4": _deep(rules=Rules(beta=4.0)),
    "beta-16": _deep(rules=Rules(beta=16.0)),
    "denoise": _deep(rules=Rules(beta=0.1), corrupt=True),
}
KINDS = ("gaussian", "salt-and-pepper", "blot", "blur")  # of noise: see noise.py
ODD = ("letters", "scribbles", "noise", "fashion")  # sources of what is no digit: see anomaly.py
GENERATORS = ("repeat", "conditional", "dcgan")  # what fills up a rare class: see balance.py
PRETRAINED: dict[str, Remote] = {
    "sd-vae": Remote("stabilityai/sd-vae-ft-mse", 335_000_000, "MIT", files=("config.json", "diffusion_pytorch_model.safetensors"), memory=2_000_000_000),
    "taesd": Remote("madebyollin/taesd", 9_800_000, "MIT", files=("config.json", "diffusion_pytorch_model.safetensors"), memory=400_000_000),
}

__getattr__ = core.lazily(__name__, {
    "VAE": "model", "load": "model", "save": "model", "sample": "model", "train": "training", "elbo_terms": "training", "report": "evaluate",
    "Reconstruction": "codes", "Code": "codes", "reconstruct": "codes", "reconstruct_many": "codes", "encode_many": "codes", "decode_many": "codes",
    "in_hand": "codes", "interpolate": "codes", "arithmetic": "codes", "Atlas": "maps", "atlas": "maps",
    "denoise": "denoising", "Denoised": "denoising", "augment": "balance", "Augmented": "balance", "normal": "anomaly", "odd": "anomaly",
    "scores": "anomaly", "roc": "anomaly", "held_out_class": "anomaly", "tabular": "anomaly",
    "digit_from": "pictures", "reconstruct_photo": "photo",
})  # fmt: skip
