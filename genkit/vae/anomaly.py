"""Finding what does not belong: a VAE that has seen only normal things pays many nats for an odd one.

Scores: negative ELBO or reconstruction in nats, from z = mu, less what grey pixels cost even when they are drawn perfectly: the entropy of the picture.
Higher is odder. Without that, a bold digit is odder than a thin scribble. N pictures; B batch, F features of a table.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from genkit import core, images
from genkit.core import Problem
from genkit.digits import digits, to_float
from genkit.vae import ODD
from genkit.vae.codes import prepared, told
from genkit.vae.elbo import divergence, reconstruction_error
from genkit.vae.fit import fit, plainly, small
from genkit.vae.model import VAE
from genkit.vae.pictures import digit_from

LETTERS = "ACDEFGHJKLMNPQRTUVWXYadefhkmnprtuvwxy"  # those that no digit looks like
FALSE_ALARMS = 0.01


@dataclass(frozen=True, eq=False)
class Roc:
    """How well a score parts odd from normal. fpr, tpr: shares of the normal and of the odd at or above each of the thresholds, which fall."""

    fpr: tuple[float, ...]
    tpr: tuple[float, ...]
    auc: float  # probability that an odd one scores higher than a normal one: 1 perfect, 0.5 a coin
    thresholds: tuple[float, ...]
    normal: tuple[float, ...]  # the scores
    odd: tuple[float, ...]

    def at(self, threshold: float) -> tuple[float, float]:
        """Precision and recall, in [0, 1], when everything at or above the threshold is called odd. Precision is 1 where nothing is."""
        found, false = (sum(score >= threshold for score in scores) for scores in (self.odd, self.normal))
        return found / (found + false) if found + false else 1.0, found / len(self.odd)

    def recall(self, false_alarms: float = FALSE_ALARMS) -> float:
        """The largest share of the odd that is found with at most that share of false alarms."""
        return max(tpr for fpr, tpr in zip(self.fpr, self.tpr, strict=True) if fpr <= false_alarms)

    def threshold(self, false_alarms: float = FALSE_ALARMS) -> float:
        """Where recall() is reached."""
        return [limit for fpr, limit in zip(self.fpr, self.thresholds, strict=True) if fpr <= false_alarms][-1]


def roc(normal: Sequence[float], odd: Sequence[float]) -> Roc:
    """From the scores of normal and of odd things. Fawcett 2006: https://doi.org/10.1016/j.patrec.2005.10.010"""
    from sklearn.metrics import roc_auc_score, roc_curve

    truth, values = np.repeat([0, 1], [len(normal), len(odd)]), np.concatenate([normal, odd])
    fpr, tpr, thresholds = roc_curve(truth, values)
    thresholds[0] = values.max() + 1  # scikit-learn says infinity, which JSON does not know
    auc = float(roc_auc_score(truth, values))
    return Roc(tuple(fpr.tolist()), tuple(tpr.tolist()), auc, tuple(thresholds.tolist()), tuple(map(float, normal)), tuple(map(float, odd)))


@torch.inference_mode()
def scores(model: VAE, pictures: Sequence[Image.Image]) -> tuple[list[float], list[float]]:
    """Negative ELBO and reconstruction of each picture, in nats above its entropy()."""
    return tuple(map(list, zip(*_scored(model, images.from_pil(prepared(pictures), "L")).tolist(), strict=True))) if pictures else ([], [])


@torch.inference_mode()
def _scored(model: VAE, x: torch.Tensor) -> torch.Tensor:
    """(N, 2) of x (N, 1, 28, 28): negative ELBO and reconstruction."""
    rows = []
    for part in x.split(500):
        y, part = told(model, part), part.to(core.device())
        mu, logvar = model.encode(part, y)
        recon = reconstruction_error(model.decode(mu, y), part) - entropy(part)
        rows.append(torch.stack([recon + divergence(mu, logvar), recon], dim=1).cpu())
    return torch.cat(rows)


def entropy(x: torch.Tensor) -> torch.Tensor:
    """What x (B, 1, 28, 28) in [-1, 1] costs at least, in nats (B,): 0 for black and white, log 2 for a pixel of middle grey."""
    white = (x + 1) / 2
    return -(torch.xlogy(white, white) + torch.xlogy(1 - white, 1 - white)).flatten(1).sum(dim=1)


# ---- what does not belong among digits


def normal(n: int) -> list[Image.Image]:
    """n test digits, evenly from the whole set."""
    x, _ = digits("test")
    return [Image.fromarray(x[i].numpy()) for i in torch.linspace(0, len(x) - 1, n).long().tolist()]


def odd(source: str, n: int, seed: int = 0) -> list[Image.Image]:
    """n pictures 28 x 28, mode L, of a source in ODD. Raises Problem for an unknown one and where Fashion-MNIST is not on this machine."""
    core.pick(ODD, source, "source", "来源")
    if source == "fashion":
        x = _fashion(os.getenv("GENKIT_DATA_DIR", ""))
        return [Image.fromarray(x[i]) for i in torch.randperm(len(x), generator=core.seeded(seed, source))[:n].tolist()]
    rng = np.random.default_rng([seed, ODD.index(source)])
    return [_DRAW[source](rng) for _ in range(n)]


def _letter(rng: np.random.Generator) -> Image.Image:
    """A letter in PIL's own font, slanted and turned, then treated as a drawing."""
    page = Image.new("L", (120, 120), 255)
    font = ImageFont.load_default(int(rng.integers(50, 80)))
    ImageDraw.Draw(page).text((60, 60), str(rng.choice(list(LETTERS))), fill=0, font=font, anchor="mm", stroke_width=int(rng.integers(0, 4)))
    slant = rng.uniform(-0.3, 0.3)
    slanted = page.transform(page.size, Image.Transform.AFFINE, (1, slant, -60 * slant, 0, 1, 0), fillcolor=255)
    return digit_from(slanted.rotate(rng.uniform(-12, 12), fillcolor=255))


def _scribble(rng: np.random.Generator) -> Image.Image:
    """A pen that wanders without a plan."""
    page = Image.new("L", (120, 120), 255)
    places = np.clip(60 + np.cumsum(rng.normal(0, 25, (int(rng.integers(6, 14)), 2)), axis=0), 8, 112)
    ImageDraw.Draw(page).line([tuple(place) for place in places.tolist()], fill=0, width=int(rng.integers(4, 9)), joint="curve")
    return digit_from(page)


def _noise(rng: np.random.Generator) -> Image.Image:
    """Pixels without a pattern, as bright in all as a digit at least."""
    return Image.fromarray((255 * rng.random((28, 28)) ** rng.uniform(1, 6)).astype(np.uint8))


_DRAW = {"letters": _letter, "scribbles": _scribble, "noise": _noise}


@cache
def _fashion(folder: str) -> np.ndarray:
    """The test pictures of Fashion-MNIST (N, 28, 28): Xiao et al. 2017, https://arxiv.org/abs/1708.07747. From GENKIT_DATA_DIR or the Hub's local cache."""
    file = Path(folder) / "fashion-mnist-t10k.npz"
    if folder and file.is_file():
        with np.load(file, allow_pickle=False) as arrays:
            return np.ascontiguousarray(arrays["x"].reshape(-1, 28, 28), dtype=np.uint8)
    try:
        return _from_hub()
    except Exception as error:  # not cached, no pyarrow, damaged: all the same to whoever asks
        raise Problem(
            "Fashion-MNIST is not on this machine: put {file} into the folder that GENKIT_DATA_DIR names, or choose another source",
            "本机没有 Fashion-MNIST：请把 {file} 放进 GENKIT_DATA_DIR 所指的文件夹，或改选其他来源",
            file=file.name,
        ) from error


def _from_hub() -> np.ndarray:
    import io

    import huggingface_hub as hub
    import pandas

    path = hub.hf_hub_download("zalando-datasets/fashion_mnist", "fashion_mnist/test-00000-of-00001.parquet", repo_type="dataset", local_files_only=True)
    return np.stack([np.asarray(Image.open(io.BytesIO(row["bytes"])).convert("L")) for row in pandas.read_parquet(path)["image"]])


# ---- a digit that it has never seen


def held_out_class(digit: int, *, steps: int = 800, seed: int = 0) -> Iterator[float | Roc]:
    """Train a small VAE without that digit; yields the share that is done, then, last, the Roc of its negative ELBO: that digit against all others.

    Raises Problem for what is no digit.
    """
    digit = core.number(digit, 0, 9, ("digit", "数字"), whole=True)
    (x, y), (others, labels) = digits("train"), digits("test")
    model = small(16, seed)
    yield from fit(model, plainly(x[y != digit], 128), steps=steps, lr=2e-3, seed=seed)
    paid = _scored(model, to_float(others))[:, 0]
    yield roc(paid[labels != digit].tolist(), paid[labels == digit].tolist())


# ---- a table


class TableVAE(nn.Module):
    """A VAE on rows of standardised features (B, F), p(x|z) a normal of variance 1."""

    def __init__(self, features: int, latent_dim: int = 4, width: int = 32):
        super().__init__()
        self.latent_dim = latent_dim
        self.encoder = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, 2 * latent_dim))
        self.decoder = nn.Sequential(nn.Linear(latent_dim, width), nn.SiLU(), nn.Linear(width, features))

    def forward(self, x: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        return self.decoder(mu + (logvar / 2).exp() * noise), mu, logvar


def squares(output: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """-log p(x|z) in nats less a constant, (B,)."""
    return 0.5 * (output - x).square().sum(dim=1)


@dataclass(frozen=True, eq=False)
class Tabular:
    """Breast cancer Wisconsin (diagnostic), in scikit-learn: 569 tumours, 30 measurements each; https://doi.org/10.24432/C5DW2B."""

    roc: Roc  # of the VAE, malignant against benign rows that it has not seen
    recall: float  # share of malignant tumours found at 1 % false alarms, over all splits
    recalls: tuple[float, ...]  # of each split
    plain: float  # the same recall without learning: by how far the measurements are from their means, in standard deviations
    trained: int  # benign rows learnt from, in each split
    normal: int  # benign rows kept back
    odd: int  # malignant rows


def tabular(*, splits: int = 5, steps: int = 400, seed: int = 0) -> Iterator[float | Tabular]:
    """Train on two thirds of the benign rows only, for several splits; yields the share that is done, then, last, a Tabular of the first split's curve."""
    from sklearn.datasets import load_breast_cancer

    rows, truth = load_breast_cancer(return_X_y=True)
    benign, malignant = (torch.from_numpy(rows[truth == kind]).float() for kind in (1, 0))
    curves, plain = [], []
    for split in range(splits):
        order = torch.randperm(len(benign), generator=core.seeded(seed, split))
        learnt, kept_back = benign[order].tensor_split([2 * len(benign) // 3])
        mean, std = learnt.mean(dim=0), learnt.std(dim=0)
        learnt, kept_back, ill = ((part - mean) / std for part in (learnt, kept_back, malignant))
        model = core.build(lambda: TableVAE(rows.shape[1]), seed + split).to(core.device())
        for share in fit(model, _rows(learnt, 64), steps=steps, lr=3e-3, seed=seed + split, error=squares):
            yield (split + share) / splits
        curves.append(roc(*(_paid(model, part) for part in (kept_back, ill))))
        plain.append(roc(*(part.square().sum(dim=1).tolist() for part in (kept_back, ill))).recall())
    recalls = tuple(curve.recall() for curve in curves)
    yield Tabular(curves[0], sum(recalls) / splits, recalls, sum(plain) / splits, len(learnt), len(kept_back), len(ill))


def _rows(x: torch.Tensor, n: int):
    return lambda rng: (x[torch.randint(len(x), (n,), generator=rng)], None)


@torch.inference_mode()
def _paid(model: TableVAE, x: torch.Tensor) -> list[float]:
    x = x.to(core.device())
    output, mu, logvar = model(x, torch.zeros(len(x), model.latent_dim, device=x.device))
    return (squares(output, x) + divergence(mu, logvar)).tolist()
