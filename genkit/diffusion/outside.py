"""Beyond the edge of a picture: outpainting, by inpainting what lies around it.

Within the frame, the picture is made smaller or moved, and what is laid bare is drawn. Or the canvas grows: a U-Net is convolutions and attention, so it takes
latents of other sizes than it was trained on; what it draws there it has never practised. Nearest to how latent diffusion models paint large canvases
(Rombach et al. 2021, section 4.3.2).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from genkit import core
from genkit.core import Problem
from genkit.diffusion import words
from genkit.diffusion.drawing import Step
from genkit.diffusion.editing import editable, redrawn, size
from genkit.diffusion.forward import square

SIDES = ("left", "right", "top", "bottom")
WAYS = ("smaller", "moved", "wider")
FAR = 0.75  # of the frame: more would leave too little to go on from
MOST = 2  # a canvas is at most so many frames wide, and high


def extend(
    pipe, prompt: str, picture: Image.Image, *, way: str = "wider", sides=("right",), part: float = 0.5, strength: float = 1.0, negative_prompt: str = "",
    num_inference_steps: int = 20, guidance_scale=None, seed: int = 0, n: int = 1, scheduler: str = "",
) -> Iterator[Step]:  # fmt: skip
    """Draw what lies beyond `sides` of a picture, its middle square, as far as `part` of the frame. Yields previews; the last pictures are the result.

    way: "smaller" (the picture shrinks by `part`, away from the sides), "moved" (it is pushed away from them, and loses what leaves the frame) or "wider" (the
    canvas grows there, to twice the frame at most). Raises Problem for an unknown way or side, an empty prompt, and a model that cannot edit.
    """
    editable(pipe)
    if not words.legible(prompt):
        raise Problem("the prompt is empty; write what to draw", "提示词是空的；请写下想画什么")
    given, where = framed(square(picture, size(pipe)), way, sides, part, grain(pipe))
    settings = {"strength": strength, "negative_prompt": negative_prompt, "num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale}
    yield from redrawn(pipe, prompt, given, where, **settings, seed=seed, n=n, scheduler=scheduler)


def grain(pipe) -> int:
    """What the sides of a canvas must be multiples of, in pixels, so that every level of the U-Net halves it evenly."""
    net = getattr(pipe, "unet", None)
    return pipe.vae_scale_factor * (2 ** (len(net.config.block_out_channels) - 1) if net is not None else 2)


def framed(picture: Image.Image, way: str, sides, part, grain: int = 1) -> tuple[Image.Image, Image.Image]:
    """The canvas with a square picture put into its place, its edges drawn out to the rim, and the mask, white where there is nothing yet.

    Along its edges a strip of the picture is drawn anew as well, so that no seam is seen.
    """
    core.pick(WAYS, way, "way", "方式")
    chosen = _chosen(sides, way)
    side, part = picture.width, core.number(part, 0.1, FAR if way != "wider" else 1, "part")
    if way == "wider":
        left, right, top, bottom = (round(part * side / grain + 0.49) * grain * (name in chosen) for name in SIDES)
        left, right, top, bottom = *_within(left, right, side, grain), *_within(top, bottom, side, grain)
        return _put(picture, (side + left + right, side + top + bottom), (left, top))
    away = [(chosen & {low, high} == {low}) - (chosen & {low, high} == {high}) for low, high in (SIDES[:2], SIDES[2:])]  # 1: towards the end of the axis
    if way == "moved":
        far = round(part * side)
        return _put(picture, (side, side), (away[0] * far, away[1] * far))
    small = max(round((1 - part) * side), 1)
    place = tuple((side - small) * (1 + direction) // 2 for direction in away)
    return _put(picture.resize((small, small), Image.Resampling.LANCZOS), (side, side), place)


def _chosen(sides, way: str) -> set[str]:
    sides = [sides] if isinstance(sides, str) else sides
    if not isinstance(sides, list | tuple) or not sides and way != "smaller":
        raise Problem("choose at least one side: {sides}", "请至少选择一边：{sides}", sides=", ".join(SIDES))
    chosen = {core.pick(SIDES, side, "side", "方向") for side in sides}
    if way == "moved" and any(chosen >= set(pair) for pair in (SIDES[:2], SIDES[2:])):
        raise Problem("a picture cannot move both ways; choose left or right, top or bottom", "图片不能同时往两个相反方向移动；请只选左或右、上或下")
    return chosen


def _within(low: int, high: int, side: int, grain: int) -> tuple[int, int]:
    """Both margins of one axis, shortened until the canvas is at most MOST frames long."""
    while low + high > (MOST - 1) * side:
        low, high = max(low - grain * (low >= high), 0), max(high - grain * (high > low), 0)
    return low, high


def _put(picture: Image.Image, canvas: tuple[int, int], place: tuple[int, int]) -> tuple[Image.Image, Image.Image]:
    """The picture at `place` of a canvas, cut where it leaves it, and the mask of what is around it."""
    (width, height), (x, y) = canvas, place
    box = (max(x, 0), max(y, 0), min(x + picture.width, width), min(y + picture.height, height))  # of the canvas
    seen = np.asarray(picture.crop((box[0] - x, box[1] - y, box[2] - x, box[3] - y)))
    full = Image.fromarray(np.pad(seen, ((box[1], height - box[3]), (box[0], width - box[2]), (0, 0)), mode="edge"))
    seam = max(1, min(seen.shape[:2]) // 16)
    inner = tuple(edge + seam * inwards * (edge not in (0, end)) for edge, inwards, end in zip(box, (1, 1, -1, -1), (0, 0, width, height), strict=True))
    mask = Image.new("L", canvas, 255)
    mask.paste(0, inner)
    return full, mask
