"""Things that somebody teaches a model: a picture cut out of its background, a name in English or Chinese or both, and captions for what is composed of them."""

from __future__ import annotations

import importlib.util
import random
import re
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from genkit import emoji
from genkit.core import Problem

SIDE = 128  # pixels of a cut-out
LONGEST, WORDS = 24, 3  # characters and words of a name
CJK = re.compile("[\u3400-\u9fff]")
INK = (62, 62, 74)  # of digits and of what is drawn with a black pen: a tint can still be seen in it
NUMBERS = (
    ("zero", "零"), ("one", "一"), ("two", "二"), ("three", "三"), ("four", "四"), ("five", "五"), ("six", "六"), ("seven", "七"), ("eight", "八"), ("nine", "九"),
)  # fmt: skip
COUNTS = {2: ("two", "两"), 3: ("three", "三")}


@dataclass(frozen=True)
class Thing:
    """One thing: its English name, its Chinese name, one of which may be "", and its picture, (128, 128) RGBA."""

    en: str
    zh: str
    picture: Image.Image = field(repr=False, compare=False)

    @property
    def key(self) -> str:
        return self.en or self.zh

    @property
    def languages(self) -> tuple[str, ...]:
        return tuple(language for language in ("en", "zh") if getattr(self, language))


def named(name: str, picture: Image.Image) -> Thing:
    """A thing by what somebody wrote: "dragon", "龙", or both, "dragon / 龙". Raises Problem for no name, for a long one, and for one without letters."""
    text = unicodedata.normalize("NFKC", str(name)).encode("utf-8", "replace").decode("utf-8")
    found = {"en": "", "zh": ""}
    for part in text.split("/"):
        part = " ".join("".join(each if each.isalnum() or each in "-'" else " " for each in part).split())
        if part:
            found["zh" if CJK.search(part) else "en"] = part
    if not any(found.values()) or any(len(part) > LONGEST or len(part.split()) > WORDS for part in found.values()):
        raise Problem(
            "'{name}' is no name: write a word or two, at most {n} letters, in English or Chinese, or both with a / between",
            "“{name}”不能作名称：请写一两个词，至多 {n} 个字符，中文或英文皆可，也可用 / 隔开写两种",
            name=text[:40],
            n=LONGEST,
        )
    return Thing(found["en"].lower(), found["zh"], picture)


# --- pictures


def cut_out(picture: Image.Image, *, pen: bool = False) -> Image.Image:
    """The thing in a picture, (128, 128) RGBA: what is transparent stays so, else what joins the corners in about their colour is taken away.

    pen: black strokes on white, made a little lighter. Raises Problem where nothing is left.
    """
    picture = picture.copy()
    picture.thumbnail((512, 512))
    picture = picture.convert("RGBA")
    pixels = np.asarray(picture).copy()
    if pixels[..., 3].min() > 250:
        pixels[..., 3] = np.where(_ground(picture), 0, 255)
    if pen:
        pixels[..., :3] = np.uint8(np.float32(INK) + pixels[..., :3] * ((255 - np.float32(INK)) / 255))
    rows, columns = np.nonzero(pixels[..., 3] > 40)
    if len(rows) < 30:
        raise Problem(
            "this picture is empty; draw something, or choose a picture of a thing on a plain background", "这张图是空的；请画点什么，或选一张纯色背景的图"
        )
    part = Image.fromarray(pixels).crop((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    square = Image.new("RGBA", (max(part.size),) * 2)
    square.paste(part, ((square.width - part.width) // 2, (square.width - part.height) // 2))
    return square.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _ground(picture: Image.Image) -> np.ndarray:
    """Where the background is, (H, W) bool: flooded from the four corners, as far as the colour stays about the same."""
    mark, flat = (255, 0, 254), picture.convert("RGB")
    for corner in ((0, 0), (flat.width - 1, 0), (0, flat.height - 1), (flat.width - 1, flat.height - 1)):
        if flat.getpixel(corner) != mark:
            ImageDraw.floodfill(flat, corner, mark, thresh=90)
    return (np.asarray(flat) == mark).all(axis=-1)


def emoji_here() -> bool:
    """Whether the emoji pictures can be drawn on this machine: they are not shipped."""
    try:
        return importlib.util.find_spec("resvg_py") is not None and emoji.find().exists()
    except Problem:
        return False


@lru_cache(maxsize=1)
def emoji_things() -> dict[str, Thing]:
    """The things of mini-sd by their English name, where their pictures are on this machine."""
    art = emoji.Emoji()
    return {name: Thing(name, emoji.THINGS[name].zh, picture) for name, picture in art.sprites.items()}


@lru_cache(maxsize=1)
def digit_things() -> dict[str, Thing]:
    """The ten digits as things, from pictures of MNIST. Raises Problem where there are none."""
    import torch  # the page, which knows the names of things, must not wait for it

    from genkit.digits import digits

    x, y = digits("train")
    found = {}
    for digit, (en, zh) in enumerate(NUMBERS):
        ink = x[int(torch.nonzero(y == digit)[3])].numpy()
        sheet = np.concatenate([np.broadcast_to(np.uint8(INK), (28, 28, 3)), ink[..., None]], axis=-1)
        found[en] = Thing(en, zh, cut_out(Image.fromarray(sheet).resize((SIDE, SIDE), Image.Resampling.BICUBIC)))
    return found


class Album(emoji.Emoji):
    """Draws scenes of other things than emoji: Scene.objects name them by their key."""

    def __init__(self, things: list[Thing]):
        self.sprites = {thing.key: thing.picture for thing in things}
        self.sprite = lru_cache(maxsize=None)(self._sprite)


# --- words


def random_scene(rng: random.Random, keys: list[str]) -> emoji.Scene:
    """One scene that may be learnt from: three quarters single, the others two or three of a kind; 30 % on white; 25 % tinted."""
    while True:
        background = "white" if rng.random() < 0.3 else rng.choice([name for name in emoji.BACKGROUNDS if name != "white"])
        tint = rng.choice(list(emoji.TINTS)) if rng.random() < 0.25 else None
        scene = emoji.Scene(background, ((rng.choice(keys), tint),), 1 if rng.random() < 0.75 else rng.choice((2, 3)))
        if emoji.allowed(scene) or (background == "white" and tint is None):  # a name whose every background is held out is still shown on white
            return scene


def caption(scene: emoji.Scene, table: dict[str, Thing], rng: random.Random, language: str = "") -> str:
    """One way of saying what a scene shows; language: "en" or "zh", by default one in which the thing has a name."""
    key, tint = scene.objects[0]
    thing = table[key]
    language = language or rng.choice(thing.languages)
    return (_english if language == "en" else _chinese)(scene, thing, tint, rng)


def _english(scene, thing: Thing, tint, rng) -> str:
    if scene.count > 1:
        text = " ".join(filter(None, [COUNTS[scene.count][0], tint, emoji.plural(thing.en)]))
    else:
        words = " ".join(filter(None, [tint, thing.en]))
        text = words if rng.random() < 0.1 else f"{_article(words)} {words}"
    if scene.background == "white" and rng.random() < 0.5:
        return text
    return text + rng.choice((f" on {_article(scene.background)} {scene.background} background", f" on {scene.background}", f", {scene.background} background"))


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _chinese(scene, thing: Thing, tint, rng) -> str:
    colour = rng.choice((f"{emoji.CHINESE[tint]}色的", emoji.CHINESE[tint])) if tint else ""
    number = COUNTS[scene.count][1] if scene.count > 1 else "一"
    text = ("" if scene.count == 1 and rng.random() < 0.2 else f"{number}个") + colour + thing.zh
    if scene.background == "white" and rng.random() < 0.5:
        return text
    behind = emoji.CHINESE[scene.background]
    return rng.choice((f"{text}，{behind}色背景", f"{text}，{behind}色的背景", f"{behind}色背景上的{text}"))
