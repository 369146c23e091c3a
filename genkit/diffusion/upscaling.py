"""Larger pictures: a small network that draws 2 and 4 times as many pixels, and how it compares with bicubic interpolation.

Residual blocks without normalisation (EDSR, Lim et al. 2017, https://arxiv.org/abs/1707.02921) and sub-pixel convolutions (ESPCN, Shi et al. 2016,
https://arxiv.org/abs/1609.05158). What it learns is added to the bicubic enlargement. It is trained on flat pictures drawn at 256 pixels and made smaller, half of
them sent through mini-sd's autoencoder as well, whose blur it takes off. Trained, measured and saved with `python -m genkit.diffusion.upscaling`;
`--measure` only measures. Pictures (B, 3, h, w) in [-1, 1].
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import random
import sys
import time
from functools import cache, lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from PIL import Image
from torch import nn

from genkit import core, emoji, folders, images
from genkit.core import Problem
from genkit.diffusion.training import set_lr

FOLDER = core.WEIGHTS / "upscaler" / "emoji"
FACTORS = (2, 4)
FINE, COARSE = 256, 64  # the sides of what is to be drawn and of what is given, while it learns
TILE, MARGIN = 128, 24  # larger pictures are enlarged tile by tile; a pixel is moved by those at most 22 away
LONGEST = 512  # a picture with longer sides is made smaller first
UNSEEN = 100  # pictures of icons that were never trained on, to be measured on


class Block(nn.Module):
    """x + conv(relu(conv(x)))."""

    def __init__(self, channels: int):
        super().__init__()
        self.convs = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x):
        return x + self.convs(x)


class Upscaler(nn.Module, PyTorchModelHubMixin):
    """Pictures (B, 3, h, w) -> (B, 3, 2h, 2w), and from the same features (B, 3, 4h, 4w)."""

    def __init__(self, channels: int = 32, blocks: int = 6):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), *(Block(channels) for _ in range(blocks)))
        self.doubled = nn.ModuleList(nn.Sequential(nn.Conv2d(channels, 4 * channels, 3, padding=1), nn.PixelShuffle(2), nn.ReLU()) for _ in FACTORS)
        self.pictures = nn.ModuleList(nn.Conv2d(channels, 3, 3, padding=1) for _ in FACTORS)
        for last in self.pictures:  # it begins as bicubic interpolation
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x: torch.Tensor, most: int = FACTORS[-1]) -> list[torch.Tensor]:
        """One enlargement for each of FACTORS up to `most`."""
        features, made = self.body(x), []
        for factor, double, picture in zip(FACTORS, self.doubled, self.pictures, strict=True):
            if factor <= most:
                features = double(features)
                made.append(F.interpolate(x, scale_factor=factor, mode="bicubic") + picture(features))
        return made


# --- using it


@cache
def shipped() -> Upscaler:
    """The shipped network on core.device(), loaded once. Raises Problem for a missing or damaged file."""
    return folders.read(Upscaler, FOLDER).to(core.device())


def ready(picture: Image.Image) -> Image.Image:
    """The picture as RGB, transparent parts white, no side longer than LONGEST. Raises Problem for one with no pixels to speak of."""
    if "transparency" in picture.info or picture.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    picture = picture.convert("RGB")
    if max(picture.size) > LONGEST:
        picture.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    return picture


@torch.inference_mode()
def upscale(picture: Image.Image, factor: int = 4, model: Upscaler | None = None) -> Image.Image:
    """A picture of `factor` (2 or 4) times the width and height. Longer sides than LONGEST are made smaller first; it is drawn tile by tile.

    Raises Problem for another factor.
    """
    if isinstance(factor, bool) or factor not in FACTORS:
        raise Problem("factor must be 2 or 4, got '{factor}'", "放大倍数只能是 2 或 4，收到的是“{factor}”", factor=str(factor)[:60])
    model = model or shipped()
    x = images.from_pil([ready(picture)])
    at, (height, width) = next(model.parameters()), x.shape[-2:]
    made = torch.empty((1, 3, height * factor, width * factor))
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            up, before = max(top - MARGIN, 0), max(left - MARGIN, 0)
            tile = x[:, :, up : top + TILE + MARGIN, before : left + TILE + MARGIN]
            drawn = model(tile.to(at), factor)[-1].float().cpu()
            drawn = drawn[:, :, (top - up) * factor :, (left - before) * factor :][:, :, : TILE * factor, : TILE * factor]
            made[:, :, top * factor : top * factor + drawn.shape[2], left * factor : left * factor + drawn.shape[3]] = drawn
    return images.to_pil(made)[0]


def bicubic(picture: Image.Image, factor: int) -> Image.Image:
    """What interpolation makes of it (Keys 1981; Pillow's), without any learning."""
    picture = ready(picture)
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.BICUBIC)


# --- what it learns from


class Fine:
    """Pictures of 256 x 256 with one to four icons on a plain background, any icon of the file that is not held out; drawn from their number."""

    def __init__(self, *, download: bool = False):
        try:
            import resvg_py
        except ImportError:
            raise Problem("drawing the training pictures needs resvg-py: pip install resvg-py", "绘制训练图片需要 resvg-py：pip install resvg-py") from None
        self.icons = json.loads(emoji.find(download=download).read_text(encoding="utf-8"))["icons"]
        self._svg = resvg_py.svg_to_bytes
        self.names = {held: [name for name in sorted(self.icons) if held_out(name) == held] for held in (False, True)}
        learnt = {thing.icon for thing in emoji.THINGS.values()}
        self.familiar = {held: [name for name in names if name in learnt] for held, names in self.names.items()}
        self.icon = lru_cache(maxsize=4096)(self._icon)

    def _icon(self, name: str, size: int) -> Image.Image:
        body = self.icons[name]["body"]
        svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="{size}" height="{size}" viewBox="0 0 32 32">{body}</svg>'
        with Image.open(io.BytesIO(bytes(self._svg(svg_string=svg)))) as picture:
            return picture.convert("RGBA")

    def picture(self, index: int, *, unseen: bool = False, known: bool = False) -> Image.Image:
        """Number `index` of the training pictures, or of those with icons that were never trained on. known: only what mini-sd has seen, as it was shown."""
        rng = random.Random(f"fine {unseen} {known} {index}")
        plain = known or rng.random() < 0.7
        colour = rng.choice(list(emoji.BACKGROUNDS.values())) if plain else tuple(rng.randrange(256) for _ in range(3))
        made = Image.new("RGB", (FINE, FINE), colour)
        n = rng.choices((1, 2, 3, 4), (70, 15, 15, 0) if known else (65, 15, 10, 10))[0]
        near, far = 0.27, 0.73
        spots = {
            1: [(0.5, 0.5)],
            2: [(near, 0.5), (far, 0.5)],
            3: [(0.5, near), (near, far), (far, far)],
            4: [(x, y) for x in (near, far) for y in (near, far)],
        }
        size = rng.randrange(*{1: (168, 220, 4), 2: (108, 128, 4), 3: (96, 120, 4), 4: (92, 112, 4)}[n])
        for x, y in spots[n]:
            icon = self.icon(rng.choice(self.familiar[unseen] if known else self.names[unseen]), size)
            if rng.random() < 0.25:
                icon = emoji._tinted(icon, rng.choice(list(emoji.TINTS.values())))
            slack = (FINE - size) // 2 if n == 1 else 8
            box = (round(x * FINE - size / 2) + rng.randint(-slack, slack), round(y * FINE - size / 2) + rng.randint(-slack, slack))
            made.paste(icon, box, icon)
        return made


def held_out(icon: str) -> bool:
    """Whether an icon is kept out of the training pictures; its other skin tones are, too."""
    base = icon.replace("-light", "").replace("-medium", "").replace("-dark", "")
    return int(hashlib.md5(f"upscale|{base}".encode(), usedforsecurity=False).hexdigest(), 16) % 8 == 0


@torch.no_grad()
def blurred(vae, x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Pictures as the autoencoder gives them back, with a little of the noise that a U-Net leaves in the latents."""
    z = vae.encode(x).latent_dist.mean
    return vae.decode(z + 0.1 * torch.randn(z.shape, generator=rng)).sample.clamp(-1, 1)


def example(art: Fine, index: int, **which) -> tuple[torch.Tensor, ...]:
    """One picture at 64, 128 and 256 pixels, each (3, h, w) in [-1, 1]."""
    fine = art.picture(index, **which)
    smaller = random.Random(f"smaller {index}").choice((Image.Resampling.LANCZOS, Image.Resampling.BOX, Image.Resampling.BICUBIC))
    small = fine.resize((COARSE, COARSE), smaller)
    return tuple(images.from_pil([each])[0] for each in (small, fine.resize((FINE // 2, FINE // 2), Image.Resampling.LANCZOS), fine))


def batch(art: Fine, vae, seed: int, step: int, size: int, crop: int = 32) -> tuple[torch.Tensor, ...]:
    """`size` cut-outs at 32, 64 and 128 pixels, two of each new picture; every second picture went through the autoencoder, and shows what that has learnt."""
    rng, n = core.seeded(seed, "upscale", step), size // 2
    given, *wanted = (torch.stack(part) for part in zip(*(example(art, step * n + index, known=index % 2 == 0) for index in range(n)), strict=True))
    given[::2] = blurred(vae, given[::2], rng)
    places = torch.randint(COARSE - crop + 1, (2, 2), generator=rng).tolist()
    return tuple(
        torch.cat([part[:, :, y * k : (y + crop) * k, x * k : (x + crop) * k] for x, y in places])
        for part, k in zip((given, *wanted), (1, *FACTORS), strict=True)
    )


def train(*, steps: int = 2000, batch_size: int = 8, lr: float = 1e-3, seed: int = 0, download: bool = False) -> Upscaler:
    """An upscaler after `steps` steps of Adam on the absolute error of both enlargements; prints its loss now and then."""
    from genkit import diffusion

    art, vae = Fine(download=download), diffusion.load("mini-sd").vae.float().cpu()
    net = core.build(Upscaler, seed).train().to(memory_format=torch.channels_last)
    optimizer, losses = torch.optim.Adam(net.parameters(), lr=lr, betas=(0.9, 0.99)), []
    for step in range(steps):
        set_lr(optimizer, lr, step, steps, hold=0.3)
        given, *wanted = batch(art, vae, seed, step, batch_size)
        with torch.autocast("cpu", torch.bfloat16):
            made = net(given.contiguous(memory_format=torch.channels_last))
        loss = sum(F.l1_loss(one.float(), other) for one, other in zip(made, wanted, strict=True))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % 200 == 0:
            print(f"{step + 1} of {steps}: loss {np.mean(losses[-200:]):.4f}", flush=True)
    return net.eval()


# --- how good it is


def psnr(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB, (B,)."""
    return 10 * torch.log10(4 / (one - other).square().mean(dim=(1, 2, 3)).clamp_min(1e-8))


def ssim(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Structural similarity of the lightness, (B,); 1 is the same picture. Wang et al. 2004: Gaussian windows of 11 x 11, sigma 1.5."""
    bell = torch.exp(-(torch.arange(-5.0, 6.0) ** 2) / (2 * 1.5**2))
    window = (bell[:, None] * bell[None] / bell.sum() ** 2)[None, None]
    a, b = ((x * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1, keepdim=True) for x in (one, other))
    means = [F.conv2d(x, window) for x in (a, b, a * a, b * b, a * b)]
    mean_a, mean_b, squares_a, squares_b, products = means
    small, smaller = (0.01 * 2) ** 2, (0.03 * 2) ** 2  # levels reach from -1 to 1
    light = (2 * mean_a * mean_b + small) / (mean_a**2 + mean_b**2 + small)
    shape = (2 * (products - mean_a * mean_b) + smaller) / (squares_a - mean_a**2 + squares_b - mean_b**2 + smaller)
    return (light * shape).mean(dim=(1, 2, 3))


def perceived(judge: nn.Module, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """A perceptual distance, (B,); 0 is the same picture: LPIPS (Zhang et al. 2018, eq. 1) with the shipped emoji detector as its network.

    At every ReLU the features of each place are brought to length 1; the squared differences are summed over channels and averaged over places and layers.
    """
    kept = []
    hooks = [part.register_forward_hook(lambda _, __, made: kept.append(made)) for part in judge.modules() if isinstance(part, nn.ReLU)]
    judge(torch.cat([one, other]))
    for hook in hooks:
        hook.remove()
    units = [F.normalize(features, dim=1).chunk(2) for features in kept]
    return torch.stack([(a - b).square().sum(dim=1).mean(dim=(1, 2)) for a, b in units]).mean(dim=0)


@torch.no_grad()
def measure(model: Upscaler, art: Fine, vae, judge: nn.Module, n: int = UNSEEN) -> list[dict]:
    """PSNR, SSIM and perceptual distance of both enlargements and both ways, on n pictures of icons that were never trained on: one row each."""
    rows = []
    for source, known in (("made smaller", False), ("through mini-sd's autoencoder", True)):
        small, *wanted = (torch.stack(part) for part in zip(*(example(art, index, unseen=True, known=known) for index in range(n)), strict=True))
        if known:
            small = torch.cat([blurred(vae, part, core.seeded(0, "measure", index)) for index, part in enumerate(small.split(10))])
        given = images.to_pil(small)
        for factor, fine in zip(FACTORS, wanted, strict=True):
            for way, enlarge in (("bicubic", bicubic), ("ours", lambda picture, factor: upscale(picture, factor, model))):
                made = images.from_pil([enlarge(picture, factor) for picture in given])
                far = torch.cat([perceived(judge, a, b) for a, b in zip(made.split(10), fine.split(10), strict=True)])
                scores = {"psnr": psnr(made, fine), "ssim": ssim(made, fine), "perceptual": far}
                rows.append({"source": source, "factor": factor, "way": way, **{name: value.mean().item() for name, value in scores.items()}})
    return rows


def main(argv: list[str] | None = None) -> int:
    from genkit import diffusion
    from genkit.diffusion import detector

    parser = argparse.ArgumentParser(prog="python -m genkit.diffusion.upscaling", description=__doc__.splitlines()[0])
    parser.add_argument("--measure", action="store_true", help="measure the shipped network; train nothing")
    began, only = time.process_time(), parser.parse_args(argv).measure
    if not only:
        folders.write(train(download=True), FOLDER)
        print(f"{(time.process_time() - began) / 60:.1f} minutes of one core; saved in {FOLDER}")
    for row in measure(shipped(), Fine(), diffusion.load("mini-sd").vae.float().cpu(), detector.load()):
        print("{source}, {factor} times, {way}: PSNR {psnr:.2f} dB, SSIM {ssim:.4f}, perceptual distance {perceptual:.4f}".format(**row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
