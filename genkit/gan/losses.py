"""What the players minimise: five losses, and two penalties on the slope of D.

All of them take logits of D, any shape: on real digits, on generated ones and on real ones under a wrong label. The last are called fake as well, half of
what is at first: that teaches D, and through it G, the label many times sooner. Reed et al. 2016, algorithm 1 (GAN-CLS): https://arxiv.org/abs/1605.05396.
Later they do harm: G keeps away from real digits that look a little like another one, and its digits become all too typical. So their share fades.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F

softplus = F.softplus  # softplus(-logit) = -log D, softplus(logit) = -log(1 - D)


class Loss(NamedTuple):
    """d(real, fake) and g(fake), each for logits of any shape, elementwise."""

    real: Callable[[torch.Tensor], torch.Tensor]
    fake: Callable[[torch.Tensor], torch.Tensor]
    g: Callable[[torch.Tensor], torch.Tensor]


LOSSES: dict[str, Loss] = {
    # Goodfellow et al. 2014: equation 1; then the loss of section 3, whose gradient does not vanish while D wins
    "minimax": Loss(lambda real: softplus(-real), softplus, lambda fake: -softplus(fake)),
    "non-saturating": Loss(lambda real: softplus(-real), softplus, lambda fake: softplus(-fake)),
    "wasserstein": Loss(lambda real: -real, lambda fake: fake, lambda fake: -fake),  # Arjovsky et al. 2017: https://arxiv.org/abs/1701.07875
    "hinge": Loss(lambda real: F.relu(1 - real), lambda fake: F.relu(1 + fake), lambda fake: -fake),  # Lim & Ye 2017: https://arxiv.org/abs/1705.02894
    # Mao et al. 2017: https://arxiv.org/abs/1611.04076
    "least-squares": Loss(lambda real: (real - 1) ** 2, lambda fake: fake**2, lambda fake: (fake - 1) ** 2),
}


def loss_d(real, fake, mismatched, share: float = 0.5, kind: str = "non-saturating", smoothing: float = 0.0) -> torch.Tensor:
    """What D minimises; `share` of what it should call fake is mismatched.

    With smoothing s a real digit counts as real by 1 - s and as fake by s: Salimans et al. 2016, section 3.4: https://arxiv.org/abs/1606.03498
    """
    loss = LOSSES[kind]
    on_real = loss.real(real).mean() if not smoothing else ((1 - smoothing) * loss.real(real) + smoothing * loss.fake(real)).mean()
    return on_real + (1 - share) * loss.fake(fake).mean() + share * loss.fake(mismatched).mean()


def loss_g(fake: torch.Tensor, kind: str = "non-saturating") -> torch.Tensor:
    """What G minimises."""
    return LOSSES[kind].g(fake).mean()


def slope(judge, x: torch.Tensor) -> torch.Tensor:
    """||grad_x judge(x)||^2 of each picture (B,), itself differentiable. judge: pictures -> logits (B,)."""
    x = x.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(judge(x).sum(), x, create_graph=True)
    return gradient.flatten(1).square().sum(dim=1)


def gradient_penalty(judge, real: torch.Tensor, fake: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """10 (||grad D(x_hat)|| - 1)^2 at random points x_hat between real and fake, both (B, 1, 28, 28).

    WGAN-GP, Gulrajani et al. 2017, equation 3: https://arxiv.org/abs/1704.00028
    """
    a = torch.rand(len(real), 1, 1, 1, generator=rng).to(real)
    return 10 * ((slope(judge, real.lerp(fake, a)) + 1e-12).sqrt() - 1).square().mean()


def r1_penalty(judge, real: torch.Tensor, fake: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """||grad D(x)||^2 / 20 at real digits: D may not be steep where it is right. Mescheder et al. 2018, equation 9: https://arxiv.org/abs/1801.04406"""
    return 0.05 * slope(judge, real).mean()


PENALTIES = {"gradient": gradient_penalty, "r1": r1_penalty}
