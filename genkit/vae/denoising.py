"""Cleaning a spoilt digit: the denoising variant against a plain autoencoder and a median filter, with what each gains in dB."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from PIL import Image, ImageFilter

from genkit import core, images
from genkit.vae.codes import means, prepared
from genkit.vae.model import VAE, draw
from genkit.vae.noise import KINDS
from genkit.vae.photo import psnr


@dataclass(frozen=True)
class Denoised:
    """Pictures 28 x 28, mode L. psnr: peak signal-to-noise ratio in dB against the clean one, of `noisy` and of each answer; more is nearer."""

    clean: Image.Image
    noisy: Image.Image
    answers: dict[str, Image.Image]  # by the name of the model, and "median": a filter of 3 x 3 pixels, without learning
    psnr: dict[str, float]


@torch.inference_mode()
def denoise(models: Mapping[str, VAE], picture: Image.Image, kind: str, strength: float, seed: int = 0) -> Denoised:
    """Spoil a digit in one of KINDS, strength 0 to 1 (moved into that range), and let each of the models (by name) and a median filter clean it.

    Raises Problem for an unknown kind.
    """
    spoil = core.pick(KINDS, kind, "kind of noise", "噪声种类")
    strength = core.number(strength, 0, 1, ("strength", "强度"))
    (clean,) = prepared([picture])
    x = images.from_pil([clean], "L")
    noisy = spoil(x, torch.full((1, 1, 1, 1), strength), core.seeded(seed, kind))
    (shown,) = images.to_pil(noisy)
    answers = {name: images.to_pil(draw(model, *means(model, [shown])))[0] for name, model in models.items()} | {
        "median": shown.filter(ImageFilter.MedianFilter(3))
    }
    return Denoised(clean, shown, answers, {name: psnr(clean, answer) for name, answer in {"noisy": shown, **answers}.items()})
