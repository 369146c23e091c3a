"""Stacked MNIST: how many of 1,000 kinds of picture does a GAN find? The usual measure of mode collapse.

A picture is three random digits as its red, green and blue, so there are 1,000 modes. Metz et al. 2017, section 3.3.1: https://arxiv.org/abs/1611.02163;
the count over 26,000 samples as in VEEGAN, Srivastava et al. 2017: https://arxiv.org/abs/1705.07761
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from genkit import classifier, core, digits
from genkit.gan import VARIANTS, Config, Rules
from genkit.gan.model import GAN
from genkit.gan.networks import ConvGenerator, ProjectionDiscriminator
from genkit.gan.quality import rounded
from genkit.gan.training import Game

GAMES: dict[str, Rules] = {"non-saturating": Rules(), "wgan-gp": VARIANTS["wgan-gp"].rules}
CONFIG = Config(arch="dcgan", latent_dim=64, channels=32, conditional=False, steps=3500, betas=(0.5, 0.9))


def train(name: str, steps: int = 0, seed: int = 0, download: bool = False) -> Iterator[tuple[int, ConvGenerator]]:
    """Train the game of that name on stacked digits; yields (step, averaged generator in eval mode) ten times, at even distances."""
    steps, rules = steps or CONFIG.steps, core.pick(GAMES, name, "game", "博弈")
    x, _ = digits.digits("train", download)
    game = Game(core.accelerator(), core.build(colourful, seed), CONFIG, CONFIG.lr)
    for step in range(steps):
        rng = core.seeded(seed, step)
        game.step(lambda rng=rng: deal(x, CONFIG.batch_size, rng), rng, step, rules, CONFIG.lr * (1 - step / steps))
        if (step + 1) % max(1, steps // 10) == 0:
            yield step + 1, game.shown.generator.eval()


def colourful() -> GAN:
    """The networks of `dcgan`, not told a digit, for pictures of three colours."""
    model = GAN(CONFIG.arch, CONFIG.latent_dim, CONFIG.channels, conditional=False)
    model.generator = ConvGenerator(CONFIG.latent_dim, CONFIG.channels, False, colours=3)
    model.discriminator = ProjectionDiscriminator(CONFIG.channels, False, colours=3)
    return model.to(memory_format=torch.channels_last)


def deal(x: torch.Tensor, n: int, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """n stacked digits (n, 3, 28, 28) in [-1, 1] of x (N, 28, 28) uint8, and labels that nobody is told, (n,)."""
    return x[torch.randint(len(x), (n, 3), generator=rng)].float() / 127.5 - 1, torch.zeros(n, dtype=torch.long)


@torch.inference_mode()
def modes(generator: ConvGenerator, n: int = 26_000, seed: int = 0) -> int:
    """How many of the 1,000 triples of digits the shipped classifier sees in n samples."""
    rng, seen = core.seeded(seed), set()
    for part in range(0, n, 1000):
        z = torch.randn(min(1000, n - part), CONFIG.latent_dim, generator=rng)
        pictures = rounded(generator(z.to(core.device()), torch.zeros(len(z), dtype=torch.long, device=core.device())))
        triples = classifier.classify(pictures.reshape(-1, 1, 28, 28)).argmax(dim=1).view(-1, 3)
        seen.update(map(tuple, triples.tolist()))
    return len(seen)
