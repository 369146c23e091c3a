"""Walk through the latent space: over a plane, from one digit to another, from layer to layer, towards the average."""

import functools

import gradio as gr

from demos import film
from demos.endpoints import file
from demos.gan.make import choices
from demos.i18n import t, told
from demos.pieces import data_uri, empty, heading, in_place, made_by, note, refused, stops, wall
from demos.plane import plane
from genkit import films, gan, labels, models
from genkit.core import Problem, number, pick
from genkit.together import together

TITLE = ("Walk through the latent space", "漫步潜在空间")
DIGITS = tuple("0123456789")
TILES = 9  # in a row of the map under the plane
FILM = 24  # pictures of a morph there, before it goes back; twice as many of a round through the plane
WAYS = {
    "both": ("the digit and the hand", "数字和笔迹"),
    "digit": ("only the digit", "只变数字"),
    "hand": ("only the hand that writes", "只变笔迹"),
}
KEPT = {"morph": ("the morph from A to B", "从 A 到 B 的渐变"), "plane": ("a round through the plane", "在平面里绕一圈")}


# --- what is asked, checked


def spot(digit, seed):
    """The gan.Spot of a digit "0" to "9" and a seed. Raises Problem for anything else."""
    return gan.Spot(int(pick(DIGITS, str(digit), "digit", "数字")), number(seed, 0, 2**31 - 1, "seed", whole=True))


def model_of(variant: str):
    pick(gan.VARIANTS, variant, "GAN variant", "GAN 变体")
    return models.use("gan", variant)


def marked(pictures: list, variant: str, seed: int, **settings) -> list:
    return [labels.mark(picture, model=f"gan/{variant}", seed=seed, index=index, **settings) for index, picture in enumerate(pictures)]


@functools.cache
def explorer(variant: str):
    """One function a variant that draws the planes of many visitors in one forward pass."""
    return together(lambda requests: gan.plane_many(models.use("gan", variant), requests), limit=16)


def explored(variant: str, here, points) -> list:
    """The pictures at these points of the plane through a spot, not yet marked."""
    pick(gan.VARIANTS, variant, "GAN variant", "GAN 变体")
    with models.guarded():
        return explorer(variant)((here, points))


def morphed(variant: str, a, b, n) -> list:
    """n marked pictures from spot a to spot b. n is clamped to 2-64."""
    n = number(n, 2, 64, "n", whole=True)
    with models.guarded():
        made = gan.morph(model_of(variant), a, b, n)
    return marked(made, variant, a.seed, digit_a=str(a.digit), digit_b=str(b.digit), seed_b=b.seed)


def mixed(a, b) -> list:
    """One marked picture for each number of coarse layers that are taken from spot a, from none (b) to all (a)."""
    with models.guarded():
        made = gan.mix(model_of("style"), a, b, range(gan.LAYERS + 1))
    return marked(made, "style", a.seed, digit_a=str(a.digit), digit_b=str(b.digit), seed_b=b.seed)


def truncated(variant: str, psi, seed) -> list:
    """The ten digits twice, marked. psi is clamped to 0-1.5."""
    psi, seed = number(psi, 0.0, 1.5, "psi"), spot("0", seed).seed
    with models.guarded():
        made = gan.truncate(model_of(variant), "0123456789", psi, n=20, seed=seed)
    return marked(made, variant, seed, psi=psi)


# --- endpoints


def gan_interpolate(variant: str = "dcgan", seed_a: int = 1, seed_b: int = 2, digit_a: str = "3", digit_b: str = "8", n: int = 9) -> list[dict]:
    """Walk from one generated digit to another: n (2 to 64) PNG files, 28 x 28. The first is the picture of seed_a and digit_a, the last that of seed_b and digit_b."""
    return [file(picture) for picture in morphed(variant, spot(digit_a, seed_a), spot(digit_b, seed_b), n)]


def gan_mix(seed_a: int = 1, seed_b: int = 2, digit_a: str = "3", digit_b: str = "8", layers: int = 2) -> dict:
    """Mix two styles of the style-based generator: its first `layers` (0 to 4) coarse layers follow A, the others B. One PNG file, 28 x 28; 0 gives B, 4 gives A."""
    a, b, layers = spot(digit_a, seed_a), spot(digit_b, seed_b), number(layers, 0, gan.LAYERS, "layers", whole=True)
    return file(mixed(a, b)[layers])


# --- what the page shows


def look(question: dict) -> dict:
    """What stands beside the plane, for a question with variant, digit, seed, x, y and whether the map is wanted."""
    try:
        variant, here = question.get("variant"), spot(question.get("digit"), question.get("seed"))
        x, y = (number(question.get(axis), -1.0, 1.0, axis) for axis in "xy")
        picture, *tiles = explored(variant, here, [(x, y)] + (gan.lattice(TILES) if question.get("map") else []))
    except Problem as problem:
        return {"said": refused(problem)}
    shown = marked([picture] + ([films.grid(tiles)] if tiles else []), variant, here.seed, digit=str(here.digit), x=x, y=y)
    said = made_by(variant, digit=name(variant, here.digit), seed=here.seed, x=f"{x:.2f}", y=f"{y:.2f}")
    return dict(zip(("picture", "map"), map(data_uri, shown), strict=False)) | {"alt": f"x {x:.2f}, y {y:.2f}", "said": said}


def name(variant: str, digit) -> str:
    """The digit that a picture is called by: a model that is not told makes whichever it likes."""
    return str(digit) if gan.VARIANTS[variant].conditional else "?"


def ends(digit_a, seed_a, digit_b, seed_b, way):
    """The two spots of a morph in which only what `way` says differs."""
    pick(WAYS, way, "way", "方式")
    return spot(digit_a, seed_a), spot(digit_a if way == "hand" else digit_b, seed_a if way == "digit" else seed_b)


@in_place
def strip(variant, digit_a, seed_a, digit_b, seed_b, way, n):
    """The morph as a row of pictures."""
    a, b = ends(digit_a, seed_a, digit_b, seed_b, way)
    made = morphed(variant, a, b, n)
    return wall(made, stops(len(made))) + made_by(variant, A=f"{name(variant, a.digit)} (seed {a.seed})", B=f"{name(variant, b.digit)} (seed {b.seed})")


@in_place
def mixing(digit_a, seed_a, digit_b, seed_b):
    """All crossovers in a row, from A to B."""
    made = mixed(spot(digit_a, seed_a), spot(digit_b, seed_b))[::-1]
    layers = len(made) - 1
    names = ["A", *(f"{layers - k}A + {k}B" for k in range(1, layers)), "B"]
    return f'<div class="few">{wall(made, names)}</div>' + made_by("style", A=f"{digit_a} (seed {seed_a})", B=f"{digit_b} (seed {seed_b})")


@in_place
def tamed(variant, psi, seed):
    """The ten digits twice, at this truncation."""
    made = truncated(variant, psi, seed)
    return wall(made, [name(variant, digit) for digit in DIGITS] * 2) + made_by(variant, psi=f"{float(psi):.2f}", seed=int(seed))


def everything(variant, digit_a, seed_a, digit_b, seed_b, way, n, psi):
    a_and_b = digit_a, seed_a, digit_b, seed_b
    return strip(variant, *a_and_b, way, n), mixing(*a_and_b), tamed(variant, psi, seed_a)


@told
def keep(which, variant, digit_a, seed_a, digit_b, seed_b, way):
    """The film to look at, and its three files."""
    pick(KEPT, which, "film", "影片")
    if which == "plane":
        here = spot(digit_a, seed_a)
        made = marked(explored(variant, here, gan.circle(2 * FILM)), variant, here.seed, digit=str(here.digit))
    else:
        made = morphed(variant, *ends(digit_a, seed_a, digit_b, seed_b, way), FILM)
    shown, files = film.cut(which, made, films.there_and_back(made) if which == "morph" else made)
    return shown + made_by(variant), files


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    gr.HTML(
        note(
            "A generator turns a list of numbers, called z, into a picture. All possible lists together are the latent space. Walk a little and the digit changes a little: "
            "the model has not learnt a pile of pictures but a landscape of handwriting.",
            "生成器把一串数（叫作 z）变成一张图片。所有可能的数串合在一起就是潜在空间。走一小步，数字就变一点：模型学到的不是一堆图片，而是一片笔迹的风景。",
        )
    )
    with gr.Row():
        variant = gr.Dropdown(choices(), value="dcgan", label=t("Model", "模型"), filterable=False, min_width=220, scale=2)
        digit_a = gr.Dropdown(list(DIGITS), value="3", label=t("Digit of A", "A 的数字"), filterable=False, min_width=120)
        seed_a = gr.Number(1, label=t("Seed of A", "A 的种子"), precision=0, min_width=120)
        digit_b = gr.Dropdown(list(DIGITS), value="8", label=t("Digit of B", "B 的数字"), filterable=False, min_width=120)
        seed_b = gr.Number(2, label=t("Seed of B", "B 的种子"), precision=0, min_width=120)
        others = gr.Button(t("Other seeds", "换种子"), min_width=120)
    spots = [digit_a, seed_a, digit_b, seed_b]
    heading(
        "Drag through a plane", "在平面里拖动",
        "A is in the middle. Left to right and up and down are two directions out of the many that z has. The small pictures are a map of what is where.",
        "A 在正中。左右和上下是 z 众多方向中的两个。底下的小图是一张地图，告诉您哪里有什么。",
    )  # fmt: skip
    square = plane(look, {"variant": "dcgan", "digit": "3", "seed": 1}, elem_id="gan-plane")
    heading(
        "Morph A into B", "从 A 渐变到 B",
        "z walks along the sphere on which such lists lie (slerp) while the wish for one digit fades into the wish for the other.",
        "z 沿着这类数串所在的球面前进（球面插值），同时对一个数字的要求渐渐变成对另一个的要求。",
    )  # fmt: skip
    with gr.Row():
        way = gr.Radio([(t(*said), name) for name, said in WAYS.items()], value="both", label=t("What changes", "变什么"), min_width=260, scale=2)
        frames = gr.Slider(2, 40, 10, step=1, label=t("Pictures", "图片数"), min_width=160)
        morph = gr.Button(t("Morph", "渐变"), min_width=120)
    row_of_morph = gr.HTML(empty("On the way…", "马上就来……"), elem_id="gan-morph")
    heading(
        "Mix styles layer by layer", "逐层混合风格",
        "Only the style-based model has a knob for each of its 4 layers. The coarse layers decide the shape, the fine ones the stroke. "
        "“3A + 1B”: the three coarsest layers follow A, the finest follows B.",
        "只有基于风格的模型在 4 层上各有一个旋钮。粗层决定形状，细层决定笔画。“3A + 1B”：最粗的三层听 A 的，最细的一层听 B 的。",
    )  # fmt: skip
    with gr.Row():
        mix = gr.Button(t("Mix A and B", "混合 A 和 B"), scale=0, min_width=200)
    row_of_mix = gr.HTML(empty("On the way…", "马上就来……"), elem_id="gan-mix")
    heading(
        "Truncation: from ordinary to daring", "截断：从平常到大胆",
        "At 0 both sets of ten are the same: the most ordinary digits the model knows. At 1 it draws freely. Above 1 it exaggerates, and starts to make mistakes.",
        "取 0 时两组数字一样：模型心中最平常的样子。取 1 时自由发挥。超过 1 就开始夸张、出错。",
    )  # fmt: skip
    psi = gr.Slider(0, 1.5, 1, step=0.05, label=t("Truncation ψ", "截断系数 ψ"), elem_id="gan-psi")
    row_of_psi = gr.HTML(empty("On the way…", "马上就来……"), elem_id="gan-truncation")
    which, shoot, saved = film.panel(KEPT, keep, [variant, *spots, way], "gan-film")

    light = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": 16}
    everywhere = {"fn": everything, "inputs": [variant, *spots, way, frames, psi], "outputs": [row_of_morph, row_of_mix, row_of_psi], **light}
    square.ready(**everywhere)
    gr.on([part.change for part in (variant, *spots)], trigger_mode="always_last", **everywhere)
    moved = "(variant, digit, seed, at) => ({...at, variant, digit, seed})"
    gr.on([variant.change, digit_a.change, seed_a.change], None, [variant, digit_a, seed_a, square], square, js=moved, api_visibility="private")
    others.click(None, None, [seed_a, seed_b], js="() => [0, 0].map(() => Math.floor(Math.random() * 10000))", api_visibility="private")
    gr.on([morph.click, way.change, frames.change], strip, [variant, *spots, way, frames], row_of_morph, trigger_mode="always_last", **light)
    mix.click(mixing, spots, row_of_mix, **light)
    psi.change(tamed, [variant, psi, seed_a], row_of_psi, **light)
    gr.api(told(gan_interpolate), api_name="gan_interpolate", concurrency_limit=16)
    gr.api(told(gan_mix), api_name="gan_mix", concurrency_limit=16)
    parts |= {"walk_variant": variant, "walk_digit_a": digit_a, "walk_seed_a": seed_a, "walk_digit_b": digit_b, "walk_seed_b": seed_b, "walk_plane": square}
    parts |= {"walk_way": way, "walk_frames": frames, "walk_morph": morph, "walk_strip": row_of_morph, "walk_mix": mix, "walk_mixed": row_of_mix}
    parts |= {"walk_truncation": psi, "walk_tamed": row_of_psi, "walk_which": which, "walk_film": shoot, "walk_files": saved}
