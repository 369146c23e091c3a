"""From digits to codes and back: encode, decode, reconstruct. Dimensions as in model.py; pictures 28 x 28, mode L."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from genkit import classifier, core, images
from genkit.core import Problem
from genkit.vae.elbo import divergence, reconstruction_error
from genkit.vae.model import VAE, draw
from genkit.vae.pictures import digit_from


@dataclass(frozen=True)
class Reconstruction:
    """One digit before and after: pictures 28 x 28, mode L; the code; what it costs."""

    input: Image.Image
    output: Image.Image
    error: Image.Image  # |input - output|, white where they differ
    mu: list[float]  # Z numbers: where the code lies
    logvar: list[float]  # Z numbers: log of the variance, how precisely it is known; empty in a plain autoencoder, which is always sure
    recon: float  # nats: binary cross-entropy summed over the 784 pixels, decoded from z = mu
    kl: float  # nats: from N(mu, sigma^2) to N(0, I); 0 in a plain autoencoder
    seen: tuple[int, int]  # which digit the shipped classifier sees before and after


@dataclass(frozen=True)
class Code:
    """q(z|x) of one digit: Z numbers each; logvar is empty in a plain autoencoder."""

    mu: list[float]
    logvar: list[float]


def prepared(pictures: Sequence[Image.Image]) -> list[Image.Image]:
    """A 28 x 28 greyscale picture as it is, any other through digit_from; Problem where there is no ink."""
    return [picture if picture.size == (28, 28) and picture.mode == "L" else digit_from(picture) for picture in pictures]


def told(model: VAE, x: torch.Tensor, digits: Sequence[int | None] | None = None) -> torch.Tensor | None:
    """Labels (B,) for a conditional model: those that are named, for the others what the shipped classifier reads in x (B, 1, 28, 28)."""
    if not model.conditional:
        return None
    read = classifier.classify(x).argmax(dim=1).tolist()
    return torch.tensor([seen if digit is None else digit for seen, digit in zip(read, digits or [None] * len(x), strict=True)], device=core.device())


@torch.inference_mode()
def means(model: VAE, pictures: Sequence[Image.Image]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """mu (B, Z) of pictures and, for a conditional model, the digits (B,) that were read in them."""
    x = images.from_pil(prepared(pictures), "L")
    y = told(model, x)
    return model.encode(x.to(core.device()), y)[0], y


def _code(model: VAE, mu: torch.Tensor, logvar: torch.Tensor) -> list[Code]:
    sure = [[]] * len(mu)
    return [Code(*each) for each in zip(mu.tolist(), logvar.tolist() if model.variational else sure, strict=True)]


@torch.inference_mode()
def encode_many(model: VAE, pictures: Sequence[Image.Image], digits: Sequence[int | None] | None = None) -> list[Code]:
    """The codes of all pictures in one pass. digits: what they are, for a conditional model; None is read by the shipped classifier."""
    if not pictures:
        return []
    x = images.from_pil(prepared(pictures), "L")
    return _code(model, *model.encode(x.to(core.device()), told(model, x, digits)))


def decode_many(model: VAE, requests: Sequence[tuple[Sequence[float], int | None]]) -> list[Image.Image]:
    """The pictures of all requests (z: Z numbers, digit or None) in one pass. A conditional model draws a 0 where no digit is named.

    Raises Problem for a code of another length.
    """
    if not requests:
        return []
    if wrong := next((z for z, _ in requests if len(z) != model.latent_dim), None):
        raise Problem("the code must be {n} numbers, got {got}", "编码必须是 {n} 个数，收到的是 {got} 个", n=model.latent_dim, got=len(wrong))
    return images.to_pil(draw(model, torch.tensor([list(z) for z, _ in requests]), torch.tensor([digit or 0 for _, digit in requests])))


def reconstruct(model: VAE, picture: Image.Image) -> Reconstruction:
    """Squeeze one picture to z = mu and draw it again; see reconstruct_many."""
    return reconstruct_many(model, [picture])[0]


@torch.inference_mode()
def reconstruct_many(model: VAE, pictures: Sequence[Image.Image], digits: Sequence[int | None] | None = None) -> list[Reconstruction]:
    """All pictures in one pass; see prepared() and told(). Problem where there is no ink."""
    if not pictures:
        return []
    inputs = prepared(pictures)
    given = images.from_pil(inputs, "L")
    x, y = given.to(core.device()), told(model, given, digits)
    mu, logvar = model.encode(x, y)
    logits = model.decode(mu, y)
    output = logits.sigmoid() * 2 - 1
    seen = classifier.classify(torch.cat([given, output.cpu()])).argmax(dim=1).view(2, -1).T.tolist()
    recon, kl = reconstruction_error(logits, x).tolist(), divergence(mu, logvar).tolist()
    drawn, errors = images.to_pil(output), images.to_pil((output - x).abs() - 1)
    rows = zip(inputs, drawn, errors, _code(model, mu, logvar), recon, kl, seen, strict=True)
    return [Reconstruction(before, after, error, code.mu, code.logvar, r, k, tuple(pair)) for before, after, error, code, r, k, pair in rows]


def in_hand(model: VAE, picture: Image.Image, of: int | None = None) -> list[Image.Image]:
    """The same hand, all ten digits: the code of a picture of the digit `of` (None: what the classifier reads), drawn as 0 to 9.

    Raises Problem for a model that is not told the digit.
    """
    if not model.conditional:
        raise Problem("only the variant 'conditional' can draw another digit in your hand", "只有变体“conditional”能用你的笔迹写另一个数字")
    (code,) = encode_many(model, [picture], [of])
    return decode_many(model, [(code.mu, digit) for digit in range(10)])


def interpolate(model: VAE, a: Image.Image, b: Image.Image, n: int) -> list[Image.Image]:
    """n >= 2 pictures along the straight line from the code of a to that of b; a conditional model goes from digit to digit beside it."""
    mu, y = means(model, [a, b])
    t = torch.linspace(0, 1, n, device=mu.device)
    digits = None if y is None else torch.where(t < 0.5, y[0], y[1])
    return images.to_pil(draw(model, torch.lerp(mu[0], mu[1], t.unsqueeze(1)), digits))


def arithmetic(model: VAE, a: Image.Image, minus: Image.Image, plus: Image.Image) -> tuple[Image.Image, ...]:
    """The three pictures drawn again from their codes, and the picture of the code a - minus + plus. Mikolov et al. 2013: king - man + woman."""
    mu, y = means(model, [a, minus, plus])
    z = torch.cat([mu, (mu[0] - mu[1] + mu[2]).unsqueeze(0)])
    return tuple(images.to_pil(draw(model, z, None if y is None else torch.cat([y, y[:1]]))))
