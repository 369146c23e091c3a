"""Spoiling a digit and cleaning it: what each kind of noise does, and what is measured."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from genkit import core, images, vae
from genkit.core import Problem
from genkit.digits import digits, to_float
from genkit.vae.model import VAE
from genkit.vae.noise import KINDS, corrupt


@pytest.fixture(autouse=True)
def hermetic(monkeypatch):
    monkeypatch.delenv("GENKIT_DATA_DIR", raising=False)


def tiny(**options):
    return core.build(lambda: VAE("mlp", 6, 16, **options), 0).eval()


def digit(i=500):
    return Image.fromarray(digits("test")[0][i].numpy())


def spoilt(kind, strength, n=20):
    x = to_float(digits("test")[0][:n])
    return x, KINDS[kind](x, torch.full((n, 1, 1, 1), strength), core.seeded(1))


@pytest.mark.parametrize("kind", KINDS)
def test_no_strength_changes_nothing_and_more_strength_changes_more(kind):
    x, none = spoilt(kind, 0.0)
    assert torch.allclose(x, none, atol=1e-5)
    away = [(spoilt(kind, strength)[1] - x).square().mean().item() for strength in (0.1, 0.3, 0.6, 1.0)]
    assert away == sorted(away) and away[0] > 1e-5
    assert all(made.shape == x.shape and made.abs().max() <= 1 + 1e-5 for made in (spoilt(kind, 1.0)[1],))


def test_salt_and_pepper_hit_the_share_of_pixels_they_should():
    x, made = spoilt("salt-and-pepper", 0.4)
    assert (made != x).float().mean().item() == pytest.approx(0.4 * (0.5 + 0.5 * (x > -1).float().mean().item()), abs=0.05)


def test_a_blot_is_a_square_of_paper_and_the_rest_stays():
    white = torch.ones(6, 1, 28, 28)
    made = KINDS["blot"](white, torch.full((6, 1, 1, 1), 0.5), core.seeded(0))
    for picture in made:
        rows, columns = (picture[0] < 0).any(dim=1), (picture[0] < 0).any(dim=0)
        assert rows.sum() in (10, 11) and columns.sum() in (9, 10, 11) and (picture < 0).sum() == rows.sum() * columns.sum()


def test_blur_keeps_the_ink_in_sum():
    x, made = spoilt("blur", 0.5)
    assert (made + 1).sum().item() == pytest.approx((x + 1).sum().item(), rel=0.02)


def test_a_batch_is_spoilt_in_all_four_ways_and_the_same_way_for_the_same_seed():
    x = to_float(digits("test")[0][:40])
    one, two = (corrupt(x, core.seeded(3)) for _ in range(2))
    assert torch.equal(one, two) and one.shape == x.shape
    assert all(not torch.equal(a, b) for a, b in zip(one.tensor_split(4), x.tensor_split(4), strict=True))
    assert corrupt(x[:2], core.seeded(3)).shape == (2, 1, 28, 28)


def test_every_answer_is_measured_in_decibels_against_the_clean_digit():
    made = vae.denoise({"denoise": tiny(), "ae": tiny(variational=False)}, digit(), "gaussian", 0.5, 7)
    assert set(made.answers) == {"denoise", "ae", "median"} and set(made.psnr) == {"noisy", "denoise", "ae", "median"}
    for name, picture in {"noisy": made.noisy, **made.answers}.items():
        mse = np.square(np.asarray(made.clean, dtype=float) - np.asarray(picture, dtype=float)).mean()
        assert picture.size == (28, 28) and made.psnr[name] == pytest.approx(10 * math.log10(255**2 / mse), abs=0.01)
    again = vae.denoise({}, digit(), "gaussian", 0.5, 7)
    assert again.noisy.tobytes() == made.noisy.tobytes() != vae.denoise({}, digit(), "gaussian", 0.5, 8).noisy.tobytes()


def test_the_median_filter_takes_single_dots_away():
    made = vae.denoise({}, digit(), "salt-and-pepper", 0.1, 0)
    assert made.psnr["median"] > made.psnr["noisy"] + 2


def test_an_unknown_kind_is_refused_and_strength_is_moved_into_its_range():
    with pytest.raises(Problem, match="unknown kind of noise 'rain'; choose one of: gaussian, salt-and-pepper, blot, blur"):
        vae.denoise({}, digit(), "rain", 0.5, 0)
    assert vae.denoise({}, digit(), "blur", -3, 0).psnr["noisy"] == pytest.approx(100)
    with pytest.raises(Problem, match="strength must be a number"):
        vae.denoise({}, digit(), "blur", "much", 0)


def test_the_denoising_variant_learns_to_draw_what_it_did_not_see():
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, x):
            seen.append(x.detach().clone())
            return x

    event = next(run := vae.train("denoise", steps=1, every=1, batch_size=8, channels=4))
    event.model.encoder.insert(0, Spy())
    next(run)
    levels = images.to_pil(seen[0][:2])
    assert len(seen[0]) == 8 and levels[0].size == (28, 28)
    assert (seen[0][:2] == -1).float().mean() < 0.7  # a clean digit is four fifths paper
