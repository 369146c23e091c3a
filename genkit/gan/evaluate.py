"""How good are the shipped generators, and with --train: how fast does one learn here, does the doctor see what it should, how many modes are found?"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Iterator

import torch

from genkit import classifier, core
from genkit.doctor import Break, first
from genkit.doctor import broken as trial
from genkit.gan import LIVE, VARIANTS, stacked
from genkit.gan.doctor import BREAKS, Exam, diagnose
from genkit.gan.model import GAN, load
from genkit.gan.quality import draw, frechet, precision_recall, real
from genkit.gan.training import train


def asked_for(model: GAN, n: int = 1000, seed: int = 0) -> tuple[float, torch.Tensor]:
    """The share of n samples that are the digit asked for, and how often each digit came, (10,). n / 10 of each are asked for."""
    x, wanted = draw(model, n, seed)
    seen = classifier.classify(x).argmax(dim=1)
    return (seen == wanted).float().mean().item(), seen.bincount(minlength=10)


def report(options) -> Iterator[str]:
    """Lines on every variant; with options.train also on what must be trained to be measured, which takes about half an hour on two cores."""
    n = options.n or 10_000
    reference, others = real("test", n)[2], real("train", n)[2]
    floor = frechet(reference, others)
    precision, recall = precision_recall(reference, others)
    yield f"gan: {len(others):,} real training digits against as many test digits: Frechet distance {floor:.3f}, precision {precision:.3f}, recall {recall:.3f}"
    for variant in VARIANTS:
        yield line(variant, n, options.seed, reference, floor)
    if options.train:
        yield from live(options.seed)
        yield from doctor(options.seed)
        yield from modes(options.seed, options.download)


def line(variant: str, n: int, seed: int, reference: torch.Tensor, floor: float) -> str:
    model = load(variant)
    x, wanted = draw(model, n, seed)
    seen, features = classifier.classify(x).argmax(dim=1), classifier.features(x)
    counts, distance = seen.bincount(minlength=10), frechet(reference, features)
    precision, recall = precision_recall(reference, features)
    g, d = (sum(p.numel() for p in player.parameters()) for player in (model.generator, model.discriminator))
    right = f"the digit asked for in {(seen == wanted).float().mean():.2%} of {n:,} samples" if model.conditional else f"{n:,} samples, not told which digit"
    return (
        f"gan {variant}: {right}, {int((counts > n / 1000).sum())} of 10 digits covered; Frechet distance {distance:.3f} "
        f"({distance / floor:.1f}x the floor), precision {precision:.3f}, recall {recall:.3f}; G {g:,} + D {d:,} parameters"
    )


def live(seed: int, runs: int = 5) -> Iterator[str]:
    """Seconds from noise until 90 % of 200 samples are the digit asked for, and what was promised after the first 58 steps."""
    exams = [first(lambda exam: exam.arrived, train("dcgan", steps=LIVE, every=10, exams=25, seed=seed + 100 + run)) for run in range(runs)]
    times = [exam.arrived for exam in exams]
    kept = sum(abs(exam.arrived / exam.promised - 1) <= 0.25 for exam in exams)
    yield (
        f"gan live: 90 % right and ten digits after a median of {statistics.median(times):.1f} s and {statistics.median(exam.step for exam in exams):.0f} steps "
        f"({', '.join(f'{exam.arrived:.1f} s of {exam.promised:.1f} promised' for exam in exams)}): {kept} of {runs} promises kept within 25 %"
    )


def examined(variant: str, steps: int, seed: int, rules: dict, options: dict, every: int = 25) -> list[Exam]:
    """All examinations of a training."""
    control = core.Control(dataclasses.replace(VARIANTS[variant].rules, **rules))
    return [event.exam for event in train(variant, steps=steps, every=every, exams=every, seed=seed, control=control, **options)]


def alarm(exams: list[Exam]) -> str:
    """The first illness that the doctor names while the run goes on, "" if none."""
    found = (diagnose(exams[: i + 1]) for i in range(len(exams)))
    return next((diagnosis.illness for diagnosis in found if diagnosis), "")


def broken(one: Break, seed: int) -> str:
    """What the doctor first says of a game that is broken on purpose; "" if he has said nothing at the end."""
    return trial(one, seed, VARIANTS, train, diagnose)[0]


def doctor(seed: int, runs: int = 10) -> Iterator[str]:
    """How often the doctor names the illness that was caused, and how often it raises an alarm at a healthy game."""
    for name, one in BREAKS.items():
        said = [broken(one, seed + run) for run in range(runs)]
        yield f"gan doctor, broken on purpose ({name}): {said.count(one.illness)} of {runs} named {one.illness}; said: {', '.join(word or 'nothing' for word in said)}"
    said = [alarm(examined("dcgan", 300, seed + run, {}, {})) for run in range(runs)]
    yield f"gan doctor, healthy: no alarm in {said.count('')} of {runs} runs of dcgan"


def modes(seed: int, download: bool) -> Iterator[str]:
    for name in stacked.GAMES:
        begun = time.perf_counter()
        *_, (steps, generator) = stacked.train(name, seed=seed, download=download)
        yield f"gan stacked MNIST, {name}: {stacked.modes(generator)} of 1,000 modes in 26,000 samples after {steps} steps, {(time.perf_counter() - begun) / 60:.0f} min"
