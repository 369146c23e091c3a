"""Diffusion in two dimensions: a small network learns where points lie, and moves noise there. All of it can be seen at once: data, paths, field.

The same noise levels, the same v and the same way back as for pictures: Ho et al. 2020, https://arxiv.org/abs/2006.11239; Salimans & Ho 2022; DDIM, Song et al. 2020.
x (B, 2), t (B,) from 0 (clean) to 999 (noise). The edges of the drawing pad are at -1.5 and 1.5.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from huggingface_hub import PyTorchModelHubMixin
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from genkit import core, swift
from genkit.core import Event, Problem, pick
from genkit.diffusion import live
from genkit.diffusion.training import Average, optimize, velocity

EDGE = 1.5  # where the edge of the pad lies
VIEW = 2.4  # how far one sees
COUNT, LEAST = 2000, 20  # points taken from a drawing; dark pixels that it must have
NEAR = 0.1  # a sample that close to a point of the drawing lies on it: about the width of the pen
STEPS, EVERY, BATCH, RATE = 4000, 200, 256, 3e-3
PAD = 280  # pixels of a ready shape
SHOWN = 10  # pictures of the way from noise to shape
SHAPES = ("ring", "moons", "spiral", "islands", "letter")


class Mover(nn.Module, PyTorchModelHubMixin):
    """x_t (B, 2) and t (B,) to v (B, 2). Sines and cosines of both go in beside x_t: without them an MLP draws soft edges only."""

    def __init__(self, width: int = 128, depth: int = 3, waves: int = 4):
        super().__init__()
        self.waves = waves
        sizes = [2 + 4 * waves + 16, *[width] * depth]
        self.body = nn.Sequential(*(layer for pair in zip(sizes, sizes[1:], strict=False) for layer in (nn.Linear(*pair), nn.SiLU())))
        self.head = nn.Linear(width, 2)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        turns = torch.cat([x * (2**wave * math.pi / VIEW / 2) for wave in range(self.waves)], dim=1)  # (B, 2 waves)
        times = (t.float() / live.TIMES)[:, None] * math.pi * 2.0 ** torch.arange(-1, 7, device=x.device)  # (B, 8)
        return self.head(self.body(torch.cat([x, turns.sin(), turns.cos(), times.sin(), times.cos()], dim=1)))


def levels() -> torch.Tensor:
    """alphas_cumprod (1000,): squared cosine, as everywhere in this family."""
    return DDIMScheduler(beta_schedule="squaredcos_cap_v2").alphas_cumprod


# --- where the points come from


def shape(name: str) -> Image.Image:
    """A ready drawing, black on white. Raises Problem for another name than those of SHAPES."""
    pick(SHAPES, name, "shape", "形状")
    sheet = Image.new("L", (PAD, PAD), 255)
    pen, turn = ImageDraw.Draw(sheet), [step / 200 for step in range(201)]
    if name == "ring":
        pen.ellipse((50, 50, 230, 230), outline=0, width=10)
    elif name == "moons":
        pen.arc((40, 70, 180, 210), 180, 360, fill=0, width=10)
        pen.arc((105, 80, 245, 220), 0, 180, fill=0, width=10)
    elif name == "spiral":
        where = [(140 + 110 * part * math.cos(4.5 * math.pi * part), 140 + 110 * part * math.sin(4.5 * math.pi * part)) for part in turn]
        pen.line(where, fill=0, width=8, joint="curve")
    elif name == "islands":
        for part in range(8):
            x, y = 140 + 95 * math.cos(math.pi * part / 4), 140 + 95 * math.sin(math.pi * part / 4)
            pen.ellipse((x - 9, y - 9, x + 9, y + 9), fill=0)
    else:
        pen.text((PAD / 2, PAD / 2), "R", fill=0, font=ImageFont.load_default(size=230), anchor="mm")
    return sheet


def from_picture(picture: Image.Image, seed: int = 0) -> torch.Tensor:
    """COUNT points (COUNT, 2) that lie where the picture is dark. Raises Problem where hardly anything is."""
    dark = np.argwhere(np.asarray(picture.convert("L")) < 128)  # (N, 2): row, column
    if len(dark) < LEAST:
        raise Problem("hardly anything is drawn; draw a shape on the pad, or pick a ready one", "画板上几乎什么都没有；请画一个形状，或选一个现成的")
    rng = np.random.default_rng(seed)
    rows, columns = (dark[rng.integers(len(dark), size=COUNT)] + rng.random((COUNT, 2))).T
    places = np.stack([columns / picture.width * 2 - 1, 1 - rows / picture.height * 2], axis=1) * EDGE
    return torch.from_numpy(places.astype(np.float32))


# --- learning


def train(points: torch.Tensor, *, steps: int = STEPS, every: int = EVERY, batch_size: int = BATCH, lr: float = RATE, seed: int = 0) -> Iterator[Event]:
    """Learn where points (N, 2) lie. Events with a live.Exam: `right` is the share of samples that lie on the drawing; previews: the way from noise to shape."""
    yield from swift.single(live.timed(_train(points, steps, every, batch_size, lr, seed)))


def _train(points, steps, every, batch_size, lr, seed) -> Iterator[Event]:
    accelerator = core.accelerator()
    points, alphas_cumprod = points.to(accelerator.device), levels().to(accelerator.device)
    net = core.build(Mover, seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.0)
    net, optimizer = accelerator.prepare(net, optimizer)
    average = Average(accelerator, accelerator.unwrap_model(net), decay=0.995)

    def loss_at(step):
        rng = core.seeded(seed, "points", step)
        chosen, t = torch.randint(len(points), (batch_size,), generator=rng), torch.randint(live.TIMES, (batch_size,), generator=rng)
        x_t, v = velocity(points[chosen.to(points.device)], torch.randn(batch_size, 2, generator=rng).to(points.device), t.to(points.device), alphas_cumprod)
        return F.mse_loss(net(x_t, t.to(points.device)), v)

    for step, metrics in optimize(accelerator, net, [optimizer], loss_at, steps, every, None, then=average.follow, lr=lr, warmup=0.02, hold=0.3):
        way = paths(average.shown, 400, seed=seed)
        yield Event(step, steps, metrics, average.shown, pictures(way, points), examine(average.shown, points, step, way[-1]))


def examine(net: Mover, points: torch.Tensor, step: int, samples: torch.Tensor) -> live.Exam:
    x0 = points[torch.linspace(0, len(points) - 1, 500).long()]
    noise = torch.randn(x0.shape, generator=core.seeded("exam")).to(x0.device)
    return live.Exam(step, live.by_level(net, x0, noise, levels().to(x0.device)), on_it(samples, points))


def on_it(samples: torch.Tensor, points: torch.Tensor) -> float:
    """The share of samples (M, 2) with one of the points (N, 2) within NEAR."""
    return (torch.cdist(samples, points).amin(dim=1) < NEAR).float().mean().item()


# --- looking at it


def timesteps(steps: int) -> list[int]:
    """Noise levels from 999 down, evenly spaced."""
    return [round((live.TIMES - 1) * (1 - step / steps)) for step in range(steps)]


@torch.no_grad()
def paths(net: Mover, n: int = 200, steps: int = 40, seed: int = 0) -> torch.Tensor:
    """n points on their way from noise to the shape, (steps + 1, n, 2): DDIM without new noise, Song et al. 2020, eq. 12 with sigma 0."""
    device = next(net.parameters()).device
    alphas, x = levels().to(device), torch.randn(n, 2, generator=core.seeded(seed, "paths")).to(device)
    way, times = [x], timesteps(steps)
    for t, after in zip(times, [*times[1:], None], strict=True):
        v = net(x, torch.full((n,), t, device=device))
        a, s = alphas[t].sqrt(), (1 - alphas[t]).sqrt()
        x0, noise = a * x - s * v, s * x + a * v
        to = alphas[after] if after is not None else torch.ones((), device=device)
        x = to.sqrt() * x0 + (1 - to).sqrt() * noise
        way.append(x)
    return torch.stack(way)


@torch.no_grad()
def field(net: Mover, t: int, across: int = 17) -> tuple[torch.Tensor, torch.Tensor]:
    """Places (A, 2) on a grid, and the score there at level t (A, 2): where the noisy points become denser. It is -noise / s, with the noise that v stands for.

    Song & Ermon 2019, https://arxiv.org/abs/1907.05600
    """
    device = next(net.parameters()).device
    line = torch.linspace(-VIEW, VIEW, across, device=device)
    places = torch.cartesian_prod(line, line)
    a, s = (part.sqrt() for part in (levels()[t].to(device), 1 - levels()[t].to(device)))
    v = net(places, torch.full((len(places),), t, device=device))
    return places, -(s * places + a * v) / s


def pictures(way: torch.Tensor, points: torch.Tensor, size: int = 120) -> list[Image.Image]:
    """SHOWN moments of the way (S, n, 2) as small pictures, evenly spread from noise to the end; the drawing in grey below."""
    moments = torch.linspace(0, len(way) - 1, SHOWN).round().long()
    ground = Image.new("RGB", (size, size), "white")
    _dots(ground, points[::4], (205, 205, 205))
    drawn = []
    for moment in moments:
        sheet = ground.copy()
        _dots(sheet, way[moment], (30, 90, 180))
        drawn.append(sheet)
    return drawn


def _dots(sheet: Image.Image, x: torch.Tensor, colour: tuple) -> None:
    pen, scale = ImageDraw.Draw(sheet), sheet.width / 2 / VIEW
    pen.point([(sheet.width / 2 + a * scale, sheet.height / 2 - b * scale) for a, b in x.tolist()], fill=colour)
