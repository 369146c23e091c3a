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

from genkit import classifier, core, images, swift
from genkit.core import Problem
from genkit.diffusion import live, schedulers
from genkit.diffusion.trace import Trace, decoded
from genkit.diffusion.training import Average, optimize, velocity
from genkit.digits import digits, draw, to_float

ANY = 10  # the class that stands for no class
SIZE = 28
LIMIT = 20  # digits drawn in one picture
EXAMINED = 100  # digits of an examination


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


def train(config, steps, every, batch_size, lr, seed, checkpoint: Path | None, download, exams: int = 0) -> Iterator[core.Event]:
    """Learn v at random noise levels; a tenth of the classes left out for guidance. The model of an event holds the averaged weights.

    exams: steps between two examinations, each a live.Exam; they come with a promise of when the training will have ended. 0: none.
    """
    events = _train(config, steps, every, batch_size, lr, seed, checkpoint, download, exams)
    yield from swift.single(live.timed(events) if exams else events)


def _train(config, steps, every, batch_size, lr, seed, checkpoint, download, exams) -> Iterator[core.Event]:
    x, y = digits("train", download)
    accelerator = core.accelerator()
    net = core.build(unet, seed).eval()
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01)
    net, optimizer = accelerator.prepare(net, optimizer)
    average = Average(accelerator, accelerator.unwrap_model(net))
    pipe, exam = pipeline(average.shown), None
    alphas_cumprod = pipe.scheduler.alphas_cumprod.to(accelerator.device)

    def loss_at(step):
        rng = core.seeded(seed, step, accelerator.process_index)
        x0, labels = draw(x, y, batch_size, rng)
        labels = torch.where(torch.rand(batch_size, generator=rng) < 0.1, ANY, labels)
        noise, t = torch.randn(x0.shape, generator=rng), torch.randint(1000, (batch_size,), generator=rng)
        x0, labels, noise, t = (part.to(accelerator.device) for part in (x0, labels, noise, t))
        x_t, v = velocity(x0, noise, t, alphas_cumprod)
        with swift.half(accelerator.device):
            guess = net(x_t, t, labels).sample
        return F.mse_loss(guess.float(), v)

    schedule = {"lr": lr, "warmup": min(50 / steps, 0.1), "hold": 0.3}
    for step, metrics in optimize(accelerator, net, [optimizer], loss_at, steps, every, checkpoint, then=average.follow, **schedule):
        if exams and (exam is None or step >= exam.step + exams or step == steps):
            exam = examine(pipe, step)
        yield core.Event(step, steps, metrics, pipe, _drawings(pipe, seed), exam)


def _drawings(pipe, seed) -> list[Image.Image]:
    """The ten digits."""
    with swift.half(pipe.unet.device):
        *_, x = denoise(pipe, torch.arange(10), [core.seeded(seed, "preview", index) for index in range(10)], steps=8, guidance=1.5)
    return images.to_pil(x.float())


def examine(pipe, step: int) -> live.Exam:
    """The loss by noise level on test digits, and the share of as many samples that the shipped classifier reads as what was asked for."""
    x, y = digits("test")
    chosen = torch.linspace(0, len(x) - 1, EXAMINED).long()
    x0, labels = to_float(x[chosen]).to(pipe.unet.device), y[chosen].long().to(pipe.unet.device)
    noise = torch.randn(x0.shape, generator=core.seeded("exam")).to(x0.device)
    with swift.half(x0.device):
        losses = live.by_level(lambda x_t, t: pipe.unet(x_t, t, labels).sample, x0, noise, pipe.scheduler.alphas_cumprod.to(x0.device))
        return live.Exam(step, losses, right(pipe, EXAMINED, steps=8))


def right(pipe, n: int, seed: int | str = 0, steps: int = 20) -> float:
    """How often the shipped digit classifier sees the digit asked for in n samples, n / 10 of each; guidance 1.5."""
    found = 0
    for begin in range(0, n, 100):
        wanted = torch.arange(begin, min(begin + 100, n)) % 10
        *_, x = denoise(pipe, wanted, [core.seeded("evaluation", seed, begin + index) for index in range(len(wanted))], steps, 1.5)
        found += int((classifier.classify(x.float().cpu().clamp(-1, 1)).argmax(dim=1) == wanted).sum())
    return found / n


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
