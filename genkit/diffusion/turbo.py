"""mini-sd-turbo: mini-sd distilled to draw in four steps, without guidance.

The path from noise to picture is cut into four pieces. A student that begins as a copy of the teacher learns to cross each of them in one step of DDIM; its
teacher takes SUBSTEPS, each guided by the caption. This is progressive distillation (Salimans & Ho 2022, algorithm 2: https://arxiv.org/abs/2202.00512) of a guided
teacher (Meng et al. 2023: https://arxiv.org/abs/2210.03142) in one round.

B pictures, T tokens, E text features; latents (B, 4, 16, 16), t (B,) from 0 to 999, -1 being the picture itself.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler

from genkit import core, emoji, swift
from genkit.diffusion import networks, pipeline
from genkit.diffusion.latent import PROMPTS, Lesson, latents
from genkit.diffusion.schooling import tokens
from genkit.diffusion.training import Average, learners, optimize

TEACHER = "mini-sd"
PIECES, SUBSTEPS = 4, 3
GUIDANCE = pipeline.DEFAULTS["guidance_scale"]


def train(config, steps, every, batch_size, lr, seed, checkpoint, download) -> Iterator[core.Event]:
    """Distil the shipped mini-sd. Event.model: a pipeline with the averaged student; previews: PROMPTS in four steps."""
    accelerator = core.accelerator()
    pipe = pipeline.load(TEACHER).to(accelerator.device)
    teacher, student = copy.deepcopy(pipe.unet).requires_grad_(False), copy.deepcopy(pipe.unet)
    net, *optimizers = accelerator.prepare(student, *learners(student, lr))
    average = Average(accelerator, student)
    pipe.register_modules(unet=average.shown, scheduler=scheduler())
    kept = latents(emoji.Emoji(download=download), pipe.vae, seed, config.pictures, checkpoint, accelerator)
    lesson, alphas_cumprod = Lesson(kept, seed, pipe.text_encoder, pipe.tokenizer), pipe.scheduler.alphas_cumprod.to(accelerator.device)
    with torch.no_grad():
        nothing = pipe.text_encoder(tokens(pipe.tokenizer, [""]).to(accelerator.device)).last_hidden_state

    def loss_at(step):
        x, t, features, _ = lesson.batch(batch_size, "turbo", step, accelerator.process_index, times=starts())
        with swift.half(accelerator.device):
            wanted = crossing(lambda x, t: guided(teacher, x, t, features, nothing), x, t, alphas_cumprod)
            return F.mse_loss(net(x, t, features).sample.float(), wanted)

    for step, metrics in optimize(accelerator, net, optimizers, loss_at, steps, every, checkpoint, then=average.follow, lr=lr, hold=0.3):
        noise = [core.seeded(seed, "preview", index) for index in range(len(PROMPTS))]
        yield core.Event(step, steps, metrics, pipe, pipe(list(PROMPTS), num_inference_steps=PIECES, guidance_scale=0.0, generator=noise).images)


def scheduler() -> DDIMScheduler:
    """DDIM (Song et al. 2020) on the noise levels of networks.scheduler(), from one to the next of those that the student has learnt to jump between."""
    shared = {
        name: networks.scheduler().config[name] for name in ("num_train_timesteps", "beta_schedule", "prediction_type", "timestep_spacing", "steps_offset")
    }
    return DDIMScheduler(**shared, clip_sample=False, set_alpha_to_one=True)


def starts() -> torch.Tensor:
    """t at which the pieces begin: (999, 749, 499, 249)."""
    return 1000 - torch.arange(PIECES) * (1000 // PIECES) - 1


def guided(unet, x, t, features, nothing, guidance: float = GUIDANCE) -> torch.Tensor:
    """v with classifier-free guidance (Ho & Salimans 2022, eq. 6: https://arxiv.org/abs/2207.12598). features (B, T, E), nothing (1, T, E): of the empty caption."""
    both = torch.cat([nothing.expand_as(features), features])
    without, told = unet(torch.cat([x, x]), torch.cat([t, t]), both).sample.float().chunk(2)
    return without + guidance * (told - without)


@torch.no_grad()
def crossing(velocity_at: Callable, x: torch.Tensor, t: torch.Tensor, alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """The v with which one step of DDIM goes from x at t as far as SUBSTEPS of velocity_at(x, t) do: to t - 250."""
    width = 1000 // PIECES
    here, now = x, t
    for substep in range(1, SUBSTEPS + 1):
        following = t - width * substep // SUBSTEPS
        here, now = step(here, velocity_at(here, now), now, following, alphas_cumprod), following
    (a, s), (a_end, s_end) = levels(t, alphas_cumprod), levels(now, alphas_cumprod)
    return (here - (a * a_end + s * s_end) * x) / (a * s_end - s * a_end)


def step(x, v, t, following, alphas_cumprod) -> torch.Tensor:
    """One step of DDIM without noise from t to `following`: x0 = a x - s v and noise = s x + a v stay as they are. Song et al. 2020, eq. 12."""
    (a, s), (a_end, s_end) = levels(t, alphas_cumprod), levels(following, alphas_cumprod)
    return a_end * (a * x - s * v) + s_end * (s * x + a * v)


def levels(t, alphas_cumprod) -> tuple[torch.Tensor, torch.Tensor]:
    """The shares a of picture and s of noise at t, (B, 1, 1, 1); 1 and 0 at -1."""
    share = torch.where(t < 0, 1.0, alphas_cumprod[t.clamp_min(0)]).view(-1, 1, 1, 1)
    return share.sqrt(), (1 - share).sqrt()
