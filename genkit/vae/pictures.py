"""What a visitor draws or uploads, made into what the networks learned: an MNIST digit, or a photo of a size they take. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from genkit.core import Problem

MAX_PIXELS = 40_000_000  # a picture is refused before it is unpacked: 40 megapixels are 160 MB of memory
CONTRAST = 24  # levels out of 255 between ink and paper; less is the noise of a camera or of JPEG


def flat(picture: Image.Image, paper: int = 255) -> Image.Image:
    """Any picture (RGBA, CMYK, palette, 16 bit, turned by its camera, first frame of an animation) as upright RGB on white or black paper.

    Raises Problem above 40 megapixels or if its file cannot be unpacked.
    """
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise Problem(
            "the picture has {width} x {height} pixels; at most {most} megapixels are taken: make it smaller first",
            "图片有 {width} x {height} 像素；最多接受 {most}00 万像素：请先缩小",
            width=width,
            height=height,
            most=MAX_PIXELS // 10**6,
        )
    try:
        if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
            picture = _eight_bits(picture)
        picture = ImageOps.exif_transpose(picture)
        if "A" in picture.getbands() or "a" in picture.getbands() or "transparency" in picture.info:
            rgba = picture.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", rgba.size, (paper, paper, paper, 255)), rgba).convert("RGB")
        return picture.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise Problem("the picture cannot be read ({error}); try a PNG or JPEG file", "无法读取图片（{error}）；请换用 PNG 或 JPEG 文件", error=error) from None


def _eight_bits(picture: Image.Image) -> Image.Image:
    """16-bit or float greyscale stretched to 8 bits: convert("L") would cut everything above 255."""
    levels = np.asarray(picture, dtype=np.float32)
    low, high = float(levels.min()), float(levels.max())
    return Image.fromarray(((levels - low) * (255 / max(high - low, 1e-9))).astype(np.uint8))


def photo(picture: Image.Image, side: int = 512) -> Image.Image:
    """A picture as RGB, its longer side at most `side`, both sides multiples of 8: what a diffusers autoencoder halves three times."""
    picture = flat(picture)
    scale = min(1, side / max(picture.size))
    width, height = (max(8, round(length * scale / 8) * 8) for length in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


@dataclass(frozen=True)
class Stages:
    """A drawing or photo on its way to being an MNIST digit: pictures of mode L, white ink on black."""

    ink: Image.Image  # all of it, the longer side at most 280
    cropped: Image.Image  # what the ink covers
    fitted: Image.Image  # scaled into 20 x 20, its proportions kept
    digit: Image.Image  # 28 x 28, the centre of mass at the centre


def digit_from(picture: Image.Image) -> Image.Image:
    """Any drawing or photo of one digit -> 28 x 28, mode L, white ink on black, as MNIST made its own. Raises Problem where there is no ink."""
    return stages(picture).digit


def stages(picture: Image.Image) -> Stages:
    """The way of a picture to digit_from(). Raises Problem where there is no ink."""
    ink = _ink(picture)
    rows, columns = np.flatnonzero(ink.max(axis=1) > 0.2), np.flatnonzero(ink.max(axis=0) > 0.2)
    cropped = Image.fromarray((ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] * 255).astype(np.uint8))
    scale = 20 / max(cropped.size)
    box = np.asarray(cropped.resize([max(1, round(length * scale)) for length in cropped.size], Image.Resampling.LANCZOS), dtype=np.float32)
    box = box * (255 / box.max())  # thin strokes pale as they shrink
    fitted = Image.fromarray(box.round().astype(np.uint8))
    return Stages(Image.fromarray((ink * 255).astype(np.uint8)), cropped, fitted, _centred(box))


def _centred(box: np.ndarray) -> Image.Image:
    """A box of at most 20 x 20 levels on 28 x 28 black ones, its centre of mass at the centre."""
    height, width = box.shape
    centre = (box.sum(axis=1) @ np.arange(height), box.sum(axis=0) @ np.arange(width)) / box.sum()
    top, left = np.clip(np.round(13.5 - centre).astype(int), 0, (28 - height, 28 - width))
    digit = np.zeros((28, 28), dtype=np.uint8)
    digit[top : top + height, left : left + width] = box.round()
    return Image.fromarray(digit)


def _ink(picture: Image.Image) -> np.ndarray:
    """How much ink is where, (H, W) in [0, 1], the longer side at most 280. Raises Problem if nothing differs from the paper."""
    drafts = [np.asarray(_small(flat(picture, paper)).convert("L"), dtype=np.float32) for paper in (_papers(picture))]
    grey = max(drafts, key=np.std)  # white strokes on transparent paper show only on black
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    away = grey - np.median(border)
    ink = np.maximum(-away, 0) if -away.min() >= away.max() else np.maximum(away, 0)
    top = ink.max()
    if top < CONTRAST:
        raise Problem("nothing is drawn yet: draw a digit, large and in one colour", "还没有画任何东西：请用一种颜色画一个大大的数字")
    return np.clip((ink / top - 0.15) / 0.85, 0, 1)  # the darkest 15 % are shadows and the grain of the paper


def _papers(picture: Image.Image) -> tuple[int, ...]:
    return (255, 0) if "A" in picture.getbands() or "transparency" in picture.info else (255,)


def _small(picture: Image.Image, side: int = 280) -> Image.Image:
    if max(picture.size) <= side:
        return picture
    scale = side / max(picture.size)
    return picture.resize([max(1, round(length * scale)) for length in picture.size], Image.Resampling.BOX, reducing_gap=2.0)
