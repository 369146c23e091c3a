"""The two terms of the evidence lower bound (ELBO). Dimensions as in model.py."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F


def reconstruction_error(logits: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """-log p(x|z) in nats, (B,): binary cross-entropy of logits (B, 1, 28, 28) with x in [-1, 1], its pixels taken as probabilities of white."""
    # summed over pixels: a mean would shrink this term 784-fold against the KL
    return F.binary_cross_entropy_with_logits(logits, (x + 1) / 2, reduction="none").flatten(1).sum(dim=1)


def divergences(mu: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    """KL(N(mu, exp(logvar)) || N(0, I)) in nats, of each latent number (B, Z). Kingma & Welling 2013, appendix B: https://arxiv.org/abs/1312.6114

    0 for the code of a plain autoencoder (logvar = -inf): nobody asks it for a likeness to the prior.
    """
    return torch.where(logvar.isneginf(), 0.0, -0.5 * (1 + logvar - mu**2 - logvar.exp()))


def divergence(mu: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    """The sum of divergences() over the latent numbers, (B,)."""
    return divergences(mu, logvar).sum(dim=1)


def elbo_terms(logits: torch.Tensor, x: torch.Tensor, mu: torch.Tensor, logvar: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The two terms of the negative ELBO, in nats per picture: reconstruction and KL, each a mean over the batch (equation 10)."""
    return reconstruction_error(logits, x).mean(), divergence(mu, logvar).mean()


def log_weights(logits: torch.Tensor, x: torch.Tensor, z: torch.Tensor, mu: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    """log p(x|z) + log p(z) - log q(z|x) in nats, (B,), for z (B, Z) drawn from q. Its mean over z is the ELBO."""
    prior, posterior = -0.5 * z.square(), -0.5 * (logvar + (z - mu).square() / logvar.exp())  # both less log(2 pi) / 2
    return (prior - posterior).sum(dim=1) - reconstruction_error(logits, x)


def importance_bound(weights: torch.Tensor) -> torch.Tensor:
    """log 1/k sum exp(weights), (B,), of the log weights (k, B) of k samples: never below the ELBO. Burda et al. 2016, equation 8: https://arxiv.org/abs/1509.00519"""
    return weights.logsumexp(dim=0) - math.log(len(weights))


def binarised(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Each pixel of x in [-1, 1] white (1) with the probability that its grey says, else black (-1). Salakhutdinov & Murray 2008"""
    return torch.bernoulli((x + 1) / 2, generator=rng) * 2 - 1
