"""The two networks of a GAN on digits, and how they are loaded, saved and asked for pictures.

Dimensions: B batch, Z latent, C channels, H = W = 28. Pictures (B, 1, 28, 28) in [-1, 1]; labels y (B,) int64 in 0..9; z (B, Z) ~ N(0, I).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from huggingface_hub import PyTorchModelHubMixin
from PIL.Image import Image
from torch import nn

from genkit import core, folders, images
from genkit.gan import VARIANTS
from genkit.gan.networks import ARCHITECTURES

DIGITS = "0123456789"


class GAN(nn.Module, PyTorchModelHubMixin):
    """Both players: generator(z, y) -> pictures, discriminator(pictures, y) -> logits. `arch` is a key of networks.ARCHITECTURES."""

    def __init__(self, arch: str, latent_dim: int, channels: int, d_channels: int = 0, conditional: bool = True):
        super().__init__()
        make_generator, make_discriminator = ARCHITECTURES[arch]
        self.arch, self.latent_dim, self.conditional = arch, latent_dim, conditional
        self.generator = make_generator(latent_dim, channels, conditional)
        self.discriminator = make_discriminator(d_channels or channels, conditional)
        self.to(memory_format=torch.channels_last)  # a third faster on a CPU; and in one layout everywhere, so that the same weights round the same way


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
