"""How a GAN is trained: one step of D on real and generated digits, one step of G through D. Dimensions as in model.py."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

from genkit import core
from genkit.digits import digits, draw
from genkit.gan import VARIANTS, Config
from genkit.gan.model import GAN, sample


def loss_d(real: torch.Tensor, fake: torch.Tensor, mismatched: torch.Tensor) -> torch.Tensor:
    """-log D(x) - log(1 - D(G(z))) of logits: equation 1 of Goodfellow et al. 2014, as D minimises it.

    Half of what must be called fake are real digits under a wrong label: that teaches D, and through it G, the label many times sooner.
    Reed et al. 2016, algorithm 1 (GAN-CLS): https://arxiv.org/abs/1605.05396
    """
    return F.softplus(-real).mean() + (F.softplus(fake).mean() + F.softplus(mismatched).mean()) / 2


def loss_g(fake: torch.Tensor) -> torch.Tensor:
    """-log D(G(z)) of logits: the non-saturating loss of section 3, whose gradient does not vanish while D wins."""
    return F.softplus(-fake).mean()


def train(variant: str, *, steps=None, every=None, batch_size=None, lr=None, seed=0, checkpoint=None, download=False) -> Iterator[core.Event]:
    """Let G and D play on the training digits, their learning rate falling to 0 along a straight line.

    metrics: loss_d, loss_g, and the mean probability of being real that D gives to real digits, d_real, and to generated ones, d_fake.
    A run resumed from `checkpoint` equals an unbroken one. Raises Problem for an unknown variant or where there are no digits.
    """
    config = core.pick(VARIANTS, variant, "GAN variant", "GAN 变体")
    steps, every, batch_size, lr = steps or config.steps, every or config.every, batch_size or config.batch_size, lr or config.lr
    x, y = digits("train", download)
    acc = core.accelerator()
    game = Game(acc, core.build(lambda: GAN(config.arch, config.latent_dim, config.channels), seed), config, lr)
    start, metrics = core.resume(acc, checkpoint), []
    yield game.event(start, steps, metrics, seed)
    for step in range(start, steps):
        rng = core.seeded(seed, step, acc.process_index)
        metrics.append(game.step(*draw(x, y, batch_size, rng), rng, step, lr * (1 - step / steps)))
        if (step + 1) % every == 0 or step + 1 == steps:
            core.keep(acc, checkpoint, step + 1)
            yield game.event(step + 1, steps, metrics, seed)
            metrics = []


class Game:
    """The two players, their optimizers, and the running average of G that is shown and saved."""

    def __init__(self, acc, model: GAN, config: Config, lr: float):
        self.acc, self.config = acc, config
        model.to(memory_format=torch.channels_last)  # convolutions are a third faster on a CPU
        self.shown = copy.deepcopy(model)
        optimizers = (torch.optim.Adam(player.parameters(), lr, betas=config.betas) for player in (model.generator, model.discriminator))
        self.generator, self.discriminator, self.opt_g, self.opt_d = acc.prepare(model.generator, model.discriminator, *optimizers)
        self.shown.generator = acc.prepare_model(self.shown.generator, evaluation_mode=True)  # so that keep() keeps it
        self.shown.discriminator = acc.unwrap_model(self.discriminator)

    @torch.enable_grad()
    def step(self, real: torch.Tensor, y: torch.Tensor, rng: torch.Generator, step: int, lr: float) -> torch.Tensor:
        """One step of D, then one of G on the same generated digits; the four metrics as (4,)"""
        for optimizer in (self.opt_g, self.opt_d):
            for group in optimizer.param_groups:
                group["lr"] = lr
        self.generator.train()
        real, y = real.to(self.acc.device), y.to(self.acc.device)
        z = torch.randn(len(real), self.config.latent_dim, generator=rng).to(real)
        fake = self.generator(z, y)
        wrong = (y + torch.randint(1, 10, y.shape, generator=rng).to(y)) % 10
        logits = self.discriminator(torch.cat([real, fake.detach()]), torch.stack([y, wrong], dim=1).repeat(2, 1), rng)  # (2B, 2)
        (on_real, on_fake), (mismatched, _) = logits[:, 0].chunk(2), logits[:, 1].chunk(2)
        d = loss_d(on_real, on_fake, mismatched)
        self._update(self.opt_d, d)
        judge = self.acc.unwrap_model(self.discriminator).requires_grad_(False)  # G learns through D, D does not learn here
        g = loss_g(judge(fake, y, rng))
        self._update(self.opt_g, g)
        judge.requires_grad_(True)
        self._average(step)
        return torch.stack([d, g, on_real.sigmoid().mean(), on_fake.sigmoid().mean()]).detach()

    def _update(self, optimizer, loss: torch.Tensor) -> None:
        optimizer.zero_grad()
        self.acc.backward(loss)
        optimizer.step()

    @torch.no_grad()
    def _average(self, step: int) -> None:
        """Exponential moving average of G, short at first. Yazici et al. 2018: https://arxiv.org/abs/1806.04498"""
        keep = min(self.config.ema, (1 + step) / (10 + step))
        for mean, now in zip(_state(self.shown.generator), _state(self.acc.unwrap_model(self.generator)), strict=True):
            mean.lerp_(now, 1 - keep) if mean.is_floating_point() else mean.copy_(now)

    def event(self, step: int, steps: int, metrics: list[torch.Tensor], seed: int) -> core.Event:
        """metrics are means since the previous event; the model is the averaged G beside the live D."""
        names = ("loss_d", "loss_g", "d_real", "d_fake")
        means = dict(zip(names, torch.stack(metrics).mean(dim=0).tolist(), strict=True)) if metrics else {}
        self.shown.eval()
        return core.Event(step, steps, means, self.shown, next(sample(self.shown, seed=seed)))


def _state(module: nn.Module):
    """Parameters and the running means of batch normalisation."""
    return module.state_dict().values()
