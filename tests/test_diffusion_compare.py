"""Settings beside each other, paths through latent space, and the other direction: pictures drowned in noise."""

import numpy as np
import pytest
import torch
from PIL import Image

from genkit import diffusion
from genkit.core import Problem
from genkit.diffusion import forward

from .conftest import finished


@pytest.fixture(scope="module")
def pipe():
    return diffusion.load("mini-sd")


@pytest.fixture(scope="module")
def house(pipe):
    *_, last = diffusion.sample(pipe, "a house on a purple background", seed=7, num_inference_steps=8)
    return last.image


# --- paths


def kept(pipe, prompt, steps=4):
    trace = diffusion.Trace()
    list(diffusion.sample(pipe, prompt, seed=7, num_inference_steps=steps, kept=trace))
    return trace


def test_two_prompts_begin_at_the_same_place_and_end_apart(pipe):
    plane = diffusion.project([kept(pipe, "a cat"), kept(pipe, "a red apple on a black background")])
    one, other = plane.paths
    assert len(one) == len(other) == len(plane.apart) == 5
    np.testing.assert_allclose(one[0], other[0], atol=1e-3)
    assert plane.apart[0] < 1e-3 < plane.apart[1] < plane.apart[-1]
    assert 0.5 < plane.shown[0] + plane.shown[1] <= 1.001 and plane.shown[0] >= plane.shown[1]


def test_paths_of_different_lengths_are_refused(pipe):
    with pytest.raises(Problem, match="equally many steps"):
        diffusion.project([kept(pipe, "a cat", 2), kept(pipe, "a cat", 3)])


# --- the forward process


@pytest.mark.parametrize("schedule", forward.SCHEDULES)
def test_a_schedule_begins_with_the_picture_and_ends_with_noise(schedule):
    left = diffusion.left(schedule)
    assert len(left) == 1000 and left[0] > 0.99 and left[-1] < 0.01
    assert all(a > b for a, b in zip(left, left[1:], strict=False))


def test_schedules_are_those_of_their_papers():
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    cosine = torch.cos((t + 0.008) / 1.008 * torch.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2  # Nichol & Dhariwal 2021, eq. 17
    np.testing.assert_allclose(diffusion.left("cosine")[:900], cosine[:900], atol=2e-3)
    linear = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)  # Ho et al. 2020, section 4
    np.testing.assert_allclose(diffusion.left("linear"), linear, atol=1e-5)


def test_the_guess_gets_worse_with_the_noise(pipe, house):
    guesses = [diffusion.drown(pipe, house, t, prompt="a house on a purple background") for t in (50, 500, 950)]
    assert guesses[0].psnr > guesses[1].psnr + 2 > guesses[2].psnr + 4
    assert [found.told for found in guesses] == [50, 500, 950] and guesses[0].given.size == guesses[0].x_t.size == (64, 64)


def test_on_another_schedule_the_model_is_told_the_t_with_as_much_noise(pipe, house):
    found = diffusion.drown(pipe, house, 500, "linear")
    assert abs(pipe.scheduler.alphas_cumprod[found.told] - diffusion.left("linear")[500]) < 2e-3 and found.told > 700


@pytest.mark.parametrize("mode, size", [("P", (300, 200)), ("CMYK", (64, 80)), ("LA", (10, 10)), ("I;16", (50, 50)), ("RGBA", (1, 10_000)), ("1", (10_000, 1))])
def test_any_picture_becomes_a_small_square(mode, size):
    picture = Image.new("RGB", size, "red").convert("L" if mode == "I;16" else mode) if mode != "I;16" else Image.new("I;16", size, 30000)
    assert diffusion.square(picture, 64).size == (64, 64) and diffusion.square(picture, 64).mode == "RGB"


def test_a_transparent_palette_becomes_white():
    picture = Image.new("P", (8, 8), 0)
    picture.putpalette([255, 0, 0] + [0] * 765)
    picture.info["transparency"] = 0
    assert diffusion.square(picture, 8).getpixel((4, 4)) == (255, 255, 255)


def test_models_without_stable_diffusions_parts_are_refused(house):
    with pytest.raises(Problem, match="mini-sd and with Stable Diffusion only"):
        diffusion.drown(diffusion.load("digits"), house, 3)


# --- the tab


def test_the_place_on_the_curve_is_told_in_words(house):
    from demos.diffusion import forward as section

    said = finished(section.drown(section.sheet_of(house), 500, "linear", ""))
    assert "At t = 500 there is 8 % picture" in said and "taught with the cosine schedule" in said and said.count("<img") == 3
    assert "choose one of" in finished(section.drown(section.sheet_of(house), 500, "sigmoid", ""))
    assert "could not be read" in finished(section.drown("data:image/png;base64,AAAA", 500, "linear", ""))
    assert "Bring a picture" in finished(section.drown("", 500, "linear", ""))


def test_a_grid_fills_cell_by_cell_and_stops_when_it_is_not_wanted(monkeypatch):
    from demos.diffusion import compare
    from demos.pen import Pen

    monkeypatch.setattr(compare, "STEPS", (1, 2))
    pen, shown = Pen(), []
    for html in compare.grid(pen, 5, "scheduler", "a cat <b>", "mini-sd", "", 3):
        shown.append(html.count("<img"))
        if len(shown) == 3:
            pen.stop(9)
    assert shown == [1, 2, 3] and "<b>" not in html.replace("<b></b>", "")
