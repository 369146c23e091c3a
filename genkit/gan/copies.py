"""Did the generator copy? The nearest training digits of a picture, and how near they are to digits that nobody can have copied.

Distance: Euclidean, between pixels in [0, 1]; 784 of them. B pictures asked about, N training digits.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from PIL import Image

from genkit import core
from genkit.digits import digits
from genkit.gan.verdict import percentile

UNSEEN = 500  # real test digits of the same kind that a picture is compared with, or all there are
SUSPICIOUS = 1.0  # percent: of a hundred pictures that nobody copied, one is suspected
PART = 5000  # training digits that are unpacked at a time: 16 MB instead of 190
SPARE = 8  # candidates that are measured again: float32 rounds a sum of 784 squares of 255


@dataclass(frozen=True)
class Nearest:
    distances: tuple[float, ...]  # to the nearest training digits, in rising order
    indices: tuple[int, ...]  # where they stand in the training set
    labels: tuple[int, ...]  # which digits they are
    pictures: tuple[Image.Image, ...]  # 28 x 28, mode L
    percentile: float  # the share, in percent, of unseen real digits of that kind that come closer to a training digit
    searched: int  # training digits
    compared: int  # unseen real digits

    @property
    def exact(self) -> bool:
        return self.distances[0] == 0

    @property
    def suspicious(self) -> bool:
        """Whether it is closer than a real digit that nobody has seen would be."""
        return self.exact or self.percentile < SUSPICIOUS


def nearest(pictures: Sequence[Image.Image], n: int = 5) -> list[Nearest]:
    """The n nearest training digits of each picture, 28 x 28, white ink on black."""
    x, y = digits("train")
    asked = torch.from_numpy(np.stack([np.asarray(picture.convert("L")) for picture in pictures])).flatten(1)
    found = search(asked, x.flatten(1), n)
    return [_nearest(distances.tolist(), indices, x, y) for distances, indices in zip(*found, strict=True)]


def _nearest(distances: list[float], indices: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> Nearest:
    labels = y[indices].tolist()
    unseen = yardstick(labels[0])  # a real 1 lies much closer to its like than a real 8 does: like is compared with like
    pictures = tuple(Image.fromarray(picture.numpy()) for picture in x[indices])
    return Nearest(tuple(distances), tuple(indices.tolist()), tuple(labels), pictures, percentile(distances[0], unseen), len(x), len(unseen))


def search(asked: torch.Tensor, members: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Distances and indices, both (B, n), of the n nearest members (N, 784) to each row asked (B, 784); all uint8. Every member is looked at."""
    wanted, x = min(n + SPARE, len(members)), asked.float()
    values, indices = [], []
    for start in range(0, len(members), PART):
        part = members[start : start + PART].float()
        rest = torch.addmm((part * part).sum(dim=1), x, part.T, alpha=-2)  # |x - m|^2 less |x|^2, which all members share
        best = rest.topk(min(wanted, len(part)), largest=False)
        values.append(best.values)
        indices.append(best.indices + start)
    chosen = torch.cat(values, dim=1).topk(wanted, largest=False).indices
    candidates = torch.cat(indices, dim=1).gather(1, chosen)
    exact = (members[candidates].float() - x[:, None]).square().sum(dim=2).sqrt() / 255
    distances, order = exact.sort(dim=1, stable=True)
    return distances[:, :n], candidates.gather(1, order)[:, :n]


_measuring = threading.Lock()


def yardstick(digit: int) -> tuple[float, ...]:
    """The distance of up to 500 real test digits of a kind to their nearest training digit, in rising order. Measured once."""
    with _measuring:  # two seconds of work: who comes meanwhile waits for it
        return _yardstick(digit, os.getenv("GENKIT_DATA_DIR", ""))


@cache
def _yardstick(digit: int, folder: str) -> tuple[float, ...]:
    x, y = digits("test")
    unseen = x[y == digit][:UNSEEN].flatten(1)
    return tuple(search(unseen, digits("train")[0].flatten(1), 1)[0][:, 0].sort().values.tolist())


def training_digit(digit: int, seed: int = 0) -> Image.Image:
    """One of the training digits of a kind, 28 x 28, mode L: what a true copy looks like."""
    x, y = digits("train")
    same = x[y == digit]
    return Image.fromarray(same[torch.randint(len(same), (), generator=core.seeded(seed, "training digit"))].numpy())
