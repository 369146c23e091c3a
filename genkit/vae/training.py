"""How a VAE is trained on the evidence lower bound (ELBO). Dimensions as in model.py."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator

import torch

from genkit import core
from genkit.digits import digits, draw
from genkit.vae import VARIANTS, Rules
from genkit.vae.elbo import binarised, divergences, importance_bound, log_weights, reconstruction_error
from genkit.vae.model import VAE, sample
from genkit.vae.noise import corrupt
from genkit.vae.quality import examine


def train(
    variant: str, *, steps=None, every=None, batch_size=None, lr=None, seed=0, checkpoint=None, download=False, control=None, exams=0, examples=0, **changes
) -> Iterator[core.Event]:
    """Maximise the ELBO of the training digits by the Rules in force; the learning rate falls to 0 along a straight line.

    control: a core.Control of Rules, for whoever wants to change them on the way. exams: steps between two examinations (Event.exam), 0 for none.
    examples: only so many training digits, 0 for all. changes: other values for fields of the variant's Config, latent_dim=2.
    metrics, means per digit since the previous event: loss, what is minimised; recon and kl in nats; beta, the weight in force, 0 in a plain autoencoder.
    A run resumed from `checkpoint` equals an unbroken one if the rules do not change. Raises Problem for an unknown variant or where there are no digits.
    """
    config = dataclasses.replace(core.pick(VARIANTS, variant, "VAE variant", "VAE 变体"), **changes)
    steps, every, batch_size, lr = steps or config.steps, every or config.every, batch_size or config.batch_size, lr or config.lr
    x, y = some(*digits("train", download), examples, seed)
    acc, control = core.accelerator(), control or core.Control(config.rules)
    model = core.build(lambda: VAE(config.arch, config.latent_dim, config.channels, config.variational, config.conditional), seed)
    model, optimizer = acc.prepare(model, torch.optim.Adam(model.parameters(), lr))
    start, terms, seconds, warm = core.resume(acc, checkpoint), [], 0.0, Warmup(control.now)
    exam = examine(acc.unwrap_model(model).eval(), x, y, start, {}, seconds) if exams else None
    yield _event(acc, model, start, steps, terms, seed, exam)
    for step in range(start, steps):
        began, rng = time.perf_counter(), core.seeded(seed, step, acc.process_index)
        rules = warm(control.now if config.variational else Rules(beta=0.0), step)
        real, told = draw(x, y, batch_size, rng)
        real = binarised(real, rng) if config.binarised else real
        noise = torch.randn(config.importance * batch_size, config.latent_dim, generator=rng)
        seen = corrupt(real, rng) if config.corrupt else real
        batch = [part.to(acc.device) for part in (real, seen, told, noise)]
        terms.append(_step(acc, model, optimizer, batch, rules, lr * (1 - step / steps)))
        seconds += time.perf_counter() - began
        if (step + 1) % every == 0 or step + 1 == steps:
            core.keep(acc, checkpoint, step + 1)
            if exams and (step + 1) // exams > exam.step // exams:
                exam = examine(acc.unwrap_model(model).eval(), x, y, step + 1, means(terms), seconds)
            yield _event(acc, model, step + 1, steps, terms, seed, exam)
            terms = []


def some(x: torch.Tensor, y: torch.Tensor, examples: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """So many digits, chosen at random; 0 for all."""
    chosen = torch.randperm(len(x), generator=core.seeded(seed, "examples"))[:examples]
    return (x[chosen], y[chosen]) if examples else (x, y)


class Warmup:
    """The rules in force: beta grows from 0 over rules.warmup steps, counted from step 0 or from where that rule was changed."""

    def __init__(self, rules: Rules):
        self.warmup, self.since = rules.warmup, 0

    def __call__(self, rules: Rules, step: int) -> Rules:
        if rules.warmup != self.warmup:
            self.warmup, self.since = rules.warmup, step
        share = min(1.0, (step - self.since) / rules.warmup) if rules.warmup else 1.0
        return dataclasses.replace(rules, beta=rules.beta * share)


@torch.enable_grad()
def _step(acc, model, optimizer, batch: list[torch.Tensor], rules: Rules, lr: float) -> torch.Tensor:
    """One step of Adam; loss, recon, kl and beta as (4,). batch: clean digits, what the encoder sees, labels, noise."""
    model.train()
    for group in optimizer.param_groups:
        group["lr"] = lr
    real, seen, told, noise = batch
    k = len(noise) // len(real)
    logits, mu, logvar = model(seen, noise, told)
    real = real.repeat(k, 1, 1, 1)
    recon, each = reconstruction_error(logits, real).mean(), divergences(mu, logvar).mean(dim=0)  # each: (Z,)
    if k > 1:
        z = mu + (logvar / 2).exp() * noise
        loss = -importance_bound(log_weights(logits, real, z, mu, logvar).view(k, -1)).mean()
    else:
        loss = recon + rules.beta * each.clamp(min=rules.free_bits).sum()
    optimizer.zero_grad()
    acc.backward(loss)
    optimizer.step()
    return torch.stack([loss, recon, each.sum(), torch.full_like(loss, rules.beta)]).detach()


def means(terms: list[torch.Tensor]) -> dict[str, float]:
    return dict(zip(("loss", "recon", "kl", "beta"), torch.stack(terms).mean(dim=0).tolist(), strict=True)) if terms else {}


def _event(acc, model, step: int, steps: int, terms: list[torch.Tensor], seed: int, exam) -> core.Event:
    plain = acc.unwrap_model(model).eval()
    return core.Event(step, steps, means(terms), plain, next(sample(plain, seed=seed)), exam)
