"""The encoder and the decoder of a VAE on digits, and how they are loaded, saved, asked to reconstruct and to sample.

Dimensions: B batch, Z latent, C channels, H = W = 28. Pictures (B, 1, 28, 28) in [-1, 1]; mu, logvar and z (B, Z).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import PyTorchModelHubMixin
from PIL import Image
from torch import nn

from genkit import core, folders, images
from genkit.vae import VARIANTS
from genkit.vae.pictures import digit_from


def mlp(latent_dim: int, channels: int) -> tuple[nn.Module, nn.Module]:
    """784-C-Z and back. Kingma & Welling 2013, appendix C: https://arxiv.org/abs/1312.6114"""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, channels), nn.ReLU(), nn.Linear(channels, 2 * latent_dim))
    decoder = nn.Sequential(nn.Linear(latent_dim, channels), nn.ReLU(), nn.Linear(channels, 784), nn.Unflatten(1, (1, 28, 28)))
    return encoder, decoder


def conv(latent_dim: int, channels: int) -> tuple[nn.Module, nn.Module]:
    """28 x 28 to 7 x 7 in two halvings, to Z, and back."""
    c = channels
    encoder = nn.Sequential(
        nn.Conv2d(1, c, 4, 2, 1), nn.ReLU(),  # (B, C, 14, 14)
        nn.Conv2d(c, 2 * c, 4, 2, 1), nn.ReLU(),  # (B, 2C, 7, 7)
        nn.Flatten(), nn.Linear(2 * c * 49, 2 * latent_dim),
    )  # fmt: skip
    decoder = nn.Sequential(
        nn.Linear(latent_dim, 2 * c * 49), nn.Unflatten(1, (2 * c, 7, 7)), nn.ReLU(),
        nn.ConvTranspose2d(2 * c, c, 4, 2, 1), nn.ReLU(),  # (B, C, 14, 14)
        nn.ConvTranspose2d(c, 1, 4, 2, 1),  # (B, 1, 28, 28)
    )  # fmt: skip
    return encoder, decoder


ARCHITECTURES = {"mlp": mlp, "conv": conv}


class VAE(nn.Module, PyTorchModelHubMixin):
    """q(z|x) = N(mu, diag(exp(logvar))) and p(x|z), a Bernoulli for each pixel."""

    def __init__(self, arch: str, latent_dim: int, channels: int):
        super().__init__()
        self.latent_dim = latent_dim
        self.encoder, self.decoder = ARCHITECTURES[arch](latent_dim, channels)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 1, 28, 28) in [-1, 1] -> mu and logvar, each (B, Z)."""
        return self.encoder(x).chunk(2, dim=1)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """z (B, Z) -> logits (B, 1, 28, 28); their sigmoid is how white each pixel is."""
        return self.decoder(z)

    def forward(self, x: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """logits, mu, logvar with z = mu + sigma * noise, noise (B, Z) ~ N(0, I): the reparametrisation trick, section 2.4."""
        mu, logvar = self.encode(x)
        return self.decode(mu + (logvar / 2).exp() * noise), mu, logvar


@dataclass(frozen=True)
class Reconstruction:
    """One digit before and after: pictures 28 x 28, mode L; the code; what it costs."""

    input: Image.Image
    output: Image.Image
    error: Image.Image  # |input - output|, white where they differ
    mu: list[float]  # Z numbers: where the code lies
    logvar: list[float]  # Z numbers: log of the variance, how precisely it is known
    recon: float  # nats: binary cross-entropy summed over the 784 pixels, decoded from z = mu
    kl: float  # nats: from N(mu, sigma^2) to N(0, I)


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


def reconstruct(model: VAE, picture: Image.Image) -> Reconstruction:
    """Squeeze one picture to z = mu and draw it again; see reconstruct_many."""
    return reconstruct_many(model, [picture])[0]


@torch.inference_mode()
def reconstruct_many(model: VAE, pictures: list[Image.Image]) -> list[Reconstruction]:
    """All pictures in one pass. A 28 x 28 greyscale picture is taken as it is, any other goes through digit_from; Problem where there is no ink."""
    from genkit.vae.training import divergence, reconstruction_error

    if not pictures:
        return []
    digits = [picture if picture.size == (28, 28) and picture.mode == "L" else digit_from(picture) for picture in pictures]
    x = images.from_pil(digits, "L").to(core.device())
    mu, logvar = model.encode(x)
    logits = model.decode(mu)
    output = logits.sigmoid() * 2 - 1
    recon, kl = reconstruction_error(logits, x), divergence(mu, logvar)
    pairs = zip(digits, images.to_pil(output), images.to_pil((output - x).abs() - 1), mu.tolist(), logvar.tolist(), recon.tolist(), kl.tolist(), strict=True)
    return [Reconstruction(*pair) for pair in pairs]


def sample(model: VAE, *, n: int = 20, seed: int = 0) -> Iterator[list[Image.Image]]:
    """Yield, once, n digits decoded from z ~ N(0, I). The first five of n = 20 are those of n = 5."""
    rng = core.seeded(seed)
    z = torch.stack([torch.randn(model.latent_dim, generator=rng) for _ in range(n)])
    with torch.inference_mode():
        pictures = images.to_pil(model.decode(z.to(core.device())).sigmoid() * 2 - 1)
    yield pictures
