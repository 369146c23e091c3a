"""Outpainting: what lies beyond the edge of a picture."""

import numpy as np
import pytest
from PIL import Image

from genkit import diffusion
from genkit.core import Problem
from genkit.diffusion import outside


@pytest.fixture(scope="module")
def pipe():
    return diffusion.load("mini-sd")


def levels(picture):
    return np.asarray(picture.convert("RGB"), int)


def halves():
    """Blue on the left, red on the right."""
    picture = Image.new("RGB", (64, 64), "blue")
    picture.paste("red", (32, 0, 64, 64))
    return picture


@pytest.mark.parametrize(
    "sides, part, canvas, place",
    [
        (["right"], 0.5, (96, 64), (0, 0)),
        (["left"], 1, (128, 64), (64, 0)),
        (["top", "left"], 0.25, (80, 80), (16, 16)),
        (["left", "right"], 1, (128, 64), (32, 0)),
        ("bottom", 0.3, (64, 96), (0, 0)),
    ],
)
def test_a_canvas_grows_on_the_sides_that_are_chosen_by_whole_grains_to_twice_at_most(sides, part, canvas, place):
    full, mask = outside.framed(halves(), "wider", sides, part, 16)
    assert full.size == mask.size == canvas
    assert (levels(full)[place[1] : place[1] + 64, place[0] : place[0] + 64] == levels(halves())).all()


def test_within_the_frame_a_picture_moves_away_from_the_sides_or_shrinks_away_from_them():
    moved, mask = outside.framed(halves(), "moved", ["left"], 0.5)
    assert moved.size == mask.size == (64, 64) and mask.getpixel((10, 30)) == 255 and mask.getpixel((60, 30)) == 0
    assert (levels(moved) == (0, 0, 255)).all(), "the red half has left the frame, what is laid bare continues the edge"
    small, mask = outside.framed(halves(), "smaller", [], 0.5)
    assert mask.point(lambda level: 255 - level).getbbox() == (18, 18, 46, 46) and small.getpixel((18, 32)) == (0, 0, 255)
    corner, mask = outside.framed(halves(), "smaller", ["right", "bottom"], 0.5)
    assert mask.point(lambda level: 255 - level).getbbox() == (0, 0, 30, 30)


@pytest.mark.parametrize(
    "way, sides, part, sentence",
    [
        ("sideways", ["left"], 0.5, "unknown way 'sideways'"),
        ("wider", ["north"], 0.5, "unknown side 'north'"),
        ("wider", [["left"]], 0.5, "unknown side"),
        ("wider", [], 0.5, "at least one side"),
        ("wider", {"left": 1}, 0.5, "at least one side"),
        ("moved", ["left", "right"], 0.5, "both ways"),
        ("wider", ["left"], "far", "part must be a number"),
    ],
)
def test_where_to_is_checked(way, sides, part, sentence):
    with pytest.raises(Problem, match=sentence):
        outside.framed(halves(), way, sides, part)


def test_the_picture_stays_and_the_model_draws_around_it_on_a_canvas_it_was_not_trained_on(pipe):
    given = Image.new("RGB", (64, 64), (248, 224, 110))
    steps = list(diffusion.extend(pipe, "a cat and a heart on a yellow background", given, sides=["right"], part=0.5, num_inference_steps=6, seed=1))
    made, before = levels(steps[-1].image), steps[0]
    assert steps[-1].image.size == before.image.size == (96, 64)
    assert np.abs(made[:, :56] - (248, 224, 110)).max() <= 2 < 20 < np.abs(made[:, 64:] - (248, 224, 110)).mean(0).max()


def test_an_empty_prompt_and_a_model_that_cannot_edit_are_told(pipe):
    with pytest.raises(Problem, match="the prompt is empty"):
        next(diffusion.extend(pipe, " ", halves()))
    with pytest.raises(Problem, match="cannot edit"):
        next(diffusion.extend(diffusion.load("digits"), "3", halves()))
