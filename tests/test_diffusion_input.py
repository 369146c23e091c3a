"""Pictures and prompts as visitors bring them, for the endpoints of the text-to-image tab that begin with a picture: their functions, called as Gradio does."""

import random

import numpy as np
import pytest
from PIL import Image

from demos.diffusion import edit, heat, outside, steps
from genkit import labels
from genkit.core import Problem

ENDPOINTS = {  # how each is asked, with as little work as it allows
    "edit": lambda picture, prompt: edit.diffusion_edit(picture, prompt, 0.5, "", 2, 1.0),
    "inpaint": lambda picture, prompt: edit.diffusion_inpaint(picture, picture, prompt, 1.0, "", 1, 1.0),
    "outpaint": lambda picture, prompt: outside.diffusion_outpaint(picture, prompt, "wider", ["right"], 0.25, "", 1, 1.0),
}
KINDS = ("palette.png", "cmyk.jpg", "turned.jpg", "film.gif", "dot.png", "deep.png", "clear.png", "la.png", "bits.png")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Files of every kind that a visitor may bring, as Gradio hands them over, white in the middle so that each is a mask as well."""
    folder = tmp_path_factory.mktemp("pictures")
    plain = Image.new("RGB", (90, 60), "navy")
    plain.paste("white", (20, 10, 70, 50))
    turned = Image.Exif()
    turned[274] = 6
    plain.convert("P").save(folder / "palette.png")
    plain.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    plain.save(folder / "turned.jpg", exif=turned)
    plain.convert("P").save(folder / "film.gif", save_all=True, append_images=[Image.new("P", (90, 60), 7)], duration=100)
    Image.new("RGB", (1, 1), "white").save(folder / "dot.png")
    Image.fromarray(np.asarray(plain.convert("L")).astype(np.uint16) * 257).save(folder / "deep.png")
    clear = plain.convert("RGBA")
    clear.paste((0, 0, 0, 0), (0, 0, 15, 60))
    clear.save(folder / "clear.png")
    plain.convert("LA").save(folder / "la.png")
    plain.convert("1").save(folder / "bits.png")
    return {file.name: {"path": str(file)} for file in folder.iterdir()}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Where the made files go."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_kind_of_picture_is_taken(pictures, endpoint, kind):
    (made,) = ENDPOINTS[endpoint](pictures[kind], "a cat")
    assert Image.open(made["path"]).height == 64 and labels.read(made["path"])["prompt"] == "a cat"


def test_sixteen_bits_a_level_are_read_as_they_look(tmp_path):
    Image.fromarray(np.full((64, 64), 100 * 257, np.uint16)).save(tmp_path / "grey.png")
    (made,) = ENDPOINTS["outpaint"]({"path": str(tmp_path / "grey.png")}, "a cat")
    assert Image.open(made["path"]).getpixel((5, 30)) == (100, 100, 100)


def test_what_is_no_picture_is_told(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    Image.new("1", (8_000, 8_000)).save(tmp_path / "vast.png")
    for ask in ENDPOINTS.values():
        for name, sentence in (("text.png", "not a picture"), ("vast.png", "at most 40 megapixels")):
            with pytest.raises(Problem, match=sentence):
                ask({"path": str(tmp_path / name)}, "a cat")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_what_the_text_encoder_cannot_read_stands_in_the_mark(pictures, endpoint):
    prompt = " ".join(["a cat"] * 100)
    (made,) = ENDPOINTS[endpoint](pictures["palette.png"], prompt)
    said = labels.read(made["path"])
    assert f"{said['prompt']} {said['settings']['cut']}" == prompt and len(said["prompt"]) < 150


@pytest.mark.parametrize(
    "ask", [lambda prompt: steps.diffusion_steps(prompt, "", 2, 1.0), lambda prompt: heat.diffusion_heatmap(prompt, "", 2, 1.0)], ids=["steps", "heatmap"]
)
def test_the_endpoints_that_look_inside_say_what_was_cut(ask):
    assert ask(" ".join(["a cat"] * 100))["cut"].endswith("a cat a cat") and ask("a cat")["cut"] == ""


def test_the_film_says_what_was_cut_from_either_prompt():
    *_, (html, files) = edit.between.__wrapped__("a cat", " ".join(["a dog"] * 100), 2, "mini-sd", 2, 1.0, 3)
    assert html.count("cut off: “") == 1 and "a dog a dog" in html and files


STRANGE = (
    "<img src=x onerror=alert(1)>",
    "🐱 on white",
    "عربى على أبيض",
    "a\u0000b\u0007 \ud800",
    "".join(map(chr, random.Random(0).sample(range(32, 5000), 300))),
)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_strange_prompts_are_drawn_and_empty_or_endless_ones_told(pictures, endpoint):
    for prompt in STRANGE:
        assert ENDPOINTS[endpoint](pictures["palette.png"], prompt)
    for prompt, sentence in (("", "prompt is empty"), (" \t\n", "prompt is empty"), ("x" * 100_000, "100000 characters"), (None, "characters")):
        with pytest.raises(Problem, match=sentence):
            ENDPOINTS[endpoint](pictures["palette.png"], prompt)


@pytest.mark.parametrize(
    "way, sides, sentence", [("evil", ["right"], "unknown way"), ("wider", ["<b>"], "unknown side"), ("moved", ["top", "bottom"], "both ways")]
)
def test_where_to_draw_on_is_checked(pictures, way, sides, sentence):
    with pytest.raises(Problem, match=sentence):
        outside.diffusion_outpaint(pictures["palette.png"], "a cat", way, sides)
