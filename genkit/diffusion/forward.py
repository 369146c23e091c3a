"""The way back: any picture drowned in noise as in training, and what the model makes of it in a single step (Ho et al. 2020, eq. 4).

x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) noise, with abar_t the product of 1 - beta up to t. Latents (1, 4, h, w); t from 0 to 999.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from PIL import Image, ImageOps

from genkit import core, images
from genkit.core import Problem, number, pick
from genkit.diffusion import schedulers
from genkit.diffusion.drawing import own
from genkit.diffusion.trace import decoded

LEVELS = 1000
# name -> betas of diffusers: Nichol & Dhariwal 2021, eq. 17; Stable Diffusion's (the square roots go straight); Ho et al. 2020, section 4
SCHEDULES = {
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "scaled-linear": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "linear": {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
}


@functools.cache
def kept(schedule: str) -> torch.Tensor:
    """abar (1000,) of a schedule: how much of the picture is left at each t, by variance."""
    return DDPMScheduler(num_train_timesteps=LEVELS, **pick(SCHEDULES, schedule, "schedule", "噪声时间表")).alphas_cumprod


@functools.cache
def left(schedule: str) -> list[float]:
    """kept(), as numbers."""
    return kept(schedule).tolist()


def square(picture: Image.Image, size: int) -> Image.Image:
    """Any picture as size x size RGB: the middle of it, transparent parts white."""
    if "transparency" in picture.info or picture.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return ImageOps.fit(picture.convert("RGB"), (size, size), Image.Resampling.LANCZOS)


@dataclass(frozen=True)
class Drowned:
    """A picture at noise level t, and the guess. `told` is the t of the model's own schedule with as much noise; distances are PSNR in dB."""

    given: Image.Image
    x_t: Image.Image
    guess: Image.Image
    a: float
    s: float
    told: int
    psnr: float  # of the guess, against the picture as the autoencoder gives it back


@torch.no_grad()
def drown(pipe, picture: Image.Image, t, schedule: str = "cosine", *, prompt: str = "", seed: int = 0) -> Drowned:
    """A picture noised to t (0 to 999), and the x0 that the network sees in it at once. prompt "" tells it nothing.

    Raises Problem for a model that is no Stable Diffusion, or an unknown schedule.
    """
    if not isinstance(pipe, StableDiffusionPipeline) or hasattr(pipe, "turn"):
        raise Problem("this works with mini-sd and with Stable Diffusion only; choose one of them", "这里只支持 mini-sd 和 Stable Diffusion；请选择其中之一")
    t = number(t, 0, LEVELS - 1, "t", whole=True)
    level = float(kept(schedule)[t])
    a, s = level**0.5, (1 - level) ** 0.5
    mine = own(pipe)
    told = int((mine.scheduler.alphas_cumprod - level).abs().argmin())
    size = pipe.unet.config.sample_size * pipe.vae_scale_factor
    given = square(picture, size)
    x = images.from_pil([given]).to(pipe.vae.device, pipe.vae.dtype)
    z = pipe.vae.encode(x).latent_dist.mean * pipe.vae.config.scaling_factor
    noise = torch.randn(z.shape, generator=core.seeded(seed)).to(z)
    x_t = a * z + s * noise
    words, _ = mine.encode_prompt(prompt, pipe.device, 1, False)
    output = pipe.unet(x_t, told, words).sample
    x0, _ = schedulers.predicted(mine.scheduler, output, x_t, a, s)
    back, noisy, guess = (decoded(pipe, part)[0] for part in (z, x_t, x0))
    return Drowned(given, noisy, guess, a, s, told, _psnr(guess, back))


def _psnr(one: Image.Image, other: Image.Image) -> float:
    error = (images.from_pil([one]) - images.from_pil([other])).div(2).square().mean()
    return float(-10 * error.clamp_min(1e-6).log10())
