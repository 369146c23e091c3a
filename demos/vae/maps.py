"""The latent space as a map: drag over the plane of two numbers, find your own drawing on it, see the holes of a plain autoencoder."""

import functools
import math

import gradio as gr
from PIL import Image, ImageColor, ImageDraw, ImageFont

from demos.i18n import both, t, told
from demos.pieces import data_uri, empty, heading, made_by, note, refused, wall
from demos.plane import plane
from demos.vae.make import NAMES, digit_on, drawn
from genkit import films, labels, models, vae
from genkit.core import Problem, number, pick
from genkit.together import together

TITLE = ("The map: all digits the model can think of", "地图：模型能想到的所有数字")
LESSON = (
    "With a code of two numbers the whole latent space fits on a sheet: left to right is the first number, up and down the second. Behind every place stands the digit that the decoder draws there. "
    "The coloured numerals are 1,000 real test digits, each where the encoder puts it. Drag anywhere.",
    "编码只有两个数时，整个潜在空间可以铺在一张纸上：左右是第一个数，上下是第二个数。每个位置后面是解码器在那里画出的数字。彩色数字是 1000 个真实的测试数字，各在编码器放它们的地方。随处拖动看看。",
)
WHY = (
    "Why the difference? A plain autoencoder may put its digits anywhere, so it scatters them and leaves empty ground between, and chance lands in the holes. "
    "The KL term of the VAE pulls all codes together around the middle until hardly a hole is left: there chance meets a digit nearly everywhere.",
    "为什么不同？普通自编码器可以把数字放在任何地方，于是它们七零八落，中间留下空地，随机数就掉进洞里。VAE 的 KL 项把所有编码拉到中间，直到几乎没有洞：随机数几乎处处都能碰到一个数字。",
)
VIEWED = {**NAMES, "ae2d": ("Plain autoencoder, 2 numbers only", "普通自编码器，只有 2 个数")}
ORDER = ("conv2d", "ae2d", *(name for name in NAMES if name != "conv2d"))
PROJECTIONS = {
    "plain": ("as it is, or the two main directions (PCA)", "原样，或两个主方向（PCA）"),
    "tsne": ("neighbours together (t-SNE)", "邻居靠拢（t-SNE）"),
}
COLOURS = ("#ff7b72", "#ffd166", "#3ddc97", "#58a6ff", "#d2a8ff", "#ff9f1c", "#b5e853", "#ff8fc7", "#7fe7f2", "#e8c9a0")  # of the digits, on black
TILES, SIDE = 15, 616  # pictures in a row of the map; pixels of it
STAR = "★"


# --- what is asked, checked


def asked(variant, projection) -> tuple[str, str]:
    pick(vae.VARIANTS, variant, "VAE variant", "VAE 变体")
    pick(PROJECTIONS, projection, "projection", "投影")
    return variant, projection


@functools.cache
def explorer(variant: str, projection: str):
    """One function a map that draws the places of many visitors in one forward pass."""
    return together(lambda places: vae.atlas(models.use("vae", variant), projection).many(places), limit=16)


def place_of(value) -> tuple[float, float] | None:
    """[x, y] of a visitor's drawing, or None. Raises Problem for what is neither."""
    if not isinstance(value, list) or len(value) != 2:
        return None
    return number(value[0], -1.0, 1.0, "x"), number(value[1], -1.0, 1.0, "y")


# --- the map as a picture


@functools.lru_cache(maxsize=24)
def ground(variant: str, projection: str) -> Image.Image:
    """The digits decoded all over the plane, dimmed, and the real ones on them as coloured numerals."""
    atlas = vae.atlas(models.use("vae", variant), projection)
    sheet = films.grid(atlas.tiles(TILES)).resize((SIDE, SIDE), Image.Resampling.BILINEAR).point(lambda level: level * 45 // 100).convert("RGB")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    for (x, y), label in zip(atlas.points.tolist(), atlas.labels, strict=True):
        pen.text(pixel(x, y), str(label), fill=ImageColor.getrgb(COLOURS[label]), font=font, anchor="mm")
    return sheet


def pixel(x: float, y: float) -> tuple[float, float]:
    return SIDE * (1 + x) / 2, SIDE * (1 - y) / 2


def starred(sheet: Image.Image, at: tuple[float, float] | None) -> Image.Image:
    """The map with a star where the visitor's drawing lies."""
    if at is None:
        return sheet
    sheet, (x, y) = sheet.copy(), pixel(*at)
    x, y = (min(max(value, 14), SIDE - 14) for value in (x, y))
    corners = [(x + r * math.sin(math.pi * i / 5), y - r * math.cos(math.pi * i / 5)) for i, r in enumerate((14, 6) * 5)]
    ImageDraw.Draw(sheet).polygon(corners, fill="#ffffff", outline="#000000", width=2)
    return sheet


@functools.cache
def palette() -> Image.Image:
    """Few enough colours to travel: the greys of the dimmed digits, and each colour of a numeral in the strengths that its edges take. Chosen by frequency, the greys would win."""
    greys = [(level,) * 3 for level in (*range(0, 116, 5), 255)]
    inks = [tuple(level * strength // 7 for level in ImageColor.getrgb(colour)) for colour in COLOURS for strength in range(1, 8)]
    sheet = Image.new("P", (1, 1))
    sheet.putpalette([level for colour in greys + inks for level in colour])
    return sheet


def mapped(variant: str, projection: str, at=None) -> Image.Image:
    """The map with its mark."""
    small = starred(ground(variant, projection), at).quantize(palette=palette(), dither=Image.Dither.NONE)
    return labels.mark(small, model=f"vae/{variant}", projection=projection)


def legend() -> str:
    """Which colour is which digit."""
    each = "".join(f'<li><b style="background:{colour}">{digit}</b></li>' for digit, colour in enumerate(COLOURS))
    return f'<ul class="digits" aria-hidden="true">{each}<li>{STAR} {both("your drawing", "您的画")}</li></ul>'


# --- what the page shows


def look(question: dict) -> dict:
    """What stands beside the plane, for a question with variant, projection, x, y, the place of the visitor's drawing, and whether the map is wanted."""
    try:
        variant, projection = asked(question.get("variant"), question.get("projection"))
        x, y = (number(question.get(axis), -1.0, 1.0, axis) for axis in "xy")
        with models.guarded():
            picture = labels.mark(explorer(variant, projection)((x, y)), model=f"vae/{variant}", x=x, y=y)
            sheet = {"map": data_uri(mapped(variant, projection, place_of(question.get("mine"))))} if question.get("map") else {}
    except Problem as problem:
        return {"said": refused(problem)}
    return {"picture": data_uri(picture), "alt": f"x {x:.2f}, y {y:.2f}", "said": made_by(variant, x=f"{x:.2f}", y=f"{y:.2f}")} | sheet


def about(variant: str, projection: str) -> str:
    """What the two directions of a map are."""
    if projection == "tsne":
        return note(
            "t-SNE puts digits with similar codes next to each other. Between them there is no code: you see the nearest real digit redrawn.",
            "t-SNE 把编码相近的数字放在一起。它们之间没有编码：您看到的是最近的真实数字的重画。",
        )
    (far_x, share_x), (far_y, share_y) = vae.atlas(models.use("vae", variant), projection).axes
    z, share = vae.VARIANTS[variant].latent_dim, share_x + share_y
    if z == 2:
        return note(
            f"These are the two numbers themselves. The edges are at ±{far_x:.1f} and ±{far_y:.1f}; the bell curve is 1 wide.",
            f"这就是那两个数本身。左右边缘在 ±{far_x:.1f}，上下边缘在 ±{far_y:.1f}；钟形分布的宽度是 1。",
        )
    return note(
        f"Of {z} numbers only two directions fit on a sheet: those in which the codes differ most (PCA). They hold {share:.0%} of all differences, so the map is a shadow.",
        f"{z} 个数里只有两个方向能画在纸上：编码差别最大的两个（PCA）。它们占全部差别的 {share:.0%}，所以地图只是一个影子。",
    )


def settle(sheet, variant, projection):
    """The plane's value with the visitor's drawing on it, and what the map is. It runs unasked when the section opens: no toasts."""
    try:
        asked(variant, projection)
        with models.guarded():
            said, here = about(variant, projection), (0.0, 0.0)
            mine = list(vae.atlas(models.use("vae", variant), projection).place(digit_on(sheet))) if sheet else None
            here = mine or here
        return {"variant": variant, "projection": projection, "mine": mine, "x": round(here[0], 2), "y": round(here[1], 2)}, said
    except Problem as problem:
        return {"variant": variant, "projection": projection, "mine": None, "x": 0, "y": 0}, refused(problem)


@told
def versus(sheet, seed):
    """The maps of a VAE and of the same network without a prior, and what chance finds in each."""

    def side(variant: str) -> str:
        with models.guarded():
            atlas = vae.atlas(models.use("vae", variant))
            at = atlas.place(digit_on(sheet)) if sheet else None
            made = drawn(variant, 10, seed)
        alt = f"map of {variant}"
        edge = note(f"edges at ±{atlas.axes[0][0]:.1f} and ±{atlas.axes[1][0]:.1f}", f"边缘在 ±{atlas.axes[0][0]:.1f} 和 ±{atlas.axes[1][0]:.1f}")
        head = f"<h4>{both(*VIEWED[variant])}</h4>"
        chance = f"<h4>{both('Ten digits from pure chance', '从随机数得到的十个数字')}</h4>{wall(made, [f'z{index + 1}' for index in range(10)])}"
        return f'<div>{head}<img class="chart-map" alt="{alt}" src="{data_uri(mapped(variant, "plain", at))}">{edge}{chance}</div>'

    return (
        f'{note(*WHY)}<div class="versus">{side("conv2d")}{side("ae2d")}</div>{legend()}{made_by("conv2d, ae2d", seed=int(number(seed, 0, 2**31 - 1, "seed")))}'
    )


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    gr.HTML(note(*LESSON))
    with gr.Row():
        variant = gr.Dropdown([(t(*VIEWED[name]), name) for name in ORDER], value=ORDER[0], label=t("Model", "模型"), filterable=False, min_width=220)
        projection = gr.Radio(
            [(t(*said), name) for name, said in PROJECTIONS.items()], value="plain", label=t("How it is laid flat", "怎样铺平"), min_width=220
        )
        mine = gr.Button(t("Put my drawing on the map", "把我的画放到地图上"), variant="primary", min_width=180)
    square = plane(look, {"variant": variant.value, "projection": "plain", "mine": None}, elem_id="vae-map")
    gr.HTML(legend())
    said = gr.HTML(elem_id="vae-map-about")
    heading(
        "With and without the bell curve", "有没有钟形分布，差在哪里",
        "The same network twice: once as a VAE, once as a plain autoencoder that only had to redraw well.",
        "同一个网络两次：一次是 VAE，一次是只求画得像的普通自编码器。",
    )  # fmt: skip
    with gr.Row():
        seed = gr.Number(7, label=t("Seed", "随机种子"), precision=0, min_width=120)
        compare = gr.Button(t("Compare the two maps", "比较两张地图"), variant="primary", min_width=200)
    both_maps = gr.HTML(empty("Two maps appear here.", "两张地图会显示在这里。"), elem_id="vae-versus")

    light = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": 8}
    placed = {"fn": settle, "inputs": [parts["pad"], variant, projection], "outputs": [square, said], **light}
    square.ready(**placed)
    gr.on([mine.click, variant.change, projection.change], trigger_mode="always_last", **placed)
    compare.click(versus, [parts["pad"], seed], both_maps, concurrency_limit=4, api_visibility="private")
    parts |= {"maps_variant": variant, "maps_projection": projection, "maps_mine": mine, "maps_plane": square, "maps_compare": compare}
    parts |= {"maps_versus": both_maps, "maps_seed": seed}
