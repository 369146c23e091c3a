"""How good are generated digits? Which digits they are, how far they are as a set from real ones, how much they differ among themselves.

Everything is measured in the features (128 numbers a digit) and by the verdict of the shipped digit classifier. N, M pictures, F features.
"""

from __future__ import annotations

from functools import cache

import torch

from genkit import classifier, core, digits
from genkit.gan.doctor import Exam
from genkit.gan.model import DIGITS, GAN, labels, noise


def frechet(a: torch.Tensor, b: torch.Tensor) -> float:
    """Frechet distance between the normal distributions fitted to features a (N, F) and b (M, F); 0 for the same set.

    |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)). Heusel et al. 2017, equation 6: https://arxiv.org/abs/1706.08500 - there with the features of Inception.
    """
    (mu_a, s_a), (mu_b, s_b) = moments(a), moments(b)
    # the trace of the root is the sum of the singular values of S_a^(1/2) S_b^(1/2)
    shared = torch.linalg.svdvals(_root(s_a) @ _root(s_b)).sum()
    return max(0.0, ((mu_a - mu_b).square().sum() + s_a.trace() + s_b.trace() - 2 * shared).item())


def moments(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (F,) and covariance (F, F) in double precision of features (N, F)."""
    features = features.double()
    return features.mean(dim=0), features.T.cov()


def _root(s: torch.Tensor) -> torch.Tensor:
    """The square root of a symmetric positive semi-definite matrix (F, F)."""
    values, vectors = torch.linalg.eigh(s)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


def precision_recall(real: torch.Tensor, fake: torch.Tensor, k: int = 3) -> tuple[float, float]:
    """The share of fake features (N, F) that lie among the real ones (M, F), and of real ones that lie among the fake.

    Among: within the distance of some member to its k-th neighbour of its own kind. Kynkaanniemi et al. 2019, equation 1: https://arxiv.org/abs/1904.06991
    """

    def inside(points: torch.Tensor, members: torch.Tensor) -> float:
        reach = torch.cat([torch.cdist(part, members).kthvalue(k + 1, dim=1).values for part in members.split(1000)])  # the first is itself
        return torch.cat([(torch.cdist(part, members) <= reach).any(dim=1) for part in points.split(1000)]).float().mean().item()

    return inside(fake, real), inside(real, fake)


def variety(x: torch.Tensor, y: torch.Tensor) -> float:
    """Mean distance between two pictures x (N, 1, 28, 28) of the same digit y (N,), over the digits that come at least twice; 0 if none does."""
    found = [torch.pdist(x[y == digit].flatten(1)).mean() for digit in range(10) if (y == digit).sum() > 1]
    return torch.stack(found).mean().item() if found else 0.0


def roughness(x: torch.Tensor) -> float:
    """Mean absolute difference between neighbouring pixels of pictures x (N, 1, 28, 28)."""
    return ((x.diff(dim=2).abs().mean() + x.diff(dim=3).abs().mean()) / 2).item()


def rounded(x: torch.Tensor) -> torch.Tensor:
    """Pictures in [-1, 1] as 256 levels store them: what a visitor gets and what real digits are. Not a number, as after too large steps, becomes grey."""
    return (x.nan_to_num().clamp(-1, 1) * 127.5 + 127.5).round() / 127.5 - 1


@torch.inference_mode()
def draw(model: GAN, n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """n samples (n, 1, 28, 28) in 256 levels, on the CPU, and the digits asked for (n,), which cycle. Raises nothing."""
    z, y = noise(model, n, seed).to(core.device()), labels(DIGITS, n).to(core.device())
    x = torch.cat([model.generator(*part) for part in zip(z.split(500), y.split(500), strict=True)])
    return rounded(x).cpu(), y.cpu()


@cache
def real(split: str, n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """n real digits chosen at random (n, 1, 28, 28), or all if there are fewer, their labels (n,) and features (n, F)."""
    x, y = digits.digits(split)
    chosen = torch.randperm(len(x), generator=core.seeded(seed, split))[:n]
    x, y = digits.to_float(x[chosen]), y[chosen].long()
    return x, y, classifier.features(x)


@cache
def _standard(n: int) -> tuple[float, float, float]:
    """floor, variety and roughness of n real training digits."""
    x, y, features = real("train", n)
    return frechet(features, real("test", 1000)[2]), variety(x, y), roughness(x)


@torch.inference_mode()
def examine(model: GAN, step: int, metrics: dict[str, float], n: int = 200) -> Exam:
    """Examine the generator on n samples; metrics: their means since the last event."""
    x, y = draw(model.eval(), n)
    features, probabilities = classifier.features(x), classifier.classify(x)
    made = probabilities.argmax(dim=1)
    floor, varied, rough = _standard(n)
    reference = real("test", 1000)[2]
    return Exam(
        step, (made == y).float().mean().item(), tuple(made.bincount(minlength=10).tolist()), frechet(features, reference), floor,
        *precision_recall(reference, features), variety(x, made) / varied, roughness(x) / rough, metrics,
    )  # fmt: skip
