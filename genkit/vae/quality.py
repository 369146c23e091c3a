"""How good is a VAE by now? What it costs on digits it learns and on others, how much of its code it uses, how much of a digit survives."""

from __future__ import annotations

from functools import cache

import torch

from genkit import classifier, core
from genkit.digits import digits, to_float
from genkit.images import to_pil
from genkit.vae.doctor import Exam
from genkit.vae.elbo import divergences, reconstruction_error
from genkit.vae.model import VAE

EXAMINED = 200  # digits of either kind
ACTIVE = 0.01  # nats: a latent number with less KL than this says nothing about the digit


def roughness(x: torch.Tensor) -> float:
    """Mean absolute difference between neighbouring pixels of pictures x (N, 1, 28, 28)."""
    return ((x.diff(dim=2).abs().mean() + x.diff(dim=3).abs().mean()) / 2).item()


@cache
def unseen(n: int = EXAMINED) -> tuple[torch.Tensor, torch.Tensor]:
    """n test digits chosen at random (n, 1, 28, 28), and their labels (n,)."""
    x, y = digits("test")
    chosen = torch.randperm(len(x), generator=core.seeded(0, "test"))[:n]
    return to_float(x[chosen]), y[chosen].long()


@torch.inference_mode()
def measure(model: VAE, x: torch.Tensor, y: torch.Tensor) -> tuple[float, torch.Tensor, torch.Tensor]:
    """Mean reconstruction in nats of one z ~ q(z|x) each, mean KL of each latent number (Z,), and what is drawn from z = mu (N, 1, 28, 28)."""
    at = core.device()
    noise = torch.randn(len(x), model.latent_dim, generator=core.seeded(0, "exam")).to(at)
    x, y = x.to(at), y.to(at)
    logits, mu, logvar = model(x, noise, y)
    return reconstruction_error(logits, x).mean().item(), divergences(mu, logvar).mean(dim=0), model.decode(mu, y).sigmoid().cpu() * 2 - 1


def examine(model: VAE, x: torch.Tensor, y: torch.Tensor, step: int, metrics: dict[str, float], seconds: float) -> Exam:
    """Examine a model in eval mode. x (N, 28, 28), y (N,): the training digits, uint8; metrics: their means since the last event."""
    spread = torch.linspace(0, len(x) - 1, min(EXAMINED, len(x))).long()  # they may lie in order of label
    recon, kl, _ = measure(model, to_float(x[spread]), y[spread].long())
    others, labels = unseen()
    test_recon, test_kl, drawn = measure(model, others, labels)
    kept = (classifier.classify(drawn.nan_to_num()).argmax(dim=1) == labels).float().mean().item()
    sharpness = roughness(drawn.nan_to_num()) / roughness(others)
    active = int((test_kl > ACTIVE).sum()) if model.variational else model.latent_dim
    shown = [int((labels == digit).nonzero()[0]) for digit in range(10)]
    pictures = tuple(zip(to_pil(others[shown]), to_pil(drawn[shown].nan_to_num()), strict=True))
    return Exam(step, recon, kl.sum().item(), test_recon, test_kl.sum().item(), active, kept, sharpness, metrics, seconds, pictures)
