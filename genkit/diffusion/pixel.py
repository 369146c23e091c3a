"""The digits variant: diffusion on the pixels of MNIST, told the class (Ho et al. 2020), with classifier-free guidance (Ho & Salimans 2022).

Saved as diffusers' DDIMPipeline: a UNet2DModel with class embeddings and a scheduler. DiffusionPipeline.from_pretrained opens the folder;
its own call knows no classes, so drawing a chosen digit is done here. x (B, 1, 28, 28) in [-1, 1], t (B,), y (B,) with 10 for "any digit".
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
from PIL import Image

from genkit import core, images
from genkit.core import Problem
from genkit.diffusion import schedulers
from genkit.diffusion.trace import Trace, decoded
from genkit.diffusion.training import Average, optimize, velocity
from genkit.digits import digits, draw

ANY = 10  # the class that stands for no class
SIZE = 28
LIMIT = 20  # digits drawn in one picture


def unet() -> UNet2DModel:
    """x_t, t and y to v, (B, 1, 28, 28); 0.64 M parameters. Most of the width is where the picture is small and cheap."""
    return UNet2DModel(
        sample_size=SIZE,
        in_channels=1,
        out_channels=1,
        block_out_channels=(16, 32, 64),
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=("UpBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=8,
        num_class_embeds=ANY + 1,
    )


def pipeline(net: UNet2DModel) -> DDIMPipeline:
    """The U-Net with its noise levels: squared cosine, v-prediction."""
    pipe = DDIMPipeline(net, DDIMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", timestep_spacing="trailing"))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def train(config, steps, every, batch_size, lr, seed, checkpoint: Path | None, download) -> Iterator[core.Event]:
    """Learn v at random noise levels; a tenth of the classes left out for guidance. The model of an event holds the averaged weights."""
    x, y = digits("train", download)
    accelerator = core.accelerator()
    net = core.build(unet, seed).eval()
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01)
    net, optimizer = accelerator.prepare(net, optimizer)
    average = Average(accelerator, accelerator.unwrap_model(net))
    pipe = pipeline(average.shown)
    alphas_cumprod = pipe.scheduler.alphas_cumprod.to(accelerator.device)

    def loss_at(step):
        rng = core.seeded(seed, step, accelerator.process_index)
        x0, labels = draw(x, y, batch_size, rng)
        labels = torch.where(torch.rand(batch_size, generator=rng) < 0.1, ANY, labels)
        noise, t = torch.randn(x0.shape, generator=rng), torch.randint(1000, (batch_size,), generator=rng)
        x0, labels, noise, t = (part.to(accelerator.device) for part in (x0, labels, noise, t))
        x_t, v = velocity(x0, noise, t, alphas_cumprod)
        return F.mse_loss(net(x_t, t, labels).sample, v)

    schedule = {"lr": lr, "warmup": min(50 / steps, 0.1), "hold": 0.3}
    for step, metrics in optimize(accelerator, net, optimizer, loss_at, steps, every, checkpoint, then=average.follow, **schedule):
        yield core.Event(step, steps, metrics, pipe, _drawings(pipe, seed))


def _drawings(pipe, seed) -> list[Image.Image]:
    """The ten digits."""
    *_, x = denoise(pipe, torch.arange(10), [core.seeded(seed, "preview", index) for index in range(10)], steps=8, guidance=1.5)
    return images.to_pil(x)


@torch.no_grad()
def _noise(rngs) -> torch.Tensor:
    return torch.cat([torch.randn(1, 1, SIZE, SIZE, generator=rng) for rng in rngs])


def denoise(
    pipe, labels: torch.Tensor, rngs: list[torch.Generator], steps: int, guidance: float, scheduler: str = "dpm++", kept: Trace | None = None
) -> Iterator[torch.Tensor]:
    """x after each step, (B, 1, 28, 28), for labels (B,): noise from one generator a picture, then a scheduler of SCHEDULERS. `kept` gets every step.

    Guidance: v(any) + guidance (v(y) - v(any)); 1 is none.
    """
    net, way = pipe.unet, schedulers.make(pipe.scheduler, scheduler)
    way.set_timesteps(steps)
    if kept is not None:
        kept.follow(way, rngs)
    x, labels = _noise(rngs).to(net.device) * way.init_noise_sigma, labels.to(net.device)
    random = {"generator": rngs} if "generator" in inspect.signature(way.step).parameters else {}
    for t in way.timesteps:
        with torch.no_grad():
            x_t = way.scale_model_input(x, t)
            v = net(x_t, t, labels).sample
            if guidance != 1:
                free = net(x_t, t, torch.full_like(labels, ANY)).sample
                v = free + guidance * (v - free)
            x = way.step(v, t, x, return_dict=False, **random)[0]
        yield x


def sample(pipe, prompt: str, steps: int, guidance: float, seed: int, scheduler: str, kept: Trace) -> Iterator:
    """The digits of the prompt side by side, as they come out of the noise. Raises Problem if it holds anything but digits."""
    from genkit.diffusion.drawing import Step

    wanted = [int(char) for char in prompt if not char.isspace() and char.isascii() and char.isdigit()]
    if len(wanted) != len("".join(prompt.split())) or not 1 <= len(wanted) <= LIMIT:
        raise Problem(
            "this model draws digits: write 1 to {limit} of them, such as 7 or 0123456789, not '{prompt}'",
            "该模型只画数字：请写 1 到 {limit} 个数字，例如 7 或 0123456789，而不是“{prompt}”",
            limit=LIMIT,
            prompt=prompt[:60],
        )
    rngs = [core.seeded(seed, index) for index in range(len(wanted))]
    for step, x in enumerate(denoise(pipe, torch.tensor(wanted), rngs, steps, guidance, scheduler or "dpm++", kept), start=1):
        kept.pictures = decoded(pipe, x)
        yield Step(kept.pictures, step, steps)
