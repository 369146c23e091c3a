"""Did it copy? The training pictures of mini-sd nearest to any picture, and how near new real pictures come to one.

Distance: root mean square difference of the levels, 0 to 255, of 64 x 64 x 3. The training pictures are composed from their numbers (emoji.Emoji.example), so what
is shipped is a code of a few bytes for each, the sprites they are composed of (Fluent Emoji, MIT), and the distances of real pictures that nobody has trained on.
The codes find candidates; those are composed again and measured exactly. Made with `python -m genkit.diffusion.copied`, anew whenever emoji.py or mini-sd's number
of training pictures changes.
"""

from __future__ import annotations

import dataclasses
import io
import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from genkit import core, emoji, folders
from genkit.core import Problem
from genkit.diffusion import VARIANTS
from genkit.diffusion.compression import VALIDATION
from genkit.diffusion.forward import square

FOLDER = core.WEIGHTS / "copied" / "mini-sd"
BYTES = 2_800_000  # of the whole index: what the sprites leave is shared out among the training pictures
GRID = 16  # a code is made of so many times so many places
CANDIDATES = 200  # training pictures that are composed again and measured
UNSEEN = 200  # real pictures of either kind that the yardstick is made of
SUSPICIOUS = 2.0  # percent: of a hundred pictures that nobody copied, two are suspected; one in a hundred falls together by chance
NOTICE = """The sprites in this folder are Fluent Emoji: https://github.com/microsoft/fluentui-emoji

MIT License

Copyright (c) Microsoft Corporation.

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR
A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN
ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


@dataclass(frozen=True)
class Nearest:
    """The training pictures nearest to one picture, in rising distance."""

    distances: tuple[float, ...]
    indices: tuple[int, ...]  # their numbers
    pictures: tuple[Image.Image, ...]
    captions: tuple[tuple[str, str], ...]  # one in English and one in Chinese of each
    searched: int  # training pictures
    new: tuple[float, ...]  # distances of new real pictures of combinations that were trained on, in rising order
    held_out: tuple[float, ...]  # and of combinations that never were

    @property
    def exact(self) -> bool:
        return self.distances[0] == 0

    @property
    def percentile(self) -> float:
        """The share, in percent, of new real pictures that come closer to a training picture."""
        return share(self.distances[0], self.new)

    @property
    def suspicious(self) -> bool:
        """Whether it is closer than a real picture that nobody has seen would be."""
        return self.exact or self.percentile < SUSPICIOUS


def share(distance: float, unseen: Sequence[float]) -> float:
    """The percentage of `unseen` below the distance."""
    return 100 * sum(each < distance for each in unseen) / len(unseen)


class Shipped(emoji.Emoji):
    """Draws scenes with sprites that are there already, without the icon file."""

    def __init__(self, sprites: dict):
        self.sprites = sprites
        self.sprite = lru_cache(maxsize=4096)(self._sprite)


class Index:
    """codes (N, d) of training pictures, mean (3 GRID^2,) and basis (3 GRID^2, d) that make them; `art` composes any of the pictures again."""

    def __init__(self, tensors: dict[str, torch.Tensor], about: dict, art: emoji.Emoji):
        self.codes = tensors["codes"].float() * tensors["scale"]
        self.mean, self.basis = tensors["mean"].float(), tensors["basis"].float()
        self.new, self.held_out = (tuple(tensors[name].tolist()) for name in ("new", "held_out"))
        self.seed, self.recall, self.art = about["seed"], about["recall"], art

    def picture(self, number: int) -> Image.Image:
        """Training picture `number`."""
        return Image.fromarray(self.art.example(self.seed, number)[0])

    def search(self, levels: np.ndarray, n: int) -> tuple[list[float], list[int]]:
        """Distances and numbers of the n training pictures nearest to (64, 64, 3) uint8, in rising order."""
        code = (thumbs(levels[None]) - self.mean) @ self.basis
        near = (self.codes - code).square().sum(dim=1).topk(min(CANDIDATES, len(self.codes)), largest=False).indices.tolist()
        measured = sorted((apart(levels, self.art.example(self.seed, number)[0]), number) for number in near)[:n]
        return [distance for distance, _ in measured], [number for _, number in measured]


def thumbs(levels: np.ndarray) -> torch.Tensor:
    """(B, 64, 64, 3) uint8 -> (B, 3 GRID^2): means of squares of pixels."""
    size = emoji.SIZE // GRID
    return torch.from_numpy(levels.reshape(len(levels), GRID, size, GRID, size, 3).mean(axis=(2, 4), dtype=np.float32).reshape(len(levels), -1))


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Root mean square difference of two pictures, in levels."""
    return float(np.sqrt(np.square(one.astype(np.float32) - other).mean()))


@cache
def shipped() -> Index:
    """The shipped index, loaded once. Raises Problem that names a missing or damaged file."""
    about, file = folders.config(FOLDER), FOLDER / "index.safetensors"
    try:
        tensors = load_file(str(file))
        return Index(tensors, about, Shipped({_key(name): _sprite(tensors[f"sprite {name}"]) for name in about["sprites"]}))
    except (OSError, SafetensorError, KeyError) as error:
        raise Problem("{file} is damaged ({error}); {remedy}", "{file} 已损坏（{error}）；{remedy}", file=file, error=error, remedy=folders.REMEDY) from None


def _key(name: str):
    key = json.loads(name)
    return tuple(key) if isinstance(key, list) else key


def _sprite(data: torch.Tensor) -> Image.Image:
    with Image.open(io.BytesIO(data.numpy().tobytes()), formats=["WEBP"]) as picture:
        return picture.convert("RGBA")


def nearest(picture: Image.Image, n: int = 5, index: Index | None = None) -> Nearest:
    """The n (1 to 20) training pictures of mini-sd nearest to a picture of any size, its middle square."""
    index, n = index or shipped(), core.number(n, 1, 20, "n", whole=True)
    distances, numbers = index.search(np.asarray(square(picture, emoji.SIZE)), n)
    scenes = [emoji.random_scene(random.Random(f"emoji {index.seed} {number}")) for number in numbers]
    said = tuple(tuple(emoji.caption(scene, random.Random(0), language) for language in ("en", "zh")) for scene in scenes)
    shown = tuple(index.picture(number) for number in numbers)
    return Nearest(tuple(distances), tuple(numbers), shown, said, len(index.codes), index.new, index.held_out)


def training_picture(seed: int) -> Image.Image:
    """One of the training pictures: what a true copy looks like."""
    index = shipped()
    return index.picture(random.Random(seed).randrange(len(index.codes)))


# --- making it


def unseen(art: emoji.Emoji, seed: int, n: int, *, held_out: bool) -> np.ndarray:
    """(n, 64, 64, 3) uint8: real pictures with numbers that were never trained on; held_out: on backgrounds that their first thing is never trained on."""
    made, number = [], VALIDATION
    while len(made) < n:
        rng = random.Random(f"unseen {seed} {number}")
        scene, number = emoji.random_scene(rng), number + 1
        if held_out:
            kept = [name for name in emoji.BACKGROUNDS if emoji.held_out(scene.objects[0][0], name) and name not in {tint for _, tint in scene.objects}]
            if not kept:
                continue
            scene = dataclasses.replace(scene, background=rng.choice(kept))
        made.append(art.draw(scene, rng))
    return np.stack(made)


def make(art: emoji.Emoji, pictures: int, seed: int = 0, n: int = UNSEEN) -> tuple[dict[str, torch.Tensor], dict]:
    """The index of training pictures 0 to `pictures`: tensors, and what there is to say of them. Every one is composed once; the yardstick is n of either kind."""
    sprites = {json.dumps(key): _file(picture) for key, picture in art.sprites.items()}
    left = BYTES - sum(map(len, sprites.values()))
    dims = max(8, min(64, left // (pictures + 2 * 3 * GRID**2)))
    fresh = {"new": unseen(art, seed, n, held_out=False), "held_out": unseen(art, seed, n, held_out=True)}
    asked = torch.from_numpy(np.concatenate(list(fresh.values()))).flatten(1).float()
    best, places, small = torch.full((len(asked),), torch.inf), torch.zeros(len(asked), dtype=torch.long), []
    for start in range(0, pictures, 500):
        part = np.stack([art.example(seed, number)[0] for number in range(start, min(start + 500, pictures))])
        small.append(thumbs(part))
        members = torch.from_numpy(part).flatten(1).float()
        squares = torch.addmm(members.square().sum(dim=1), asked, members.T, alpha=-2) + asked.square().sum(dim=1, keepdim=True)
        least = squares.min(dim=1)
        places = torch.where(least.values < best, least.indices + start, places)
        best = torch.minimum(best, least.values)
    tensors = coded(torch.cat(small), dims)
    yardstick = (best.clamp_min(0) / asked.shape[1]).sqrt()
    tensors |= {name: part.sort().values.clone() for name, part in zip(fresh, yardstick.split(n), strict=True)}
    about = {"seed": seed, "pictures": pictures, "dims": dims, "recall": 0.0, "sprites": list(sprites)}
    index = Index(tensors, about, art)
    found = [index.search(levels, 1)[0][0] <= far + 0.01 for levels, far in zip(np.concatenate(list(fresh.values())), yardstick.tolist(), strict=True)]
    about["recall"] = round(sum(found) / len(found), 4)
    return tensors | {f"sprite {name}": torch.frombuffer(bytearray(data), dtype=torch.uint8) for name, data in sprites.items()}, about


def coded(small: torch.Tensor, dims: int) -> dict[str, torch.Tensor]:
    """Principal components of thumbs (N, 3 GRID^2), each in a signed byte of its own scale."""
    mean = small.mean(dim=0)
    centred = small - mean
    basis = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -dims:].flip(1)
    codes = centred @ basis
    scale = codes.abs().amax(dim=0) / 127
    return {"codes": (codes / scale).round().to(torch.int8), "scale": scale, "mean": mean.half(), "basis": basis.half().contiguous()}


def _file(picture: Image.Image) -> bytes:
    data = io.BytesIO()
    picture.save(data, "WEBP", lossless=True, quality=100)
    return data.getvalue()


def main() -> int:
    began = time.process_time()
    tensors, about = make(emoji.Emoji(download=True), VARIANTS["mini-sd"].pictures)
    with folders.written(FOLDER) as folder:
        save_file(tensors, str(folder / "index.safetensors"))
        (folder / "index.safetensors").chmod(0o644)
        (folder / "config.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        (folder / "NOTICE.txt").write_text(NOTICE, encoding="utf-8")
    size = (FOLDER / "index.safetensors").stat().st_size
    print(f"{about['pictures']} training pictures, {about['dims']} bytes each, {len(about['sprites'])} sprites: {size:,} bytes in {FOLDER}")
    new, held = (tensors[name].median().item() for name in ("new", "held_out"))
    print(f"the nearest training picture is among the {CANDIDATES} candidates for {about['recall']:.1%} of {2 * UNSEEN} real pictures never trained on")
    print(
        f"median distance to it: {new:.1f} levels, on a background never trained on with the thing {held:.1f}; {time.process_time() - began:.0f} s of one core"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
