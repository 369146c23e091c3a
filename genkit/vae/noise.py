"""Ways to spoil a digit: what the denoising variant learns to undo. Dimensions: B batch, H = W = 28; pictures (B, 1, 28, 28) in [-1, 1].

Vincent et al. 2008: https://doi.org/10.1145/1390156.1390294 - with a VAE: Im et al. 2015, https://arxiv.org/abs/1511.06406.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def gaussian(x: torch.Tensor, strength: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Normal noise on every pixel, its standard deviation 0 to the whole range from black to white."""
    return (x + 2 * strength * torch.randn(x.shape, generator=rng)).clamp(-1, 1)


def salt_and_pepper(x: torch.Tensor, strength: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """That share of the pixels is replaced by black or white."""
    hit, white = torch.rand(2, *x.shape, generator=rng)
    return torch.where(hit < strength, (white < 0.5).float() * 2 - 1, x)


def blot(x: torch.Tensor, strength: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """A square of black paper over the digit, its side 0 to 20 pixels, its middle where the ink is."""
    half = 10 * strength.view(-1, 1, 1, 1)
    middle = 14 + 5 * (2 * torch.rand(2, len(x), 1, 1, 1, generator=rng) - 1)
    row, column = torch.arange(28.0).view(1, 1, 28, 1) + 0.5, torch.arange(28.0).view(1, 1, 1, 28) + 0.5
    inside = ((row - middle[0]).abs() < half) & ((column - middle[1]).abs() < half)
    return torch.where(inside, -1.0, x)


def blur(x: torch.Tensor, strength: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Out of focus: a Gaussian whose standard deviation is 0 to 3 pixels."""
    sigma = (3 * strength.view(-1, 1)).clamp(min=1e-3)
    kernel = (-0.5 * (torch.arange(-7.0, 8.0) / sigma) ** 2).exp()
    kernel = kernel / kernel.sum(dim=1, keepdim=True)  # (B, 15): along the rows, then along the columns, each picture its own
    paper = F.pad(x.transpose(0, 1), (7, 7, 7, 7), value=-1)
    rows = F.conv2d(paper, kernel.view(-1, 1, 1, 15), groups=len(x))
    return F.conv2d(rows, kernel.view(-1, 1, 15, 1), groups=len(x)).transpose(0, 1)


KINDS = {"gaussian": gaussian, "salt-and-pepper": salt_and_pepper, "blot": blot, "blur": blur}


def corrupt(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """A batch in which a quarter is spoilt in each of the four ways, each picture by a strength of its own."""
    strength = torch.rand(len(x), 1, 1, 1, generator=rng)
    parts = zip(KINDS.values(), x.tensor_split(4), strength.tensor_split(4), strict=True)
    return torch.cat([spoil(part, how_much, rng) for spoil, part, how_much in parts if len(part)])
