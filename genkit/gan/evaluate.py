"""Does the GAN draw the digit that was asked for, and all ten? Judged by the shipped classifier."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from genkit import classifier, images
from genkit.gan import VARIANTS
from genkit.gan.model import DIGITS, load, sample_many


def asked_for(model, n: int = 1000, seed: int = 0) -> tuple[float, torch.Tensor]:
    """The share of n samples that are the digit asked for, and how often each digit came, (10,). n / 10 of each are asked for."""
    pictures = [picture for part in range(0, n, 500) for picture in sample_many(model, [(DIGITS, min(500, n - part), seed + part)])[0]]
    seen = classifier.classify(images.from_pil(pictures, "L")).argmax(dim=1)
    wanted = torch.arange(n) % 500 % 10  # every part begins at 0 again
    return (seen == wanted).float().mean().item(), seen.bincount(minlength=10)


def entropy(counts: torch.Tensor) -> float:
    """Entropy in nats of a histogram; log 10 = 2.303 where ten digits are equally frequent, 0 where one is all there is."""
    p = counts / counts.sum()
    return -torch.special.xlogy(p, p).sum().item()


def report(options) -> Iterator[str]:
    """A line for each variant."""
    n = options.n or 1000
    for variant in VARIANTS:
        model = load(variant)
        right, counts = asked_for(model, n, options.seed)
        sizes = [sum(p.numel() for p in player.parameters()) for player in (model.generator, model.discriminator)]
        yield (
            f"gan {variant}: the digit asked for in {right:.1%} of {n:,} samples, {int((counts > 0).sum())} of 10 digits covered, "
            f"entropy {entropy(counts):.3f} of 2.303 nats; G {sizes[0]:,} + D {sizes[1]:,} parameters"
        )
