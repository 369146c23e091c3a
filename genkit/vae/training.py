"""The evidence lower bound (ELBO) and how a VAE is trained on it. Dimensions as in model.py."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from genkit import core
from genkit.digits import digits, draw
from genkit.vae import VARIANTS
from genkit.vae.model import VAE, sample


def reconstruction_error(logits: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """-log p(x|z) in nats, (B,): binary cross-entropy of logits (B, 1, 28, 28) with x in [-1, 1], its pixels taken as probabilities of white."""
    # summed over pixels: a mean would shrink this term 784-fold against the KL
    return F.binary_cross_entropy_with_logits(logits, (x + 1) / 2, reduction="none").flatten(1).sum(dim=1)


def divergence(mu: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    """KL(N(mu, exp(logvar)) || N(0, I)) in nats, (B,). Kingma & Welling 2013, appendix B: https://arxiv.org/abs/1312.6114"""
    return -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(dim=1)


def elbo_terms(logits: torch.Tensor, x: torch.Tensor, mu: torch.Tensor, logvar: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The two terms of the negative ELBO, in nats per picture: reconstruction and KL, each a mean over the batch (equation 10)."""
    return reconstruction_error(logits, x).mean(), divergence(mu, logvar).mean()


def train(variant: str, *, steps=None, every=None, batch_size=None, lr=None, seed=0, checkpoint=None, download=False) -> Iterator[core.Event]:
    """Maximise the ELBO of the training digits; the learning rate falls to 0 along a straight line. metrics: loss, recon, kl, in nats per digit.

    A run resumed from `checkpoint` equals an unbroken one. Raises Problem for an unknown variant or where there are no digits.
    """
    config = core.pick(VARIANTS, variant, "VAE variant", "VAE 变体")
    steps, every, batch_size, lr = steps or config.steps, every or config.every, batch_size or config.batch_size, lr or config.lr
    x, y = digits("train", download)
    acc = core.accelerator()
    model = core.build(lambda: VAE(config.arch, config.latent_dim, config.channels), seed)
    model.to(memory_format=torch.channels_last)  # convolutions are a third faster on a CPU
    model, optimizer = acc.prepare(model, torch.optim.Adam(model.parameters(), lr))
    start, terms = core.resume(acc, checkpoint), []
    yield _event(acc, model, start, steps, terms, seed)
    for step in range(start, steps):
        rng = core.seeded(seed, step, acc.process_index)
        real, _ = draw(x, y, batch_size, rng)
        noise = torch.randn(batch_size, config.latent_dim, generator=rng)
        terms.append(_step(acc, model, optimizer, real.to(acc.device), noise.to(acc.device), config.beta, lr * (1 - step / steps)))
        if (step + 1) % every == 0 or step + 1 == steps:
            core.keep(acc, checkpoint, step + 1)
            yield _event(acc, model, step + 1, steps, terms, seed)
            terms = []


@torch.enable_grad()
def _step(acc, model, optimizer, x: torch.Tensor, noise: torch.Tensor, beta: float, lr: float) -> torch.Tensor:
    """One step of Adam; recon and kl as (2,)."""
    model.train()
    for group in optimizer.param_groups:
        group["lr"] = lr
    logits, mu, logvar = model(x, noise)
    recon, kl = elbo_terms(logits, x, mu, logvar)
    optimizer.zero_grad()
    acc.backward(recon + beta * kl)
    optimizer.step()
    return torch.stack([recon, kl]).detach()


def _event(acc, model, step: int, steps: int, terms: list[torch.Tensor], seed: int) -> core.Event:
    plain = acc.unwrap_model(model).eval()
    recon, kl = torch.stack(terms).mean(dim=0).tolist() if terms else (0, 0)
    metrics = {"loss": recon + kl, "recon": recon, "kl": kl} if terms else {}
    return core.Event(step, steps, metrics, plain, next(sample(plain, seed=seed)))
