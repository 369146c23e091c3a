"""How a GAN is trained: D on real and generated digits, G through D, by rules that may change on the way. Dimensions as in networks.py."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from accelerate import DistributedDataParallelKwargs

from genkit import core
from genkit.digits import digits, draw
from genkit.gan import LIVE, OPTIMIZERS, VARIANTS, Config, Rules
from genkit.gan.doctor import Exam
from genkit.gan.losses import PENALTIES, loss_d, loss_g
from genkit.gan.model import GAN, load, sample
from genkit.gan.quality import examine
from genkit.stopwatch import Stopwatch

PENALTY_EVERY = 4  # steps between two penalties r1: it changes slowly and costs as much as the step. Karras et al. 2020, section 3.1


def train(
    variant: str, *, steps=None, every=None, batch_size=None, lr=None, seed=0, checkpoint=None, download=False, control=None, exams=0, **changes
) -> Iterator[core.Event]:
    """Let G and D play on the training digits, their learning rate falling to 0 along a straight line.

    control: a core.Control of Rules, for whoever wants to change them on the way. exams: steps between two examinations (Event.exam), 0 for none.
    changes: other values for fields of the variant's Config, latent_dim=2 or optimizer="sgd".
    metrics: loss_d, loss_g; the mean probability of being real that D gives to real digits, d_real, and to generated ones, d_fake (of a Wasserstein
    critic: the same function of its score); how often D finds a real digit more real than a generated one, d_right; the length of the gradient of G, grad_g. A run resumed from `checkpoint` equals an unbroken one if the rules do not change.
    Raises Problem for an unknown variant or where there are no digits.
    """
    config = dataclasses.replace(core.pick(VARIANTS, variant, "GAN variant", "GAN 变体"), **changes)
    steps, every, batch_size, lr = steps or config.steps, every or config.every, batch_size or config.batch_size, lr or config.lr
    x, y = digits("train", download)
    acc, control = core.accelerator(kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)]), control or core.Control(config.rules)
    game = Game(acc, core.build(lambda: GAN(config.arch, config.latent_dim, config.channels, config.d_channels, config.conditional), seed), config, lr)
    as_usual = not changes and steps >= LIVE and (batch_size, lr, control.now) == (config.batch_size, config.lr, config.rules)
    start, metrics, watch = core.resume(acc, checkpoint), [], Stopwatch(config.recognisable if as_usual else 0)
    exam = examine(game.shown, start, {}) if exams else None
    yield game.event(start, steps, metrics, seed, exam)
    watch.go()
    for step in range(start, steps):
        rng, rules = core.seeded(seed, step, acc.process_index), control.now
        metrics.append(game.step(lambda rng=rng: draw(x, y, batch_size, rng), rng, step, rules, lr * (1 - step / steps)))
        watch.step(rules == config.rules)
        if (step + 1) % every == 0 or step + 1 == steps or rules.single or rules.players != "both":
            core.keep(acc, checkpoint, step + 1)
            if exams and (step + 1) // exams > exam.step // exams:
                exam = examine(game.shown, step + 1, means(metrics))
            event = game.event(step + 1, steps, metrics, seed, exam and watch.told(exam, exam.right >= 0.9 and exam.covered == 10))
            watch.rest()
            yield event
            watch.go()
            metrics = []


def optimizer(name: str, parameters, lr: float, betas: tuple[float, float]) -> torch.optim.Optimizer:
    """Raises Problem for a name that is not in OPTIMIZERS."""
    core.pick(OPTIMIZERS, name, "optimizer", "优化器")
    if name == "adam":
        return torch.optim.Adam(parameters, lr, betas=betas)
    return torch.optim.RMSprop(parameters, lr) if name == "rmsprop" else torch.optim.SGD(parameters, lr, momentum=betas[0])


class Game:
    """The two players, their optimizers, and the running average of G that is shown and saved."""

    def __init__(self, acc, model: GAN, config: Config, lr: float):
        self.acc, self.config = acc, config
        self.teacher = load(config.teacher).generator if config.teacher else None
        self.shown = copy.deepcopy(model)
        optimizers = (optimizer(config.optimizer, player.parameters(), lr, config.betas) for player in (model.generator, model.discriminator))
        self.generator, self.discriminator, self.opt_g, self.opt_d = acc.prepare(model.generator, model.discriminator, *optimizers)
        self.shown.generator = acc.prepare_model(self.shown.generator, evaluation_mode=True)  # so that keep() keeps it
        self.shown.discriminator = acc.unwrap_model(self.discriminator)

    @torch.enable_grad()
    def step(self, deal, rng: torch.Generator, step: int, rules: Rules, lr: float) -> dict[str, torch.Tensor]:
        """The steps of D, then those of G, the first of which is on the digits that D has just seen; the metrics of the last ones.

        deal() gives the next real digits (B, 1, 28, 28) and their labels (B,).
        """
        for player, rate in ((self.opt_g, rules.g_rate), (self.opt_d, rules.d_rate)):
            for group in player.param_groups:
                group["lr"] = lr * rate
        self.generator.train()
        metrics, made = {}, None
        for _ in range(rules.d_steps if rules.players != "g" else 0):
            made, found = self._step_d(*deal(), rng, step, rules)
            metrics |= found
        for _ in range(rules.g_steps if rules.players != "d" else 0):
            metrics |= self._step_g(*(made or self._make(deal()[1], rng)), rng, rules)
            made = None
        if rules.players != "d":  # what is shown is G: a step of D alone leaves it as it is
            self._average(step)
        return metrics

    def _make(self, y: torch.Tensor, rng: torch.Generator):
        """Generated digits (B, 1, 28, 28), their latents (B, Z) and labels (B,)."""
        y = y.to(self.acc.device)
        z = torch.randn(len(y), self.config.latent_dim, generator=rng).to(y.device)
        return self.generator(z, y, rng), z, y

    def _step_d(self, real: torch.Tensor, y: torch.Tensor, rng: torch.Generator, step: int, rules: Rules):
        fake, z, y = self._make(y, rng)
        real, seen = real.to(self.acc.device), fake.detach()
        wrong = (y + torch.randint(1, 10, y.shape, generator=rng).to(y)) % 10
        logits = self.discriminator(torch.cat([real, seen]), torch.stack([y, wrong], dim=1).repeat(2, 1), rng, 2 * rules.crowd)  # (2B, 2)
        (on_real, on_fake), (mismatched, _) = logits[:, 0].chunk(2), logits[:, 1].chunk(2)
        # who is told no digit is told no wrong one; and a critic whose slope alone is bounded would part right from wrong labels without end
        wrongs = self.config.conditional and rules.loss != "wasserstein"
        share = max(0.0, 0.5 - 0.5 * step / self.config.mismatched) if wrongs else 0.0
        loss = loss_d(on_real, on_fake, mismatched, share, rules.loss, rules.smoothing)
        every = PENALTY_EVERY if rules.penalty == "r1" else 1
        if rules.penalty and step % every == 0:
            judge = self.acc.unwrap_model(self.discriminator)
            loss = loss + every * PENALTIES[rules.penalty](lambda x: judge(x, y), real, seen, rng)
        self._update(self.opt_d, loss)
        with torch.no_grad():
            told = (on_real > on_fake).float().mean()
            return (fake, z, y), {"loss_d": loss.detach(), "d_real": on_real.sigmoid().mean(), "d_fake": on_fake.sigmoid().mean(), "d_right": told}

    def _step_g(self, fake: torch.Tensor, z: torch.Tensor, y: torch.Tensor, rng: torch.Generator, rules: Rules) -> dict[str, torch.Tensor]:
        judge = self.acc.unwrap_model(self.discriminator).requires_grad_(False)  # G learns through D, D does not learn here
        loss = loss_g(judge(fake, y, rng, int(rules.crowd)), rules.loss)
        if self.teacher is not None:
            with torch.no_grad():
                model = self.teacher(z, y)
            loss = loss + 20 * F.l1_loss(fake, model)
        self._update(self.opt_g, loss)
        judge.requires_grad_(True)
        gradients = [p.grad for p in self.generator.parameters() if p.grad is not None]
        return {"loss_g": loss.detach(), "grad_g": torch.stack(torch._foreach_norm(gradients)).norm()}

    def _update(self, player, loss: torch.Tensor) -> None:
        player.zero_grad()
        self.acc.backward(loss)
        player.step()

    @torch.no_grad()
    def _average(self, step: int) -> None:
        """Exponential moving average of G, short at first. Yazici et al. 2018: https://arxiv.org/abs/1806.04498"""
        keep = min(self.config.ema, (1 + step) / (10 + step))
        for mean, now in zip(_state(self.shown.generator), _state(self.acc.unwrap_model(self.generator)), strict=True):
            mean.lerp_(now, 1 - keep) if mean.is_floating_point() else mean.copy_(now)

    def event(self, step: int, steps: int, metrics: list[dict], seed: int, exam: Exam | None) -> core.Event:
        """metrics are means since the previous event; the model is the averaged G beside the live D."""
        self.shown.eval()
        return core.Event(step, steps, means(metrics), self.shown, next(sample(self.shown, seed=seed)), exam)


def means(metrics: list[dict]) -> dict[str, float]:
    """The mean of each metric over the steps that have it."""
    names = dict.fromkeys(name for row in metrics for name in row)
    return {name: torch.stack([row[name] for row in metrics if name in row]).mean().item() for name in names}


def _state(module):
    """Parameters and the running means of batch normalisation."""
    return module.state_dict().values()
