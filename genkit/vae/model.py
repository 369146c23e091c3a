"""A VAE on digits, and how it is loaded, saved and asked to sample.

Dimensions: B batch, Z latent, H = W = 28. Pictures (B, 1, 28, 28) in [-1, 1]; mu, logvar and z (B, Z); digits as labels y (B,).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from PIL import Image
from torch import nn

from genkit import core, folders, images
from genkit.vae import VARIANTS
from genkit.vae.networks import ARCHITECTURES


class VAE(nn.Module, PyTorchModelHubMixin):
    """q(z|x) = N(mu, diag(exp(logvar))) and p(x|z), a Bernoulli for each pixel; with variational=False a plain autoencoder, z = mu.

    A conditional one is told the digit y: q(z|x, y) and p(x|z, y). Sohn et al. 2015, https://papers.nips.cc/paper/5775
    """

    def __init__(self, arch: str, latent_dim: int, channels: int, variational: bool = True, conditional: bool = False):
        super().__init__()
        self.latent_dim, self.variational, self.conditional = latent_dim, variational, conditional
        codes = latent_dim * (2 if variational else 1)
        self.encoder, self.decoder = ARCHITECTURES[arch](1 + conditional, codes, latent_dim + 10 * conditional, channels)
        if conditional:
            self.sign = nn.Embedding(10, 784)  # which digit it is, as a second picture beside the first
        self.to(memory_format=torch.channels_last)  # a third faster on a CPU; and in one layout everywhere, so that the same weights round the same way

    def encode(self, x: torch.Tensor, y: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 1, 28, 28) in [-1, 1] -> mu and logvar, each (B, Z). A plain autoencoder is sure of its code: its logvar is -inf."""
        if self.conditional:
            x = torch.cat([x, self.sign(y).view(-1, 1, 28, 28)], dim=1)
        code = self.encoder(x)
        return code.chunk(2, dim=1) if self.variational else (code, torch.full_like(code, -torch.inf))

    def decode(self, z: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        """z (B, Z) -> logits (B, 1, 28, 28); their sigmoid is how white each pixel is."""
        return self.decoder(torch.cat([z, F.one_hot(y, 10).to(z)], dim=1) if self.conditional else z)

    def forward(self, x: torch.Tensor, noise: torch.Tensor, y: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """logits, mu, logvar with z = mu + sigma * noise, noise (B, Z) ~ N(0, I): the reparametrisation trick, section 2.4.

        With noise (k B, Z) each picture gets k samples of z, and all three have k B rows.
        """
        k = len(noise) // len(x)
        mu, logvar = (part.repeat(k, 1) for part in self.encode(x, y))
        y = y.repeat(k) if self.conditional else None
        z = mu + (logvar / 2).exp() * noise if self.variational else mu
        return self.decode(z, y), mu, logvar


def load(source: str | Path):
    """The VAE of a variant or of a folder, or the diffusers autoencoder of a folder, in eval mode on core.device().

    Raises Problem for an unknown name and for a missing or damaged file.
    """
    folder = Path(source) if Path(source).is_dir() else core.WEIGHTS / "vae" / source if source in VARIANTS else None
    if folder is None:
        core.pick(VARIANTS, source, "VAE variant", "VAE 变体")
    if "_class_name" in folders.config(folder):  # diffusers writes it, ours does not
        from genkit.vae.photo import load_diffusers

        return load_diffusers(folder)
    return folders.read(VAE, folder).to(core.device())


def save(model: VAE, path: Path) -> None:
    """Write config.json and model.safetensors into folder `path`. Raises Problem for a full disk."""
    folders.write(model, path)


@torch.inference_mode()
def draw(model: VAE, z: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
    """Pictures (B, 1, 28, 28) in [-1, 1], on the CPU, decoded from z (B, Z); a conditional model draws the digits y (B,), 0 if none are named."""
    at, y = core.device(), torch.zeros(len(z), dtype=torch.long) if y is None else y
    return torch.cat([model.decode(part.to(at), its.to(at)).sigmoid().cpu() * 2 - 1 for part, its in zip(z.split(500), y.split(500), strict=True)])


def prior(model: VAE, n: int, seed: int) -> torch.Tensor:
    """z (n, Z) ~ N(0, I). The first five of n = 20 are those of n = 5."""
    rng = core.seeded(seed)
    return torch.stack([torch.randn(model.latent_dim, generator=rng) for _ in range(n)])


def sample(model: VAE, *, n: int = 20, seed: int = 0) -> Iterator[list[Image.Image]]:
    """Yield, once, n digits decoded from z ~ N(0, I); a conditional model draws 0 to 9 in turn. The first five of n = 20 are those of n = 5."""
    yield images.to_pil(draw(model, prior(model, n, seed), torch.arange(n) % 10))
