"""The two networks of a GAN on digits, and how they are loaded, saved and asked for pictures.

Dimensions: B batch, Z latent, C channels, H = W = 28. Pictures (B, 1, 28, 28) in [-1, 1]; labels y (B,) int64 in 0..9; z (B, Z) ~ N(0, I).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from PIL.Image import Image
from torch import nn

from genkit import core, folders, images
from genkit.gan import VARIANTS

DIGITS = "0123456789"


class Dropout(nn.Module):
    """Dropout whose mask comes from a generator handed in; without one nothing is dropped. nn.Dropout knows only the global generator."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: torch.Tensor, rng: torch.Generator | None) -> torch.Tensor:
        if rng is None:
            return x
        return x * (torch.rand(x.shape, generator=rng) >= self.p).to(x) / (1 - self.p)


class MLPGenerator(nn.Module):
    """The classic Z-256-512-784 perceptron; the digit is 10 more inputs, one of them 1."""

    def __init__(self, latent_dim: int, channels: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(latent_dim + 10, channels), nn.LeakyReLU(0.2),
            nn.Linear(channels, 2 * channels), nn.LeakyReLU(0.2),
            nn.Linear(2 * channels, 784), nn.Tanh(),
        )  # fmt: skip

    def forward(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.body(torch.cat([z, F.one_hot(y, 10).to(z)], dim=1)).view(-1, 1, 28, 28)


class MLPDiscriminator(nn.Module):
    """The classic 784-512-256-1 perceptron with dropout; takes and gives what ProjectionDiscriminator does."""

    def __init__(self, channels: int):
        super().__init__()
        self.picture = nn.Linear(784, 2 * channels)
        self.digit = nn.Embedding(10, 2 * channels)  # the weights of 10 more inputs, one of them 1
        self.hidden, self.verdict = nn.Linear(2 * channels, channels), nn.Linear(channels, 1)
        self.dropout = Dropout(0.3)

    def forward(self, x: torch.Tensor, y: torch.Tensor, rng: torch.Generator | None = None) -> torch.Tensor:
        h = self.picture(x.flatten(1)).unsqueeze(1) + self.digit(y.view(len(x), -1))  # (B, K, 2C)
        h = self.dropout(F.leaky_relu(h, 0.2), rng)
        h = self.dropout(F.leaky_relu(self.hidden(h), 0.2), rng)
        return self.verdict(h).view(y.shape)


class ConvGenerator(nn.Module):
    """From 7 x 7 to 28 x 28 in two doublings. DCGAN, Radford et al. 2015: https://arxiv.org/abs/1511.06434"""

    def __init__(self, latent_dim: int, channels: int):
        super().__init__()
        c = channels
        self.project = nn.Linear(latent_dim + 10, 2 * c * 49, bias=False)
        self.body = nn.Sequential(
            nn.BatchNorm2d(2 * c), nn.ReLU(),
            nn.ConvTranspose2d(2 * c, c, 4, 2, 1, bias=False), nn.BatchNorm2d(c), nn.ReLU(),  # (B, C, 14, 14)
            nn.Conv2d(c, 4, 5, padding=2), nn.PixelShuffle(2), nn.Tanh(),  # (B, 1, 28, 28)
        )  # fmt: skip

    def forward(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        h = self.project(torch.cat([z, F.one_hot(y, 10).to(z)], dim=1))
        return self.body(h.unflatten(1, (-1, 7, 7)))


class ProjectionDiscriminator(nn.Module):
    """Convolutions, then one linear verdict plus one that depends on the digit. Miyato & Koyama 2018, figure 1d: https://arxiv.org/abs/1802.05637

    x (B, 1, 28, 28) -> logits of the shape of y, above 0 for real; y is (B,), or (B, K) to judge each picture as K digits at little cost.
    """

    def __init__(self, channels: int):
        super().__init__()
        c = channels
        self.body = nn.Sequential(
            nn.Conv2d(1, c, 4, 2, 1), nn.LeakyReLU(0.2),  # (B, C, 14, 14)
            nn.Conv2d(c, 2 * c, 4, 2, 1), nn.LeakyReLU(0.2),  # (B, 2C, 7, 7)
            nn.Flatten(),
        )  # fmt: skip
        self.verdict, self.digit = nn.Linear(2 * c * 49, 1), nn.Embedding(10, 2 * c * 49)
        nn.init.zeros_(self.digit.weight)  # N(0, 1) times thousands of features would drown the verdict

    def forward(self, x: torch.Tensor, y: torch.Tensor, rng: torch.Generator | None = None) -> torch.Tensor:
        h = self.body(x)
        by_digit = h @ self.digit.weight.T  # (B, 10)
        return (self.verdict(h) + by_digit.gather(1, y.view(len(x), -1))).view(y.shape)


ARCHITECTURES = {"mlp": (MLPGenerator, MLPDiscriminator), "dcgan": (ConvGenerator, ProjectionDiscriminator)}


class GAN(nn.Module, PyTorchModelHubMixin):
    """Both players: generator(z, y) -> pictures, discriminator(pictures, y) -> logits."""

    def __init__(self, arch: str, latent_dim: int, channels: int):
        super().__init__()
        make_generator, make_discriminator = ARCHITECTURES[arch]
        self.latent_dim = latent_dim
        self.generator, self.discriminator = make_generator(latent_dim, channels), make_discriminator(channels)


def load(source: str | Path) -> GAN:
    """The GAN of a variant or of a folder, in eval mode on core.device(). Raises Problem for an unknown name and for a missing or damaged file."""
    folder = Path(source) if Path(source).is_dir() else core.WEIGHTS / "gan" / source if source in VARIANTS else None
    if folder is None:
        core.pick(VARIANTS, source, "GAN variant", "GAN 变体")
    return folders.read(GAN, folder).to(core.device())


def save(model: GAN, path: Path) -> None:
    """Write config.json and model.safetensors into folder `path`. Raises Problem for a full disk."""
    folders.write(model, path)


def sample(model: GAN, digits: str = DIGITS, *, n: int = 20, seed: int = 0) -> Iterator[list[Image]]:
    """Yield, once, n pictures 28 x 28 that cycle through `digits`. The first five of n = 20 are those of n = 5."""
    yield sample_many(model, [(digits, n, seed)])[0]


@torch.inference_mode()
def sample_many(model: GAN, requests: list[tuple[str, int, int]]) -> list[list[Image]]:
    """The pictures of many requests (digits, n, seed), drawn in one pass: each is what its request alone would give."""
    if not requests:
        return []
    drawn = [(noise(model, n, seed), labels(digits, n)) for digits, n, seed in requests]
    z, y = (torch.cat(parts).to(core.device()) for parts in zip(*drawn, strict=True))
    pictures = iter(images.to_pil(model.generator(z, y)))
    return [[next(pictures) for _ in range(n)] for _, n, _ in requests]


def noise(model: GAN, n: int, seed: int) -> torch.Tensor:
    """z (n, Z) of one request, drawn picture by picture so that it does not depend on n."""
    rng = core.seeded(seed)
    return torch.stack([torch.randn(model.latent_dim, generator=rng) for _ in range(n)])


def labels(digits: str, n: int) -> torch.Tensor:
    """y (n,) that cycles through the digits of a string; spaces and commas are passed over. Raises Problem for anything else and for none."""
    asked = [int(character) for character in str(digits) if character.isdecimal()]
    if not asked or any(not (character.isdecimal() or character in " ,，、") for character in str(digits)):
        shown = str(digits)[:60]
        raise core.Problem("digits must be some of 0123456789, got '{shown}'", "digits 只能由 0123456789 组成，收到的是“{shown}”", shown=shown)
    return torch.tensor([asked[i % len(asked)] for i in range(n)])
