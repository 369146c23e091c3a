"""Two GANs side by side on the same noise: how large, how fast, how far from real digits, how often the digit asked for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch
from PIL.Image import Image

from genkit import classifier, core, images
from genkit.gan import quality
from genkit.gan.model import DIGITS, GAN, labels, noise
from genkit.together import once_each

N = 1000  # samples, and real test digits, between which the Frechet distance is measured


@dataclass(frozen=True)
class Measured:
    parameters: int  # of the generator
    milliseconds: float  # for 64 digits, from noise to pixels
    frechet: float  # distance of 1,000 samples to real test digits


def recognised(pictures: Sequence[Image]) -> list[int]:
    """Which digits the shipped classifier sees in pictures 28 x 28, white ink on black."""
    return classifier.classify(images.from_pil(list(pictures), "L")).argmax(dim=1).tolist()


def measure(models: Sequence[GAN]) -> tuple[list[Measured], float]:
    """Measure these models here and now; beside them the floor: how far as many real digits are from the test digits."""
    milliseconds = race(models)
    sizes = [sum(p.numel() for p in model.generator.parameters()) for model in models]
    return [Measured(*each) for each in zip(sizes, milliseconds, map(distance, models), strict=True)], floor()


@torch.inference_mode()
def race(models: Sequence[GAN], n: int = 64, runs: int = 15) -> list[float]:
    """Milliseconds that each generator takes for n digits, from noise to pixels: the median of `runs`, after two that do not count.

    They take turns, so that whatever else the machine does meanwhile slows all of them.
    """
    dealt = [(noise(model, n, 0).to(core.device()), labels(DIGITS, n).to(core.device())) for model in models]
    taken: list[list[float]] = [[] for _ in models]
    for _ in range(runs + 2):
        for model, (z, y), times in zip(models, dealt, taken, strict=True):
            began = time.perf_counter()
            model.generator(z, y).cpu()  # an accelerator answers before it is done; what is copied is
            times.append(1000 * (time.perf_counter() - began))
    return [median(times[2:]) for times in taken]


@once_each
def distance(model: GAN) -> float:
    """Frechet distance of 1,000 samples to as many real test digits."""
    return quality.frechet(classifier.features(quality.draw(model, N)[0]), quality.real("test", N)[2])


def floor() -> float:
    """Frechet distance of 1,000 real training digits to as many real test digits: better than that is chance."""
    return quality.frechet(quality.real("train", N)[2], quality.real("test", N)[2])
