"""Walks through the latent space: between two pictures, over a plane, from layer to layer of two styles, towards the average.

Dimensions: B batch, Z latent, W style, L layers with a style of their own. z (B, Z) ~ N(0, I); digits as labels (B,) or as mixtures (B, 10); w (B, W).
Every function returns pictures 28 x 28, mode L, and draws what chance it needs from its own seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL.Image import Image

from genkit import core, images
from genkit.gan.model import GAN, labels, noise
from genkit.gan.networks import StyleGenerator

LAYERS = StyleGenerator.LAYERS
REACH = 1.5  # of the plane, in lengths of z: its corners are 65 degrees away from its middle


class Spot(NamedTuple):
    """A place in the latent space: the first picture of sample(model, digit, seed=seed)."""

    digit: int
    seed: int


def slerp(a: torch.Tensor, b: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The points at t (N,) in [0, 1] of the way from a (Z,) to b (Z,): directions along the great circle, lengths evenly. (N, Z)

    Shoemake 1985: https://doi.org/10.1145/325334.325242 - for latents White 2016: https://arxiv.org/abs/1609.04468. Half-way on the
    straight line z would be shorter by a factor of about sqrt(2) than any z the generator has seen.
    """
    t = t.unsqueeze(1)
    long_a, long_b = a.norm(), b.norm()
    angle = torch.arccos((a @ b / (long_a * long_b)).clamp(-1, 1))
    if angle.sin() < 1e-4:  # the same or the opposite direction: no one circle leads there
        return torch.lerp(a, b, t)
    length = torch.lerp(long_a, long_b, t)
    return (((1 - t) * angle).sin() * a / long_a + (t * angle).sin() * b / long_b) / angle.sin() * length


@torch.inference_mode()
def morph(model: GAN, a: Spot, b: Spot, n: int) -> list[Image]:
    """n >= 2 pictures that lead from spot a to spot b.

    z goes along slerp() while the ten inputs of the digit go straight from one to the other; of a style-based generator it is w that goes straight.
    """
    t = torch.linspace(0, 1, n)
    z, y = torch.cat([noise(model, 1, spot.seed) for spot in (a, b)]), torch.tensor([a.digit, b.digit])
    if isinstance(model.generator, StyleGenerator):
        w_a, w_b = _styles(model, z, y)
        return _synthesis(model, torch.lerp(w_a, w_b, t.to(w_a).unsqueeze(1)).unsqueeze(1).expand(-1, LAYERS, -1))
    told_a, told_b = F.one_hot(y, 10).float()
    return _pictures(model, slerp(*z, t), torch.lerp(told_a, told_b, t.unsqueeze(1)))


@torch.inference_mode()
def plane_many(model: GAN, requests: list[tuple[Spot, Sequence[tuple[float, float]]]]) -> list[list[Image]]:
    """The pictures of many requests (spot, points (x, y) in [-1, 1]) on a plane through each spot, drawn in one pass.

    Its point is z = a + REACH (x b + y c), brought back to the length of a: a is the spot's own z, b and c are two more of that seed, made
    perpendicular to a and to each other and as long as it. So every point is as likely a z as a, and (0, 0) is the spot itself.
    """
    if not requests:
        return []
    z = torch.cat([_plane(model, spot.seed, torch.tensor(points).view(-1, 2)) for spot, points in requests])
    y = torch.cat([torch.full((len(points),), spot.digit) for spot, points in requests])
    pictures = iter(_pictures(model, z, y))
    return [[next(pictures) for _ in points] for _, points in requests]


def _plane(model: GAN, seed: int, points: torch.Tensor) -> torch.Tensor:
    """z (N, Z) of points (N, 2)."""
    a, length = noise(model, 1, seed)[0], noise(model, 1, seed).norm()
    basis = [a / length]
    rng = core.seeded(seed, "plane")
    for _ in range(2):  # Gram-Schmidt
        v = torch.randn(model.latent_dim, generator=rng)
        v = v - sum((v @ one) * one for one in basis)
        basis.append(v / v.norm())
    x, y = (REACH * points).unsqueeze(2).unbind(dim=1)  # (N, 1) each
    return F.normalize(basis[0] + x * basis[1] + y * basis[2], dim=1) * length


def lattice(n: int) -> list[tuple[float, float]]:
    """The middles of n x n equal tiles of the plane, row by row from the top left."""
    return [((2 * i + 1) / n - 1, 1 - (2 * j + 1) / n) for j in range(n) for i in range(n)]


def circle(n: int, radius: float = 0.7) -> list[tuple[float, float]]:
    """n points of the plane that lead once round its middle."""
    return [(radius * math.cos(2 * math.pi * i / n), radius * math.sin(2 * math.pi * i / n)) for i in range(n)]


@torch.inference_mode()
def mix(model: GAN, coarse: Spot, fine: Spot, crossovers: Sequence[int]) -> list[Image]:
    """One picture for each crossover k in 0..LAYERS: the first k layers get the style of `coarse`, the others that of `fine`.

    Style mixing, Karras et al. 2019, section 3.1: https://arxiv.org/abs/1812.04948. Raises Problem for a generator that has no styles.
    """
    if not isinstance(model.generator, StyleGenerator):
        raise core.Problem("only the variant 'style' can mix styles by layer", "只有变体“style”可以逐层混合风格")
    w_coarse, w_fine = _styles(model, torch.cat([noise(model, 1, spot.seed) for spot in (coarse, fine)]), torch.tensor([coarse.digit, fine.digit]))
    first = torch.arange(LAYERS) < torch.tensor(crossovers).unsqueeze(1)  # (N, L)
    return _synthesis(model, torch.where(first.to(w_fine.device).unsqueeze(2), w_coarse, w_fine))


@torch.inference_mode()
def truncate(model: GAN, digits: str, psi: float, *, n: int, seed: int) -> list[Image]:
    """The n pictures of sample(), moved towards the most ordinary one of their digit: psi 0 is there, 1 stays, more than 1 exaggerates.

    Of a style-based generator w becomes w_mean + psi (w - w_mean), Karras et al. 2019, appendix B: https://arxiv.org/abs/1812.04948. The others get
    psi z in place of z. (BigGAN's trick, Brock et al. 2018, section 3.1, https://arxiv.org/abs/1809.11096, draws again what falls outside a range.)
    """
    z, y = noise(model, n, seed), labels(digits, n)
    if not isinstance(model.generator, StyleGenerator):
        return _pictures(model, psi * z, y)
    w = _styles(model, z, y)
    w = torch.lerp(model.generator.w_mean[y.to(w.device)], w, psi)
    return _synthesis(model, w.unsqueeze(1).expand(-1, LAYERS, -1))


def _pictures(model: GAN, z: torch.Tensor, y: torch.Tensor) -> list[Image]:
    return images.to_pil(model.generator(z.to(core.device()), y.to(core.device())))


def _styles(model: GAN, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return model.generator.mapping(z.to(core.device()), y.to(core.device()))


def _synthesis(model: GAN, ws: torch.Tensor) -> list[Image]:
    return images.to_pil(model.generator.synthesis(ws))
