"""Did it copy? The index of training pictures, what is found in it, and the section that asks."""

import numpy as np
import pytest
import torch
from PIL import Image

from demos.diffusion import copied as page
from demos.diffusion import drawn
from genkit import diffusion, emoji
from genkit.core import Problem
from genkit.diffusion import copied


@pytest.fixture(scope="module")
def index():
    return copied.shipped()


def test_the_index_is_of_all_the_pictures_that_mini_sd_has_learnt_from_and_small(index):
    assert len(index.codes) == diffusion.VARIANTS["mini-sd"].pictures
    assert sum(file.stat().st_size for file in copied.FOLDER.iterdir()) <= 3_000_000
    assert "Microsoft" in (copied.FOLDER / "NOTICE.txt").read_text()
    assert index.recall >= 0.9


def test_the_shipped_sprites_compose_the_very_pictures_that_the_codes_were_made_of(index):
    for number in (0, 1, 17, len(index.codes) - 1):
        code = (copied.thumbs(index.art.example(index.seed, number)[0][None]) - index.mean) @ index.basis
        rest = (index.codes[number] - code[0]).abs()
        assert (rest <= index.codes.abs().amax(dim=0) / 127 + 1).all(), "no farther than rounding to a byte"


def test_a_training_picture_is_found_as_a_true_copy_at_distance_0(index):
    found = diffusion.nearest(index.picture(12_345), 3)
    assert found.exact and found.suspicious and found.indices[0] == 12_345 and found.percentile == 0
    assert list(found.distances) == sorted(found.distances) and len(found.pictures) == 3 and all(map(all, found.captions))


def test_a_copy_with_a_little_noise_is_suspicious_and_a_picture_of_something_else_is_not(index):
    levels = np.asarray(index.picture(99), int)
    noisy = np.clip(levels + np.random.default_rng(0).integers(-3, 4, levels.shape), 0, 255).astype(np.uint8)
    found = diffusion.nearest(Image.fromarray(noisy), 1)
    assert found.indices == (99,) and not found.exact and found.suspicious and 1 < found.distances[0] < 3
    other = diffusion.nearest(Image.fromarray(np.random.default_rng(0).choice(np.uint8([0, 255]), levels.shape)), 1)
    assert not other.suspicious and other.percentile == 100


def test_what_is_shown_is_measured(index):
    given = Image.new("RGB", (64, 64), emoji.BACKGROUNDS["blue"])
    found = diffusion.nearest(given, 2)
    for distance, number, picture in zip(found.distances, found.indices, found.pictures, strict=True):
        assert np.array_equal(np.asarray(picture), index.art.example(index.seed, number)[0])
        assert distance == pytest.approx(np.sqrt(np.square(np.asarray(picture, float) - np.asarray(given, float)).mean()), rel=1e-4)


def test_real_pictures_of_the_yardstick_were_never_trained_on(index):
    for kind in (False, True):
        made = copied.unseen(index.art, index.seed, 3, held_out=kind)
        assert made.shape == (3, 64, 64, 3) and all(copied.nearest(Image.fromarray(each), 1).distances[0] > 0 for each in made)
    assert len(index.new) == len(index.held_out) == copied.UNSEEN and min(index.new) > 0 and np.median(index.held_out) > np.median(index.new)


def test_an_index_made_anew_finds_what_looking_at_every_picture_finds(index):
    tensors, about = copied.make(index.art, 300, seed=5, n=8)
    fresh = copied.Index({name: part for name, part in tensors.items() if not name.startswith("sprite")}, about, index.art)
    asked = copied.unseen(index.art, 5, 1, held_out=False)[0]
    everyone = min(copied.apart(asked, index.art.example(5, number)[0]) for number in range(300))
    assert fresh.search(asked, 1)[0][0] == pytest.approx(everyone) and min(fresh.new) <= everyone + 0.1 and about["recall"] > 0.95
    assert tensors["codes"].dtype == torch.int8


# --- the page


def kept(model, prompt):
    trace = diffusion.Trace()
    list(diffusion.sample(diffusion.load(model), prompt, num_inference_steps=2, seed=1, kept=trace))
    return drawn.put(model, trace)


def test_a_drawing_is_compared_and_the_sentence_says_how_near_it_is():
    html = page.check.__wrapped__(kept("mini-sd", "a cat on a blue background"), 1)
    assert "new real pictures" in html and "Nearest: number" in html and "新的真实图片" in html and html.count("<img") == 1 + page.NEAREST


def test_a_digit_is_compared_with_the_digits_that_are_here():
    assert "Looked through" in (html := page.check.__wrapped__(kept("digits", "37"), 2)) or "training digits are on this machine" in html


def test_a_true_copy_is_shown_as_one():
    assert "a true copy, at distance 0" in page.copy.__wrapped__(3)


def test_nothing_drawn_and_pretrained_models_are_told():
    with pytest.raises(Problem, match="nothing is drawn yet"):
        page.check.__wrapped__("", 1)
    with pytest.raises(Problem, match="pictures that sd-1.5 has learnt from"):
        trace = diffusion.Trace()
        trace.pictures = [Image.new("RGB", (64, 64))]
        page.check.__wrapped__(drawn.put("sd-1.5", trace), 1)
