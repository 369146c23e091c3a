"""The judge of mini-sd: which of the 56 things is in a picture, and what colour is behind it.

Things: a small convolutional network trained on the same art (every combination, held out or not, so that it favours none).
Background: the nearest of the ten colours to the median of the border. Trained and saved with `python -m genkit.diffusion.detector`.
"""

from __future__ import annotations

import random
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from torch import nn

from genkit import core, emoji, folders
from genkit.diffusion.training import set_lr

FOLDER = core.WEIGHTS / "classifier" / "emoji"
THINGS, BACKGROUNDS = tuple(emoji.THINGS), tuple(emoji.BACKGROUNDS)
VALIDATION = 1_000_000  # pictures from here on are never trained on


class Detector(nn.Module, PyTorchModelHubMixin):
    """Pictures (B, 3, 64, 64) in [-1, 1] -> logits (B, 56): which thing is the only one in the picture, wherever it is."""

    def __init__(self, channels: list[int] = (24, 48, 96, 128), things: int = len(THINGS)):
        super().__init__()
        a, b, c, d = channels
        self.body = nn.Sequential(
            nn.Conv2d(3, a, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(a), nn.ReLU(),  # (B, a, 32, 32)
            nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(),  # (B, b, 16, 16)
            nn.Conv2d(b, c, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(c), nn.ReLU(),  # (B, c, 8, 8)
            nn.Conv2d(c, d, 3, padding=1, bias=False), nn.BatchNorm2d(d), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(2 * d, things)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.body(x)
        return self.head(torch.cat([features.amax(dim=(2, 3)), features.mean(dim=(2, 3))], dim=1))


def single(art: emoji.Emoji, index: int, *, tinted: bool = True) -> tuple[np.ndarray, emoji.Scene]:
    """Picture number `index` of one thing on one background, any combination: (64, 64, 3) uint8 and its scene."""
    rng = random.Random(f"detector {index}")
    tint = rng.choice(list(emoji.TINTS)) if tinted and rng.random() < 0.25 else None
    background = rng.choice([name for name in BACKGROUNDS if name != tint])
    scene = emoji.Scene(background, ((rng.choice(THINGS), tint),))
    return art.draw(scene, rng), scene


def batch(art: emoji.Emoji, indices, *, tinted: bool = True) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pictures (B, 3, 64, 64) in [-1, 1], their things (B,) and backgrounds (B,)."""
    pairs = [single(art, index, tinted=tinted) for index in indices]
    x = torch.from_numpy(np.stack([picture for picture, _ in pairs])).permute(0, 3, 1, 2).float() / 127.5 - 1
    things = torch.tensor([THINGS.index(scene.objects[0][0]) for _, scene in pairs])
    return x, things, torch.tensor([BACKGROUNDS.index(scene.background) for _, scene in pairs])


def softened(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Pictures as a generator would draw them: half of them blurred, all a little noisy, their colours a little off."""
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    x = torch.where(torch.rand(len(x), 1, 1, 1, generator=rng) < 0.5, blurred, x)
    gain = 0.8 + 0.4 * torch.rand(len(x), 3, 1, 1, generator=rng)
    return x * gain + 0.05 * torch.randn(x.shape, generator=rng)


def train(*, steps: int = 1500, batch_size: int = 64, lr: float = 3e-3, seed: int = 0, download: bool = False) -> Detector:
    """A detector after `steps` steps of AdamW; prints its loss now and then."""
    art = emoji.Emoji(download=download)
    net = core.build(Detector, seed).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=0.01)
    for step in range(steps):
        set_lr(optimizer, lr, step, steps)
        x, things, _ = batch(art, range(step * batch_size, (step + 1) * batch_size))
        loss = F.cross_entropy(net(softened(x, core.seeded(seed, step))), things, label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % 100 == 0:
            print(f"{step + 1} of {steps}: loss {loss.item():.3f}", flush=True)
    return net.eval()


def load() -> Detector:
    """The shipped detector, in eval mode. Raises Problem for a missing or damaged file."""
    return folders.read(Detector, FOLDER)


@torch.inference_mode()
def things(net: Detector, x: torch.Tensor) -> torch.Tensor:
    """Indices into THINGS, (B,), of pictures x (B, 3, 64, 64) in [-1, 1]."""
    return torch.cat([net(part).argmax(dim=1) for part in x.split(100)])


def backgrounds(x: torch.Tensor) -> torch.Tensor:
    """Indices into BACKGROUNDS, (B,): the colour nearest to the median of the three outermost pixels on every side."""
    ring = torch.ones(x.shape[-2:], dtype=torch.bool)
    ring[3:-3, 3:-3] = False
    median = x[:, :, ring].median(dim=2).values  # (B, 3)
    palette = torch.tensor(list(emoji.BACKGROUNDS.values())) / 127.5 - 1
    return torch.cdist(median, palette).argmin(dim=1)


def accuracy(net: Detector, art: emoji.Emoji, n: int = 1000) -> tuple[float, float]:
    """How often thing and background are right on n real composites that were not trained on, untinted as in the prompts of the evaluation."""
    x, wanted, behind = batch(art, range(VALIDATION, VALIDATION + n), tinted=False)
    return (things(net, x) == wanted).float().mean().item(), (backgrounds(x) == behind).float().mean().item()


def main() -> int:
    began = time.monotonic()
    net = train(download=True)
    folders.write(net, FOLDER)
    right, behind = accuracy(net, emoji.Emoji())
    print(f"thing right in {right:.2%}, background in {behind:.2%} of 1,000 real pictures; {(time.monotonic() - began) / 60:.1f} minutes; saved in {FOLDER}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
