"""The latent space as a flat map: real digits as points on it, and a picture for every place.

Dimensions: N digits on the map, Z latent. Places (x, y) in [-1, 1], x to the right, y upwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from PIL.Image import Image

from genkit import core, images
from genkit.core import Problem
from genkit.together import once_each
from genkit.vae.codes import means
from genkit.vae.model import VAE, draw
from genkit.vae.quality import unseen

POINTS = 1000  # digits on the map
NEIGHBOURS = 400  # on the map of t-SNE, which takes seconds
QUANTILE = 0.995  # of the digits that fit onto the map: a few outliers would shrink all others to a spot
PROJECTIONS = ("plain", "tsne")


@dataclass(frozen=True, eq=False)
class Atlas:
    """A map. Plain: place = (z - centre) @ directions / reach, and back. t-SNE: `codes` has a row for each point, and the nearest one answers."""

    model: VAE | None = field(repr=False)  # None in what is remembered of a model: it would keep it in memory for ever
    points: np.ndarray  # (N, 2) in [-1, 1]
    labels: tuple[int, ...]  # (N,), which digits they are
    codes: torch.Tensor = field(repr=False)  # (N, Z)
    centre: torch.Tensor = field(repr=False)  # (Z,)
    directions: torch.Tensor = field(repr=False)  # (Z, 2), of length 1
    axes: tuple[tuple[float, float], ...]  # for x and y: how far from the middle 1 is, in latent units; the share of the variance of the codes
    projection: str = "plain"

    def codes_at(self, places: Sequence[tuple[float, float]]) -> torch.Tensor:
        """z (M, Z) of places (M, 2); they are moved into the map."""
        at = torch.tensor(places, dtype=torch.float32).view(-1, 2).clamp(-1, 1)
        if self.projection == "tsne":
            return self.codes[torch.cdist(at, torch.from_numpy(self.points)).argmin(dim=1)]
        return self.centre + (at * self.reach) @ self.directions.T

    @property
    def reach(self) -> torch.Tensor:
        return torch.tensor([far for far, _ in self.axes])

    def many(self, places: Sequence[tuple[float, float]]) -> list[Image]:
        """The pictures of places, drawn in one pass. A conditional model draws each as the digit of the nearest point."""
        return images.to_pil(draw(self.model, self.codes_at(places), self._digits(places)))

    def _digits(self, places) -> torch.Tensor | None:
        nearest = torch.cdist(torch.tensor(places, dtype=torch.float32).view(-1, 2), torch.from_numpy(self.points)).argmin(dim=1)
        return torch.tensor(self.labels)[nearest] if self.model.conditional else None

    def decode(self, x: float, y: float) -> Image:
        """The picture at one place."""
        return self.many([(x, y)])[0]

    def tiles(self, n: int) -> list[Image]:
        """n x n pictures of the middles of equal tiles, row by row from the top left."""
        return self.many([((2 * i + 1) / n - 1, 1 - (2 * j + 1) / n) for j in range(n) for i in range(n)])

    def place(self, picture: Image) -> tuple[float, float]:
        """Where the code of a picture lies; what falls outside stands on the edge. With t-SNE, where the nearest of its codes lies."""
        z = means(self.model, [picture])[0].cpu()
        if self.projection == "tsne":
            return tuple(self.points[torch.cdist(z, self.codes).argmin()].tolist())
        return tuple((((z - self.centre) @ self.directions)[0] / self.reach).clamp(-1, 1).tolist())


def atlas(model: VAE, projection: str = "plain") -> Atlas:
    """The map of a model, made once: of a latent space of two numbers as it is, of a larger one its first two principal components, or by "tsne".

    Raises Problem for another projection.
    """
    make = {"plain": plain, "tsne": tsne}[core.pick(PROJECTIONS, projection, "projection", "投影")]
    return replace(make(model), model=model)


@torch.inference_mode()
def _encoded(model: VAE, n: int) -> tuple[torch.Tensor, tuple[int, ...]]:
    """mu (N, Z) of test digits, on the CPU, and which digits they are."""
    x, y = unseen(n)
    at = core.device()
    return model.encode(x.to(at), y.to(at))[0].cpu(), tuple(y.tolist())


@once_each
def plain(model: VAE) -> Atlas:
    codes, labels = _encoded(model, POINTS)
    if model.latent_dim == 1:
        raise Problem("a code of one number is a line, not a map", "只有一个数的编码是一条线，不是地图")
    if model.latent_dim == 2:  # the latent plane itself, its middle where the prior has its own
        centre, directions = torch.zeros(2), torch.eye(2)
    else:  # principal components: Pearson 1901
        centre = codes.mean(dim=0)
        directions = torch.linalg.svd(codes - centre, full_matrices=False).Vh[:2].T
    flat = (codes - centre) @ directions
    reach = flat.abs().quantile(QUANTILE, dim=0).clamp(min=1e-3)
    share = flat.var(dim=0) / codes.var(dim=0).sum().clamp(min=1e-12)
    points = (flat / reach).clamp(-1, 1).numpy()
    return Atlas(None, points, labels, codes, centre, directions, tuple(zip(reach.tolist(), share.tolist(), strict=True)))


@once_each
def tsne(model: VAE) -> Atlas:
    """van der Maaten & Hinton 2008: https://jmlr.org/papers/v9/vandermaaten08a.html. Near codes stay near; what lies between two points means nothing."""
    from sklearn.manifold import TSNE

    codes, labels = _encoded(model, NEIGHBOURS)
    flat = TSNE(init="pca", perplexity=min(30, len(codes) / 4), random_state=0, max_iter=500).fit_transform(codes.numpy())
    flat = flat - (flat.max(axis=0) + flat.min(axis=0)) / 2
    points = (flat / np.abs(flat).max(axis=0).clip(min=1e-6)).astype(np.float32)
    return Atlas(None, points, labels, codes, codes.mean(dim=0), torch.zeros(model.latent_dim, 2), ((1.0, 0.0), (1.0, 0.0)), "tsne")
