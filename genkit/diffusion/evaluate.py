"""Does mini-sd draw what was asked for, on combinations it has never seen? Does the digits variant draw the digit? Judged by networks trained here."""

from __future__ import annotations

import random
from collections.abc import Iterator

import torch

from genkit import core, emoji, images
from genkit.core import Problem
from genkit.diffusion import compression, detector, pipeline, pixel, promises
from genkit.diffusion.turbo import PIECES

STEPS, GUIDANCE = 14, 4.0  # of DPM-Solver++


def held_out_scenes(n: int, seed: int = 0) -> list[emoji.Scene]:
    """n single, untinted scenes, all of held-out combinations of thing and background, each about equally often."""
    combinations = [
        emoji.Scene(background, ((thing, None),)) for thing in emoji.THINGS for background in emoji.BACKGROUNDS if emoji.held_out(thing, background)
    ]
    random.Random(f"evaluation {seed}").shuffle(combinations)
    return [combinations[i % len(combinations)] for i in range(n)]


def prompts(scenes: list[emoji.Scene], language: str, seed: int = 0) -> list[str]:
    """One caption a scene that names both the thing and the background."""
    rng = random.Random(f"prompts {language} {seed}")
    word = "background" if language == "en" else "背景"

    def naming(scene):
        while True:
            text = emoji.caption(scene, rng, language)
            if word in text:
                return text

    return [naming(scene) for scene in scenes]


def draw(pipe, texts: list[str], seed: int = 0, steps: int = STEPS, guidance: float = GUIDANCE) -> torch.Tensor:
    """Pictures (N, 3, 64, 64) in [-1, 1] of the prompts, batches of 50, noise from one generator a picture."""
    drawn = []
    for begin in range(0, len(texts), 50):
        part = texts[begin : begin + 50]
        noise = [core.seeded("evaluation", seed, begin + index) for index in range(len(part))]
        drawn += pipe(part, num_inference_steps=steps, guidance_scale=guidance, generator=noise).images
    return images.from_pil(drawn)


def as_asked(pipe, n: int, language: str, seed: int = 0, **how) -> tuple[float, float]:
    """How often the thing and the background asked for are seen in n pictures of held-out combinations. `how` goes to draw()."""
    scenes, net = held_out_scenes(n, seed), detector.load()
    x = draw(pipe, prompts(scenes, language, seed), seed, **how)
    wanted = torch.tensor([detector.THINGS.index(scene.objects[0][0]) for scene in scenes])
    behind = torch.tensor([detector.BACKGROUNDS.index(scene.background) for scene in scenes])
    return (detector.things(net, x) == wanted).float().mean().item(), (detector.backgrounds(x) == behind).float().mean().item()


def evaluate(pipe, n: int = 500, seed: int = 0) -> dict[str, float]:
    """Shares of n English and n / 2 Chinese prompts of held-out combinations: object_en, background_en, object_zh, background_zh."""
    shares = {language: as_asked(pipe, count, language, seed) for language, count in (("en", n), ("zh", max(1, n // 2)))}
    return {f"{what}_{language}": share for language, pair in shares.items() for what, share in zip(("object", "background"), pair, strict=True)}


def report(options) -> Iterator[str]:
    """A line for the judges, one for each language, the autoencoder, and the digits variant."""
    n = options.n or 500
    pipe = pipeline.load("mini-sd")
    try:
        art = emoji.Emoji(download=options.download)
        right, behind = detector.accuracy(detector.load(), art)
        yield f"diffusion judges: thing right in {right:.1%}, background in {behind:.1%} of 1,000 real pictures"
        x = compression.pictures(art, 0, range(compression.VALIDATION, compression.VALIDATION + 200))
        yield f"diffusion mini-sd: its autoencoder gives 200 unseen pictures back with {compression.psnr(pipe.vae, x.to(pipe.device)):.1f} dB PSNR"
    except Problem as problem:
        yield f"diffusion judges: not measured on real pictures here ({problem.en})"
    usual, few = {"steps": STEPS, "guidance": GUIDANCE}, {"steps": PIECES, "guidance": 0.0}
    for variant, model, how in (("mini-sd", pipe, usual), ("mini-sd-turbo", pipeline.load("mini-sd-turbo"), few)):
        for language, name, count in (("en", "English", n), ("zh", "Chinese", max(1, n // 2))):
            right, behind = as_asked(model, count, language, options.seed, **how)
            yield (
                f"diffusion {variant}, {name}: the thing asked for in {right:.1%}, the background in {behind:.1%} of {count} held-out combinations "
                f"({how['steps']} steps, guidance {how['guidance']:g})"
            )
    n = options.n or 1000
    yield f"diffusion digits: the digit asked for in {pixel.right(pipeline.load('digits'), n, options.seed):.1%} of {n:,} samples (20 steps, guidance 1.5)"
    if options.train:
        yield from promises.report(options)
