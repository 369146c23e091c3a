"""What the VAEs are worth: does a digit stay itself, how many nats does it cost, and how well do the experiments of the tab go?

With --train also what must be trained to be measured: against PyTorch's example network, in how many seconds, what the doctor says, with a rare class.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import torch

from genkit import classifier, core
from genkit.core import Problem
from genkit.digits import digits, to_float
from genkit.doctor import Break, first
from genkit.doctor import broken as trial
from genkit.vae import KINDS, ODD, VARIANTS
from genkit.vae.anomaly import held_out_class, normal, odd, roc, scores, tabular
from genkit.vae.balance import augment
from genkit.vae.denoising import denoise
from genkit.vae.doctor import BREAKS, diagnose
from genkit.vae.elbo import binarised, elbo_terms, importance_bound, log_weights
from genkit.vae.fit import fit, small
from genkit.vae.model import VAE, load
from genkit.vae.training import train

# Burda et al. 2016, with batches of 100 and fewer of them: https://arxiv.org/abs/1509.00519
IWAE = {"arch": "wide", "latent_dim": 50, "channels": 300, "binarised": True, "importance": 5, "steps": 70_000, "every": 1000, "batch_size": 100, "lr": 1e-3}


def _parts(x: torch.Tensor, y: torch.Tensor):
    at = core.device()
    return ((a.to(at), b.long().to(at)) for a, b in zip(x.split(1000), y.split(1000), strict=True))


@torch.inference_mode()
def kept(model: VAE, x: torch.Tensor, y: torch.Tensor) -> float:
    """The share of digits x (N, 1, 28, 28) in [-1, 1] that the classifier still takes for y (N,) when they are drawn again from z = mu."""
    drawn = [model.decode(model.encode(part, told)[0], told).sigmoid() * 2 - 1 for part, told in _parts(x, y)]
    return (classifier.classify(torch.cat(drawn)).argmax(dim=1) == y).float().mean().item()


@torch.inference_mode()
def negative_elbo(model: VAE, x: torch.Tensor, y: torch.Tensor | None = None, seed: int = 0) -> tuple[float, float]:
    """Reconstruction and KL in nats per digit, one z ~ q(z|x) for each of x (N, 1, 28, 28) in [-1, 1]. y (N,): what a conditional model is told."""
    noise = torch.randn(len(x), model.latent_dim, generator=core.seeded(seed))
    y, totals = torch.zeros(len(x)) if y is None else y, torch.zeros(2, dtype=torch.float64)
    for (part, told), its_noise in zip(_parts(x, y), noise.split(1000), strict=True):
        logits, mu, logvar = model(part, its_noise.to(part.device), told)
        totals += torch.stack(elbo_terms(logits, part, mu, logvar)).cpu().double() * len(part)
    recon, kl = (totals / len(x)).tolist()
    return recon, kl


@torch.inference_mode()
def log_likelihood(model: VAE, x: torch.Tensor, k: int = 5000, seed: int = 0, part: int = 500) -> float:
    """The importance-weighted bound on log p(x) in nats per digit, k samples of z each; x (N, 1, 28, 28) black (-1) or white (1)."""
    total, at = 0.0, core.device()
    for i, one in enumerate(x.unsqueeze(1).to(at)):
        mu, logvar = model.encode(one)
        noise = torch.randn(k, model.latent_dim, generator=core.seeded(seed, i)).to(at)
        weights = []
        for its_noise in noise.split(part):
            z = mu + (logvar / 2).exp() * its_noise
            weights.append(log_weights(model.decode(z), one.expand(len(z), -1, -1, -1), z, mu, logvar))
        total += importance_bound(torch.cat(weights).unsqueeze(1)).item()
    return total / len(x)


def report(options) -> Iterator[str]:
    """Lines on every variant and experiment; with options.train also on what must be trained, which takes about an hour on two cores."""
    levels, y = digits("test", options.download)
    n = min(options.n or len(levels), len(levels))
    x, y = to_float(levels[:n]), y[:n]
    yield f"vae: {n:,} test digits; the classifier takes {(classifier.classify(x).argmax(dim=1) == y).float().mean().item():.2%} of them for what they are"
    stages: list[Callable[[], Iterator[str]]] = [lambda variant=variant: line(variant, x, y, options.seed) for variant in VARIANTS]
    stages += [lambda: oddities(options.seed), lambda: noises(options.seed), lambda: table(options.seed)]
    if options.train:
        stages += [lambda: example(x, y, options.seed, options.download), lambda: live(options.seed), lambda: doctor(options.seed)]
        stages += [lambda: held_out(options.seed), lambda: rare(options.seed), lambda: likelihood(x, options.seed, options.download)]
    for stage in stages:
        try:
            yield from stage()
        except Problem as problem:  # weights or a data set that are not here: the rest is still measured
            yield f"vae: {problem.en}"


def line(variant: str, x: torch.Tensor, y: torch.Tensor, seed: int) -> Iterator[str]:
    model, config = load(variant), VARIANTS[variant]
    recon, kl = negative_elbo(model, x, y, seed)
    price = (
        f"negative ELBO {recon + kl:.2f} nats a digit = reconstruction {recon:.2f} + KL {kl:.2f}" if config.variational else f"reconstruction {recon:.2f} nats"
    )
    yield (
        f"vae {variant}: class kept in {kept(model, x, y):.2%} of {len(x):,} test digits, {price}; "
        f"Z = {model.latent_dim}, {sum(p.numel() for p in model.parameters()):,} parameters"
    )


def oddities(seed: int, n: int = 1000) -> Iterator[str]:
    """AUC of `conv`, test digits against each source of what is no digit."""
    model = load("conv")
    known = scores(model, normal(n))
    for source in ODD:
        curves = [roc(a, b) for a, b in zip(known, scores(model, odd(source, n, seed)), strict=True)]
        yield f"vae anomaly: {n:,} digits against {source}: AUC {curves[0].auc:.4f} by ELBO, {curves[1].auc:.4f} by reconstruction"


def noises(seed: int, n: int = 200, strength: float = 0.5) -> Iterator[str]:
    """Mean PSNR of `denoise`, of `ae` and of a median filter."""
    models = {name: load(name) for name in ("denoise", "ae")}
    for kind in KINDS:
        made = [denoise(models, picture, kind, strength, seed + i).psnr for i, picture in enumerate(normal(n))]
        said = ", ".join(f"{name} {statistics.mean(one[name] for one in made):.1f}" for name in made[0])
        yield f"vae denoising: {kind}, strength {strength}, mean PSNR of {n} test digits in dB: {said}"


def table(seed: int) -> Iterator[str]:
    *_, found = tabular(seed=seed)
    yield (
        f"vae anomaly, breast cancer set of scikit-learn: recall {found.recall:.1%} at 1 % false alarms, mean of {len(found.recalls)} splits "
        f"({', '.join(f'{recall:.0%}' for recall in found.recalls)}), AUC {found.roc.auc:.3f}; {found.plain:.1%} without learning"
    )


def example(x: torch.Tensor, y: torch.Tensor, seed: int, download: bool, epochs: int = 10) -> Iterator[str]:
    """PyTorch's own VAE example, 784-400-20-400-784 with Adam at 1e-3, and the network of `conv` with as large a latent and as many epochs."""
    train_x, train_y = digits("train", download)
    config, found = VARIANTS["conv"], {}
    for name, arch, channels, lr, falls in (("example", "mlp", 400, 1e-3, False), ("ours", config.arch, config.channels, config.lr, True)):
        began, model = time.perf_counter(), small(20, seed, arch=arch, channels=channels)
        steps = epochs * -(-len(train_x) // 128)
        for _ in fit(model, epochwise(train_x, 128, seed), steps=steps, lr=lr, seed=seed, falls=falls):
            pass
        found[name] = sum(negative_elbo(model, x, y, seed))
        yield f"vae {name}, Z = 20, {epochs} epochs in batches of 128: negative ELBO {found[name]:.2f} nats a test digit, {time.perf_counter() - began:.0f} s"
    yield f"vae: ours is {found['example'] - found['ours']:.2f} nats better than the example trained beside it"


def epochwise(x: torch.Tensor, n: int, seed: int):
    """A draw of n digits at a time, each once in an epoch, in an order of its own."""

    def endless() -> Iterator[torch.Tensor]:
        epoch = 0
        while True:
            yield from torch.randperm(len(x), generator=core.seeded(seed, "epoch", epoch)).split(n)
            epoch += 1

    orders = endless()
    return lambda rng: (to_float(x[next(orders)]), None)


def live(seed: int, runs: int = 5) -> Iterator[str]:
    """Seconds of training until 90 % of 200 test digits keep their class."""
    exams = [first(lambda exam: exam.kept >= 0.9, train("conv", steps=1000, every=10, exams=10, seed=seed + 100 + run)) for run in range(runs)]
    times = [exam.seconds for exam in exams]
    yield (
        f"vae live: class kept in 90 % after a median of {statistics.median(times):.1f} s and {statistics.median(exam.step for exam in exams):.0f} steps "
        f"({', '.join(f'{seconds:.1f} s' for seconds in times)})"
    )


def broken(one: Break, seed: int) -> tuple[str, int]:
    """What the doctor first says of a training that is broken on purpose, and after how many steps."""
    return trial(one, seed, VARIANTS, train, diagnose)


HEALTHY = Break(("Healthy", "健康"), ("", ""), ("", ""), ("", ""), {**BREAKS["collapse"].options, "steps": 300})


def doctor(seed: int, runs: int = 5) -> Iterator[str]:
    """How often the doctor names the illness that was caused, and how often it raises an alarm at a healthy training."""
    for name, one in {**BREAKS, "nothing": HEALTHY}.items():
        said = [broken(one, seed + run)[0] for run in range(runs)]
        yield f"vae doctor, broken on purpose ({name}): {said.count(one.illness)} of {runs} right; said: {', '.join(word or 'nothing' for word in said)}"


def held_out(seed: int) -> Iterator[str]:
    found = [list(held_out_class(digit, seed=seed))[-1].auc for digit in range(10)]
    yield f"vae anomaly, a class that was held out: AUC {statistics.mean(found):.3f}, mean over ten ({', '.join(f'{d}: {a:.2f}' for d, a in enumerate(found))})"


def rare(seed: int, n: int = 20) -> Iterator[str]:
    began = time.perf_counter()
    *_, found = augment(n, seed=seed)
    rows = "; ".join(f"{name} {row.mean:.1%} +- {row.spread:.1%} ({found.gain(name):+.1f} points)" for name, row in found.rows.items())
    yield f"vae augmentation: {n} examples of the digit {found.rare}, accuracy on it over 3 runs: {rows}; {time.perf_counter() - began:.0f} s"


def likelihood(x: torch.Tensor, seed: int, download: bool, n: int = 1000, k: int = 5000) -> Iterator[str]:
    x = binarised(x[:n], core.seeded(seed, "binarised"))
    *_, event = train("mlp", seed=seed, download=download, **IWAE)
    found = -log_likelihood(event.model, x, k, seed)
    yield f"vae, trained by the importance-weighted bound: negative log likelihood {found:.2f} nats by the bound with k = {k:,} on {len(x):,} test digits; 86.76 in Burda et al. 2016, table 1"
