"""Walk between two drawings, calculate with digits, and see your own hand write other digits."""

import functools

import gradio as gr

from demos import film, pad
from demos.endpoints import file, opened
from demos.i18n import both, t, told
from demos.pieces import empty, heading, in_place, made_by, note, plate, stops, wall
from demos.vae.make import asked_digit, choices, digit_on, next_digit, test_digits
from genkit import films, labels, models, vae
from genkit.core import number, pick

TITLE = ("Walk and calculate with drawings", "在画之间漫步，用画做加减")
LESSON = (
    "Two drawings are two lists of numbers, and between two lists one can walk: a little less of A, a little more of B. If the model has understood handwriting, every stop on the way is handwriting too.",
    "两幅画就是两串数，而两串数之间可以行走：A 少一点，B 多一点。如果模型真懂笔迹，路上的每一站也都是笔迹。",
)
DIGITS = tuple("0123456789")
FILM = 24  # pictures of a film before it goes back
KEPT = {"walk": ("the walk from A to B", "从 A 到 B 的漫步"), "hand": ("the hand of A writing 0 to 9", "A 的笔迹写 0 到 9")}
HANDS = "conditional"  # the variant that is told the digit


# --- what is asked, checked


def model_of(variant: str):
    pick(vae.VARIANTS, variant, "VAE variant", "VAE 变体")
    return models.use("vae", variant)


def marked(pictures, variant: str, **settings) -> list:
    return [labels.mark(picture, model=f"vae/{variant}", index=index, **settings) for index, picture in enumerate(pictures)]


def between(a, b, variant: str, n) -> list:
    """n marked pictures from digit a to digit b, both 28 x 28. n is clamped to 2-64."""
    n = number(n, 2, 64, "n", whole=True)
    with models.guarded():
        return marked(vae.interpolate(model_of(variant), a, b, n), variant)


def written(picture, of) -> list:
    """The ten digits in the hand of a picture, marked. of: which digit it is, None lets the classifier read it."""
    with models.guarded():
        return marked(vae.in_hand(model_of(HANDS), picture, of), HANDS)


@functools.cache
def example(digit: str):
    """A test digit of this kind."""
    return list(test_digits().values())[int(pick(DIGITS, str(digit), "digit", "数字"))]


# --- endpoint


def vae_interpolate(image_a: dict, image_b: dict, variant: str = "conv", n: int = 9) -> list[dict]:
    """Walk from one picture of a digit (an uploaded file) to another in the latent space: n (2 to 64) PNG files, 28 x 28; the first and the last are the two redrawn."""
    return [file(picture) for picture in between(vae.digit_from(opened(image_a)), vae.digit_from(opened(image_b)), variant, n)]


# --- what the page shows


@in_place
def strip(sheet_a, sheet_b, variant, n) -> str:
    """The walk as a row of pictures."""
    made = between(digit_on(sheet_a), digit_on(sheet_b), variant, n)
    return wall(made, stops(len(made))) + made_by(variant)


@in_place
def sums(sheet_a, variant, minus, plus) -> str:
    """A minus one digit plus another, all four redrawn from their codes."""
    picture, less, more = digit_on(sheet_a), example(minus), example(plus)
    with models.guarded():
        made = marked(vae.arithmetic(model_of(variant), picture, less, more), variant)
    names = (("your A", "您的 A"), (f"a {minus}", f"一个 {minus}"), (f"a {plus}", f"一个 {plus}"), ("the result", "结果"))
    each = [plate(shown, both(*name)) for shown, name in zip(made, names, strict=True)]
    said = f"A − {minus} + {plus}"
    return f'<div class="equation" role="group" aria-label="{said}">{each[0]}<b>−</b>{each[1]}<b>+</b>{each[2]}<b>=</b>{each[3]}</div>{made_by(variant)}'


@in_place
def hand(sheet_a, of) -> str:
    """Ten digits in the visitor's hand."""
    return wall(written(digit_on(sheet_a), asked_digit(of)), list(DIGITS)) + made_by(HANDS)


def everything(sheet_a, sheet_b, variant, n, minus, plus, of):
    return strip(sheet_a, sheet_b, variant, n), sums(sheet_a, variant, minus, plus), hand(sheet_a, of)


def opening(sheet_a, sheet_b, mine, *settings):
    """A is the drawing of the tab's top, B a test digit, until the visitor draws others here."""
    sheets = list(test_digits())
    sheet_a, sheet_b = sheet_a or mine or sheets[3], sheet_b or sheets[8]
    return sheet_a, sheet_b, *everything(sheet_a, sheet_b, *settings)


@told
def keep(which, sheet_a, sheet_b, variant, of):
    """The film to look at, and its three files."""
    pick(KEPT, which, "film", "影片")
    a = digit_on(sheet_a)
    made = between(a, digit_on(sheet_b), variant, FILM) if which == "walk" else written(a, asked_digit(of))
    walking = which == "walk"
    shown, files = film.cut(which, made, films.there_and_back(made), fps=films.FPS if walking else 3, columns=8 if walking else 5)
    return shown + made_by(variant if walking else HANDS), files


def canvas(letter: str) -> tuple:
    """A pad with its name and a button that brings a test digit: (pad, button)."""
    gr.HTML(f"<h4>{letter}</h4>", elem_classes="letter")
    sheet = pad.pad(elem_id=f"vae-walk-{letter.lower()}")
    return sheet, gr.Button(t(f"Another test digit as {letter}", f"换一个测试数字作 {letter}"), size="sm", min_width=120)


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    gr.HTML(note(*LESSON))
    with gr.Row():
        with gr.Column(min_width=200):
            a, pick_a = canvas("A")
            mine = gr.Button(t("Take my drawing from the top", "用上面我画的"), size="sm", min_width=120)
        with gr.Column(min_width=200):
            b, pick_b = canvas("B")
        with gr.Column(min_width=220):
            variant = gr.Dropdown(choices(), value="conv", label=t("Model", "模型"), filterable=False)
            frames = gr.Slider(2, 40, 10, step=1, label=t("Pictures", "图片数"))
    heading("From A to B", "从 A 走到 B", "All numbers move in a straight line at once.", "所有的数同时沿直线移动。")
    with gr.Row():
        walk = gr.Button(t("Walk", "出发"), scale=0, min_width=200)
    row_of_walk = gr.HTML(empty("On the way…", "马上就来……"), elem_id="vae-strip")
    heading(
        "Calculate with digits", "用数字图做加减",
        "Take the numbers of your A, subtract those of one digit, add those of another. Sometimes the style survives, sometimes nonsense comes out: an honest experiment.",
        "取您的 A 的那些数，减去一个数字的，再加上另一个的。有时笔迹风格会保留，有时得出四不像：这是诚实的实验。",
    )  # fmt: skip
    with gr.Row():
        minus = gr.Dropdown(list(DIGITS), value="3", label=t("minus a", "减去"), filterable=False, min_width=110)
        plus = gr.Dropdown(list(DIGITS), value="8", label=t("plus a", "加上"), filterable=False, min_width=110)
    equation = gr.HTML(elem_id="vae-sums")
    heading(
        "Your handwriting, as another digit", "用您的笔迹写别的数字",
        "The conditional VAE is told which digit it sees, so its code need not say it: what is left is the hand. Keep the hand, ask for another digit.",
        "条件式 VAE 事先知道看到的是哪个数字，编码就不必再说这个：剩下的就是笔迹。保留笔迹，换一个数字。",
    )  # fmt: skip
    of = gr.Dropdown(
        [(t("let the classifier read it", "让分类器来认"), ""), *((digit, digit) for digit in DIGITS)], value="", label=t("A is a", "A 是"), filterable=False
    )
    hands = gr.HTML(elem_id="vae-hand")
    which, shoot, _ = film.panel(KEPT, keep, [a, b, variant, of], "vae-film")

    light = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": 16}
    settings, shown = [variant, frames, minus, plus, of], [row_of_walk, equation, hands]
    everywhere = {"fn": everything, "inputs": [a, b, *settings], "outputs": shown, **light}
    parts["walk"].expand(opening, [a, b, parts["pad"], *settings], [a, b, *shown], **light)
    gr.on([a.input, b.input, variant.change], trigger_mode="always_last", **everywhere)
    for button, sheet in ((pick_a, a), (pick_b, b)):
        button.click(next_digit, sheet, sheet, **light).success(**everywhere)
    mine.click(None, parts["pad"], a, js="(sheet) => sheet", queue=False, api_visibility="private").then(**everywhere)
    gr.on([walk.click, frames.change], strip, [a, b, variant, frames], row_of_walk, trigger_mode="always_last", **light)
    gr.on([minus.change, plus.change], sums, [a, variant, minus, plus], equation, trigger_mode="always_last", **light)
    of.change(hand, [a, of], hands, **light)
    gr.api(told(vae_interpolate), api_name="vae_interpolate", concurrency_limit=16)
    parts |= {"walk_a": a, "walk_b": b, "walk_variant": variant, "walk_button": walk, "walk_strip": row_of_walk, "walk_frames": frames}
    parts |= {"walk_minus": minus, "walk_plus": plus, "walk_sums": equation, "walk_of": of, "walk_hand": hands, "walk_film": shoot}
