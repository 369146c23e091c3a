"""Small VAEs on data of one's own, for the experiments: without checkpoints, over in seconds. Dimensions as in model.py."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from genkit import core
from genkit.digits import to_float
from genkit.vae.elbo import divergence, reconstruction_error
from genkit.vae.model import VAE

REPORT = 50  # steps between two reports


def small(latent_dim: int, seed: int, *, arch: str = "mlp", channels: int = 256, conditional: bool = False) -> VAE:
    """A VAE that learns digits in seconds."""
    return core.build(lambda: VAE(arch, latent_dim, channels, conditional=conditional), seed).to(core.device())


def fit(model, draw, *, steps: int, lr: float, seed: int, error=reconstruction_error, falls: bool = True) -> Iterator[float]:
    """Minimise error(model's output, x) + KL by Adam, its learning rate falling to 0 if `falls`; yields the share of the steps that are done. Ends in eval mode.

    draw(rng) gives a batch: x, and labels or None.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr)
    for step in range(steps):
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / steps if falls else 1)
        _step(model, optimizer, draw, core.seeded(seed, step), error)
        if (step + 1) % REPORT == 0 or step + 1 == steps:
            model.eval()
            yield (step + 1) / steps


@torch.enable_grad()
def _step(model, optimizer, draw, rng: torch.Generator, error) -> None:
    x, y = draw(rng)
    at = core.device()
    noise = torch.randn(len(x), model.latent_dim, generator=rng).to(at)
    x = x.to(at)
    output, mu, logvar = model(x, noise) if y is None else model(x, noise, y.to(at))
    optimizer.zero_grad()
    (error(output, x) + divergence(mu, logvar)).mean().backward()
    optimizer.step()


def evenly(x: torch.Tensor, y: torch.Tensor, n: int):
    """A draw of n digits x (N, 28, 28) uint8 with each class as often as any other: a rare one is seen again and again."""
    members = [torch.nonzero(y == digit).flatten() for digit in y.unique().tolist()]

    def draw(rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        classes = torch.randint(len(members), (n,), generator=rng).tolist()
        places = torch.rand(n, generator=rng)
        chosen = torch.stack([members[c][int(place * len(members[c]))] for c, place in zip(classes, places.tolist(), strict=True)])
        return to_float(x[chosen]), y[chosen].long()

    return draw


def plainly(x: torch.Tensor, n: int):
    """A draw of n digits x (N, 28, 28) uint8, without their labels."""

    def draw(rng: torch.Generator) -> tuple[torch.Tensor, None]:
        return to_float(x[torch.randint(len(x), (n,), generator=rng)]), None

    return draw
