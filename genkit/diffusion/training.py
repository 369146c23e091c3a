"""train() for both variants, and the loop of optimizer steps that all their stages share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

from genkit import core, swift
from genkit.diffusion import VARIANTS
from genkit.muon import Muon


def train(variant, *, steps=None, every=None, batch_size=None, lr=None, seed=0, checkpoint=None, download=False, **options) -> Iterator[core.Event]:
    """Train a variant and report as it goes; the last event's model is the result. None takes the variant's default.

    `steps` counts the optimizer steps of all stages together; batch_size and lr are those of the U-Net. With a checkpoint folder a run goes
    on where it was cut off. options: of the variant's own training, for digits `exams`. Raises Problem for an unknown variant, or where there are no pictures to learn from.
    """
    from genkit.diffusion import latent, pixel, turbo

    config = core.pick(VARIANTS, variant, "diffusion variant", "扩散模型变体")
    checkpoint = Path(checkpoint) if checkpoint else None
    run = {"latent": latent.train, "pixel": pixel.train, "turbo": turbo.train}[config.arch]
    yield from run(
        config, steps or config.steps, every or config.every, batch_size or config.batch_size, lr or config.lr, seed, checkpoint, download, **options
    )


def optimize(
    accelerator, net: nn.Module, optimizers: list, loss_at: Callable[[int], torch.Tensor], steps: int, every: int, checkpoint, *, lr, then=None, **schedule
) -> Iterator[tuple[int, dict]]:
    """Minimise loss_at(step) from the step kept in `checkpoint` to `steps`; yield (step, {"loss": mean since the last}) every `every` steps and at the end.

    First of all (start, {}) is yielded. then(step) is called after each step of the optimizers; `schedule` goes to set_lr().
    """
    start, losses = core.resume(accelerator, checkpoint), []
    yield start, {}
    for step in range(start, steps):
        for optimizer in optimizers:
            set_lr(optimizer, lr, step, steps, **schedule)
        with torch.enable_grad():
            loss = loss_at(step)
            accelerator.backward(loss)
        accelerator.clip_grad_norm_(net.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if then is not None:
            then(step)
        losses.append(loss.item())
        if (step + 1) % every == 0 or step + 1 == steps:
            core.keep(accelerator, checkpoint, step + 1)
            yield step + 1, {"loss": sum(losses) / len(losses)}
            losses = []


def set_lr(optimizer: torch.optim.Optimizer, lr: float, step: int, steps: int, *, warmup: float = 0.02, hold: float = 0.0) -> None:
    """Linear warm-up, `hold` of the run at lr, then a cosine to 2 % of it; a function of the step alone, so that a resumed run fits."""
    done = step / max(steps, 1)
    rising = (step + 1) / (warmup * steps + 1)
    falling = 0.02 + 0.98 * (1 + math.cos(math.pi * max(done - hold, 0) / (1 - hold))) / 2
    for group in optimizer.param_groups:
        group["lr"] = lr * (rising if done < warmup else falling)


def learners(net: nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """Of a U-Net: Muon for the convolutions and matrices within, AdamW for the rest: the two ends of the network, norms and biases."""
    ends = {id(p) for end in (net.conv_in, net.conv_out) for p in end.parameters()}
    inner = [p for p in net.parameters() if p.ndim > 1 and id(p) not in ends]
    others = [p for p in net.parameters() if p.ndim < 2 or id(p) in ends]
    dtype = torch.bfloat16 if swift.quick(net.device) else torch.float32
    return [Muon(inner, lr, weight_decay=0.01, dtype=dtype), torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.99), weight_decay=0.01)]


class Average:
    """An exponential moving average of a network's weights, short at first: what is shown and saved."""

    def __init__(self, accelerator, net: nn.Module, decay: float = 0.998):
        import copy

        self.accelerator, self.net, self.decay = accelerator, net, decay
        self.shown = copy.deepcopy(net).eval().requires_grad_(False)
        self.shown = accelerator.prepare_model(self.shown, evaluation_mode=True)  # so that keep() keeps it

    @torch.no_grad()
    def follow(self, step: int) -> None:
        rate = 1 - min(self.decay, (1 + step) / (10 + step))
        for mean, now in zip(self.shown.parameters(), self.net.parameters(), strict=True):
            mean.lerp_(now, rate)


def velocity(x0, noise, t, alphas_cumprod):
    """x_t and the v to be learnt at levels t (B,), for x0 (B, ...): x_t = a x0 + s noise, v = a noise - s x0. Salimans & Ho 2022, appendix D."""
    shape = (-1, *(1,) * (x0.dim() - 1))
    a, s = alphas_cumprod[t].sqrt().view(shape), (1 - alphas_cumprod[t]).sqrt().view(shape)
    return a * x0 + s * noise, a * noise - s * x0
