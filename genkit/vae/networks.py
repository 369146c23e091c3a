"""The encoders and decoders of the VAE family. Dimensions: B batch, Z latent, C channels, H = W = 28.

Each function of ARCHITECTURES gives (encoder, decoder): pictures (B, planes, 28, 28) -> (B, codes) and inputs (B, inputs) -> logits (B, 1, 28, 28).
"""

from __future__ import annotations

from torch import nn


def mlp(planes: int, codes: int, inputs: int, channels: int) -> tuple[nn.Module, nn.Module]:
    """784-C-Z and back. Kingma & Welling 2013, appendix C: https://arxiv.org/abs/1312.6114"""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(784 * planes, channels), nn.ReLU(), nn.Linear(channels, codes))
    decoder = nn.Sequential(nn.Linear(inputs, channels), nn.ReLU(), nn.Linear(channels, 784), nn.Unflatten(1, (1, 28, 28)))
    return encoder, decoder


def wide(planes: int, codes: int, inputs: int, channels: int) -> tuple[nn.Module, nn.Module]:
    """784-C-C-Z and back, as in Burda et al. 2016, section 5: https://arxiv.org/abs/1509.00519"""
    c = channels
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(784 * planes, c), nn.SiLU(), nn.Linear(c, c), nn.SiLU(), nn.Linear(c, codes))
    decoder = nn.Sequential(nn.Linear(inputs, c), nn.SiLU(), nn.Linear(c, c), nn.SiLU(), nn.Linear(c, 784), nn.Unflatten(1, (1, 28, 28)))
    return encoder, decoder


def deep(planes: int, codes: int, inputs: int, channels: int) -> tuple[nn.Module, nn.Module]:
    """28 x 28 to 7 x 7 in two halvings, to Z, and back."""
    c = channels
    encoder = nn.Sequential(
        nn.Conv2d(planes, c, 4, 2, 1, bias=False), nn.BatchNorm2d(c), nn.SiLU(),  # (B, C, 14, 14)
        nn.Conv2d(c, 2 * c, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * c), nn.SiLU(),  # (B, 2C, 7, 7)
        nn.Flatten(), nn.Linear(2 * c * 49, codes),
    )  # fmt: skip
    decoder = nn.Sequential(
        nn.Linear(inputs, 2 * c * 49, bias=False), nn.Unflatten(1, (2 * c, 7, 7)), nn.BatchNorm2d(2 * c), nn.SiLU(),
        nn.ConvTranspose2d(2 * c, c, 4, 2, 1, bias=False), nn.BatchNorm2d(c), nn.SiLU(),  # (B, C, 14, 14)
        nn.ConvTranspose2d(c, 1, 4, 2, 1),  # (B, 1, 28, 28)
    )  # fmt: skip
    return encoder, decoder


def narrow(planes: int, codes: int, inputs: int, channels: int) -> tuple[nn.Module, nn.Module]:
    """As deep, with two hidden layers on either side of the code: two numbers alone choose among features only along straight lines."""
    encoder, decoder = deep(planes, 4 * channels, 4 * channels, channels)
    into = [nn.SiLU(), nn.Linear(4 * channels, 4 * channels), nn.SiLU(), nn.Linear(4 * channels, codes)]
    out = [nn.Linear(inputs, 4 * channels), nn.SiLU(), nn.Linear(4 * channels, 4 * channels), nn.SiLU()]
    return nn.Sequential(*encoder, *into), nn.Sequential(*out, *decoder)


ARCHITECTURES = {"mlp": mlp, "wide": wide, "deep": deep, "narrow": narrow}
