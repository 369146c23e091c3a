"""Does a digit stay the same digit on its way through the VAE, and how many nats does it cost? Judged by the shipped classifier."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from genkit import classifier, core
from genkit.digits import digits, to_float
from genkit.vae import VARIANTS
from genkit.vae.model import VAE, load
from genkit.vae.training import elbo_terms


@torch.inference_mode()
def kept(model: VAE, x: torch.Tensor, y: torch.Tensor) -> float:
    """The share of digits x (N, 1, 28, 28) in [-1, 1] that the classifier still takes for y (N,) when they are drawn again from z = mu."""
    drawn = [model.decode(model.encode(part)[0]).sigmoid() * 2 - 1 for part in x.to(core.device()).split(1000)]
    return (classifier.classify(torch.cat(drawn)).argmax(dim=1) == y).float().mean().item()


@torch.inference_mode()
def negative_elbo(model: VAE, x: torch.Tensor, seed: int = 0) -> tuple[float, float]:
    """Reconstruction and KL in nats per digit, one z ~ q(z|x) for each of x (N, 1, 28, 28) in [-1, 1]."""
    noise = torch.randn(len(x), model.latent_dim, generator=core.seeded(seed))
    totals = torch.zeros(2, dtype=torch.float64)
    for part, its_noise in zip(x.split(1000), noise.split(1000), strict=True):
        part, its_noise = part.to(core.device()), its_noise.to(core.device())
        logits, mu, logvar = model(part, its_noise)
        totals += torch.stack(elbo_terms(logits, part, mu, logvar)).cpu().double() * len(part)
    recon, kl = (totals / len(x)).tolist()
    return recon, kl


def report(options) -> Iterator[str]:
    """A line for each variant, and one for what the classifier makes of the digits themselves."""
    levels, y = digits("test", options.download)
    n = min(options.n or len(levels), len(levels))
    x, y = to_float(levels[:n]), y[:n]
    yield f"vae: {n:,} test digits; the classifier takes {(classifier.classify(x).argmax(dim=1) == y).float().mean().item():.2%} of them for what they are"
    for variant in VARIANTS:
        model = load(variant)
        recon, kl = negative_elbo(model, x, options.seed)
        parameters = sum(p.numel() for p in model.parameters())
        yield (
            f"vae {variant}: class kept in {kept(model, x, y):.2%} of {n:,} test digits, negative ELBO {recon + kl:.2f} nats a digit "
            f"= reconstruction {recon:.2f} + KL {kl:.2f}; Z = {model.latent_dim}, {parameters:,} parameters"
        )
