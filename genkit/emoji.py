"""Captioned pictures for mini-sd: Fluent Emoji Flat (Microsoft, MIT) composed on plain backgrounds, captions in English and Chinese.

A picture is 64 x 64: one object, two or three of a kind, or a pair, now and then tinted, on one of ten backgrounds. An eighth of the
combinations object x background and object x tint is held out for ever (by a hash of the names), so that drawing what was asked for can be
measured on combinations that no training picture shows.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from genkit.core import Problem

SIZE = 64
FILE = "fluent-emoji-flat.json"
PACKAGE = "@iconify-json/fluent-emoji-flat"
log = logging.getLogger(__name__)

# English name / other names | icon | Chinese | measure word
_TABLE = """
cat/kitten | cat-face | 猫 | 只
dog/puppy | dog-face | 狗 | 只
fox | fox | 狐狸 | 只
panda | panda | 熊猫 | 只
frog | frog | 青蛙 | 只
pig | pig-face | 猪 | 只
rabbit/bunny | rabbit-face | 兔子 | 只
lion | lion | 狮子 | 只
monkey | monkey-face | 猴子 | 只
chick | baby-chick | 小鸡 | 只
whale | spouting-whale | 鲸鱼 | 条
fish | tropical-fish | 鱼 | 条
octopus | octopus | 章鱼 | 只
turtle | turtle | 乌龟 | 只
bee | honeybee | 蜜蜂 | 只
butterfly | butterfly | 蝴蝶 | 只
ladybug | lady-beetle | 瓢虫 | 只
owl | owl | 猫头鹰 | 只
penguin | penguin | 企鹅 | 只
rose | rose | 玫瑰 | 朵
sunflower | sunflower | 向日葵 | 朵
tree | deciduous-tree | 树 | 棵
cactus | cactus | 仙人掌 | 棵
mushroom | mushroom | 蘑菇 | 个
apple | red-apple | 苹果 | 个
banana | banana | 香蕉 | 根
grapes | grapes | 葡萄 | 串
strawberry | strawberry | 草莓 | 颗
watermelon | watermelon | 西瓜 | 块
pizza | pizza | 披萨 | 块
donut/doughnut | doughnut | 甜甜圈 | 个
ice cream | soft-ice-cream | 冰淇淋 | 个
car | automobile | 汽车 | 辆
bus | bus | 公交车 | 辆
rocket | rocket | 火箭 | 枚
sailboat/boat | sailboat | 帆船 | 艘
house | house | 房子 | 座
sun | sun | 太阳 | 个
star | star | 星星 | 颗
moon/crescent moon | crescent-moon | 月亮 | 个
rainbow | rainbow | 彩虹 | 道
snowman | snowman-without-snow | 雪人 | 个
fire/flame | fire | 火焰 | 团
heart | red-heart | 爱心 | 颗
balloon | balloon | 气球 | 个
gift/present | wrapped-gift | 礼物 | 份
umbrella | umbrella | 雨伞 | 把
guitar | guitar | 吉他 | 把
key | key | 钥匙 | 把
crown | crown | 皇冠 | 顶
smiley/happy face | grinning-face | 笑脸 | 张
skull | skull | 骷髅 | 个
ghost | ghost | 幽灵 | 个
robot | robot | 机器人 | 个
alien | alien | 外星人 | 个
gem/diamond | gem-stone | 宝石 | 颗
"""


@dataclass(frozen=True)
class Thing:
    """One class of objects: its English names (the first is the class), icon, Chinese name and measure word."""

    names: tuple[str, ...]
    icon: str
    zh: str
    measure: str


def _things():
    for line in _TABLE.strip().splitlines():
        names, icon, zh, measure = (part.strip() for part in line.split("|"))
        yield Thing(tuple(names.split("/")), icon, zh, measure)


THINGS = {thing.names[0]: thing for thing in _things()}
TINTS = {
    "red": (226, 40, 50),
    "orange": (250, 135, 25),
    "yellow": (250, 205, 20),
    "green": (45, 165, 60),
    "blue": (40, 100, 225),
    "purple": (135, 60, 190),
    "pink": (250, 110, 175),
}
BACKGROUNDS = {
    "white": (255, 255, 255),
    "black": (24, 24, 28),
    "gray": (150, 152, 158),
    "red": (214, 70, 74),
    "orange": (244, 158, 82),
    "yellow": (248, 224, 110),
    "green": (112, 190, 120),
    "blue": (98, 158, 236),
    "purple": (164, 118, 214),
    "pink": (248, 176, 206),
}
CHINESE = {"white": "白", "black": "黑", "gray": "灰", "red": "红", "orange": "橙", "yellow": "黄", "green": "绿", "blue": "蓝", "purple": "紫", "pink": "粉"}
_COUNTS = {2: ("two", "两"), 3: ("three", "三")}
_PLURALS = {"fish": "fish", "grapes": "grapes", "ice cream": "ice creams", "octopus": "octopuses", "cactus": "cacti", "snowman": "snowmen"}


@dataclass(frozen=True)
class Scene:
    """What a picture shows: one (thing, tint or None), drawn `count` times, or two different ones side by side."""

    background: str
    objects: tuple[tuple[str, str | None], ...]
    count: int = 1


def held_out(thing: str, other: str) -> bool:
    """Whether this object x background or object x tint is kept out of every training picture (an eighth of them is)."""
    return int(hashlib.md5(f"{thing}|{other}".encode(), usedforsecurity=False).hexdigest(), 16) % 8 == 0


def allowed(scene: Scene) -> bool:
    """Whether a training picture may show it: no held-out combination, and no tint that would vanish in its background."""
    return not any(
        held_out(thing, scene.background) or (tint is not None and (tint == scene.background or held_out(thing, tint))) for thing, tint in scene.objects
    )


def random_scene(rng: random.Random) -> Scene:
    """One scene that training may show: 70 % single, 15 % two or three of a kind, 15 % pairs; 30 % on white; 25 % tinted."""
    while True:
        layout = rng.choices(("single", "same", "pair"), (70, 15, 15))[0]
        background = "white" if rng.random() < 0.3 else rng.choice([name for name in BACKGROUNDS if name != "white"])
        things = rng.sample(list(THINGS), 2 if layout == "pair" else 1)
        objects = tuple((thing, rng.choice(list(TINTS)) if rng.random() < 0.25 else None) for thing in things)
        scene = Scene(background, objects, rng.choice((2, 3)) if layout == "same" else 1)
        if allowed(scene):
            return scene


def plural(name: str) -> str:
    if name in _PLURALS:
        return _PLURALS[name]
    if name.endswith("y") and name[-2] not in "aeiou":
        return name[:-1] + "ies"
    return name + ("es" if name.endswith(("s", "x", "sh", "ch")) else "s")


def _english(scene: Scene, rng: random.Random) -> str:
    def phrase(thing, tint):
        words = [tint] if tint else []
        name = THINGS[thing].names[0] if rng.random() < 0.7 else rng.choice(THINGS[thing].names)
        if scene.count > 1:
            return " ".join([_COUNTS[scene.count][0], *words, plural(name)])
        words = " ".join([*words, name])
        bare = name in ("grapes",) or rng.random() < 0.15
        return words if bare else f"{'an' if words[0] in 'aeiou' else 'a'} {words}"

    text = " and ".join(phrase(*one) for one in scene.objects)
    if rng.random() < 0.1:
        text = rng.choice(("a picture of ", "a drawing of ", "an emoji of ")) + text
    if scene.background == "white" and rng.random() < 0.5:
        return text
    background = "grey" if scene.background == "gray" and rng.random() < 0.3 else scene.background
    article = "an" if background[0] in "aeiou" else "a"
    return text + rng.choice((f" on {article} {background} background", f" on {background}", f", {background} background"))


def _chinese(scene: Scene, rng: random.Random) -> str:
    def phrase(thing, tint):
        colour = rng.choice((f"{CHINESE[tint]}色的", f"{CHINESE[tint]}")) if tint else ""
        number = _COUNTS[scene.count][1] if scene.count > 1 else "一"
        counted = "" if scene.count == 1 and rng.random() < 0.2 else number + (THINGS[thing].measure if rng.random() < 0.6 else "个")
        return counted + colour + THINGS[thing].zh

    text = "和".join(phrase(*one) for one in scene.objects)
    if scene.background == "white" and rng.random() < 0.5:
        return text
    colour = CHINESE[scene.background]
    return rng.choice((f"{text}，{colour}色背景", f"{text}，{colour}色的背景", f"{colour}色背景上的{text}"))


def caption(scene: Scene, rng: random.Random, language: str = "en") -> str:
    """One way of saying what the scene shows, "en" or "zh". On white, half of the captions do not mention the background."""
    return {"en": _english, "zh": _chinese}[language](scene, rng)


def find(*, download: bool = False) -> Path:
    """The icon file: GENKIT_DATA_DIR/fluent-emoji-flat.json, else (with download=True) fetched there, or into the user's cache, with npm."""
    folder = Path(os.getenv("GENKIT_DATA_DIR") or Path.home() / ".cache" / "genkit")
    path = folder / FILE
    if not path.exists() and download:
        _fetch(path)
    if not path.exists():
        raise Problem(
            "no {file} in {folder}; allow the download (it needs npm), or set GENKIT_DATA_DIR to a folder that holds icons.json of {package} under that name",
            "{folder} 中没有 {file}；请允许下载（需要 npm），或让 GENKIT_DATA_DIR 指向含有该文件的文件夹（即 {package} 的 icons.json）",
            file=FILE,
            folder=str(folder),
            package=PACKAGE,
        )
    log.info("emoji pictures: %s", path)
    return path


def _fetch(path: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise Problem("downloading {package} needs npm, which is not installed", "下载 {package} 需要 npm，但本机没有安装", package=PACKAGE)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([npm, "pack", PACKAGE], cwd=folder, capture_output=True, text=True)
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or not archives:
            raise Problem("npm could not fetch {package}: {why}", "npm 无法下载 {package}：{why}", package=PACKAGE, why=done.stderr.strip()[-200:])
        with tarfile.open(archives[0]) as archive:
            icons = archive.extractfile("package/icons.json").read()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(icons)


class Emoji:
    """Draws scenes. Sprites are rendered once at 128 pixels, and kept at every size they were needed in."""

    def __init__(self, *, download: bool = False):
        try:
            import resvg_py
        except ImportError:
            raise Problem("drawing the training pictures needs resvg-py: pip install resvg-py", "绘制训练图片需要 resvg-py：pip install resvg-py") from None
        icons = json.loads(find(download=download).read_text(encoding="utf-8"))["icons"]
        self.sprites = {}
        for name, thing in THINGS.items():
            if thing.icon not in icons:
                raise Problem("{file} has no icon '{icon}'; fetch it again", "{file} 中没有图标“{icon}”；请重新下载", file=FILE, icon=thing.icon)
            svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="128" height="128" viewBox="0 0 32 32">{icons[thing.icon]["body"]}</svg>'
            with Image.open(_bytes(resvg_py.svg_to_bytes(svg_string=svg))) as picture:
                self.sprites[name] = picture.convert("RGBA")
        self.sprite = lru_cache(maxsize=None)(self._sprite)

    def _sprite(self, thing: str, tint: str | None, size: int) -> Image.Image:
        picture = self.sprites[thing]
        return (_tinted(picture, TINTS[tint]) if tint else picture).resize((size, size), Image.Resampling.LANCZOS)

    def draw(self, scene: Scene, rng: random.Random) -> np.ndarray:
        """One picture of the scene, (64, 64, 3) uint8; the places and sizes are drawn from rng."""
        picture = Image.new("RGB", (SIZE, SIZE), BACKGROUNDS[scene.background])
        objects = scene.objects * scene.count
        low, high = {1: (42, 54), 2: (27, 31), 3: (24, 29)}[len(objects)]
        size = rng.randint(low, high)
        centres = {1: [(32, 32)], 2: [(17, 32), (47, 32)], 3: [(32, 17), (17, 46), (47, 46)]}[len(objects)]
        for (thing, tint), (x, y) in zip(objects, centres, strict=True):
            sprite = self.sprite(thing, tint, size)
            slack = (SIZE - size) // 2 if len(objects) == 1 else 2
            box = (x - size // 2 + rng.randint(-slack, slack), y - size // 2 + rng.randint(-slack, slack))
            picture.paste(sprite, box, sprite)
        return np.asarray(picture)

    def example(self, seed: int, index: int, chinese: float = 1 / 3) -> tuple[np.ndarray, str, Scene]:
        """Training picture number `index` of stream `seed`: always the same (64, 64, 3) uint8 picture, caption and scene."""
        rng = random.Random(f"emoji {seed} {index}")
        scene = random_scene(rng)
        return self.draw(scene, rng), caption(scene, rng, "zh" if rng.random() < chinese else "en"), scene


def _bytes(data):
    import io

    return io.BytesIO(bytes(data))


def _tinted(picture: Image.Image, tint: tuple[int, int, int]) -> Image.Image:
    """The picture in shades of one colour: dark parts stay dark, white highlights stay white."""
    pixels = np.asarray(picture, dtype=np.float32)
    luminance = (pixels[..., :3] @ np.float32([0.299, 0.587, 0.114]) / 255)[..., None]
    shade = np.float32(tint) * (0.4 + 0.6 * np.clip(luminance / 0.7, 0, 1))
    white = np.clip((luminance - 0.9) / 0.08, 0, 1)
    colour = shade * (1 - white) + 255 * white
    return Image.fromarray(np.concatenate([colour, pixels[..., 3:]], axis=-1).round().astype(np.uint8))
