"""train(): one generator for both variants. mini-sd runs four stages in order, each resumable: see latent.py."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch

from genkit import core
from genkit.diffusion import VARIANTS


def train(variant, *, steps=None, every=None, batch_size=None, lr=None, seed=0, checkpoint=None, download=False) -> Iterator[core.Event]:
    """Train a variant and report as it goes; the last event's model is the result. None takes the variant's default.

    `steps` counts the optimizer steps of all stages together. With a checkpoint folder a run goes on where it was cut off.
    """
    from genkit.diffusion import latent, pixel

    config = core.pick(VARIANTS, variant, "diffusion variant", "扩散模型变体")
    checkpoint = Path(checkpoint) if checkpoint else None
    run = {"latent": latent.train, "pixel": pixel.train}[config.arch]
    yield from run(config, steps or config.steps, every or config.every, batch_size or config.batch_size, lr or config.lr, seed, checkpoint, download)


def set_lr(optimizer: torch.optim.Optimizer, lr: float, step: int, steps: int, *, warmup: float = 0.02, hold: float = 0.0) -> None:
    """Linear warm-up, `hold` of the run at lr, then a cosine to 2 % of it; a function of the step alone, so that a resumed run fits."""
    done = step / max(steps, 1)
    if done < warmup:
        factor = (step + 1) / (warmup * steps + 1)
    else:
        factor = 0.02 + 0.98 * (1 + math.cos(math.pi * max(done - hold, 0) / (1 - hold))) / 2
    for group in optimizer.param_groups:
        group["lr"] = lr * factor
