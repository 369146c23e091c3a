"""Did it copy, and which of two models is better: distances, percentiles, times; the page's handlers and the endpoint."""

import gradio as gr
import pytest
import torch
from PIL import Image

from demos.gan import compare, copies
from genkit import core, gan, labels
from genkit.digits import digits
from genkit.gan import copies as search
from genkit.gan.compare import Measured, race
from genkit.gan.copies import Nearest
from genkit.gan.model import GAN


@pytest.fixture(autouse=True)
def hermetic(monkeypatch, tmp_path):
    monkeypatch.delenv("GENKIT_DATA_DIR", raising=False)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))


def tiny(channels=4):
    return core.build(lambda: GAN("dcgan", 8, channels), 0).eval()


@pytest.fixture
def test_digits():
    """A test digit of each kind."""
    return [Image.fromarray(picture.numpy()) for picture in digits("test")[0][::100]]


def pixels(picture):
    return torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)


def by_hand(asked, members):
    return ((asked[:, None].double() - members[None].double()) / 255).square().sum(dim=2).sqrt()


@pytest.mark.parametrize("part", [7, 64, 5000])
def test_the_nearest_are_those_of_brute_force_however_the_members_are_parted(monkeypatch, part):
    monkeypatch.setattr(search, "PART", part)
    asked, members = digits("test")[0][::50].flatten(1), digits("train")[0][::13].flatten(1)
    distances, indices = search.search(asked, members, 5)
    expected = by_hand(asked, members).topk(5, largest=False)
    assert torch.allclose(distances.double(), expected.values, atol=1e-5) and torch.equal(indices, expected.indices)


def test_there_may_be_fewer_members_than_are_asked_for():
    members = digits("train")[0][:3].flatten(1)
    distances, indices = search.search(members[:1], members, 5)
    assert distances.shape == (1, 3) and distances[0, 0] == 0 and sorted(indices[0].tolist()) == [0, 1, 2]


def test_the_distance_is_that_of_the_pixels_between_0_and_1():
    black, white = torch.zeros(1, 784, dtype=torch.uint8), torch.full((1, 784), 255, dtype=torch.uint8)
    assert search.search(black, white, 1)[0].item() == pytest.approx(28)  # sqrt(784)


@pytest.mark.parametrize("digit", [0, 1, 7])
def test_a_training_digit_has_distance_0_and_is_flagged(digit):
    (found,) = gan.nearest([gan.training_digit(digit, seed=5)])
    assert found.distances[0] == 0 and found.labels[0] == digit and found.exact and found.suspicious and found.percentile == 0


def test_a_training_digit_with_a_little_noise_is_still_flagged():
    picture = pixels(gan.training_digit(8)).int()
    noisy = (picture + torch.randint(-9, 10, picture.shape, generator=core.seeded(0))).clamp(0, 255).byte()
    (found,) = gan.nearest([Image.fromarray(noisy.view(28, 28).numpy())])
    assert not found.exact and found.suspicious


def test_real_digits_that_nobody_has_seen_are_not_flagged(test_digits):
    found = gan.nearest(test_digits)
    assert sum(each.suspicious for each in found) <= 1 and all(each.distances[0] > 0 for each in found)
    assert {(each.searched, each.compared) for each in found} == {(4000, 100)}


def test_distances_rise_and_belong_to_the_pictures_that_are_shown(test_digits):
    (found,) = gan.nearest(test_digits[3:4], n=4)
    assert len(found.distances) == len(found.pictures) == 4 and list(found.distances) == sorted(found.distances)
    shown = torch.stack([pixels(picture) for picture in found.pictures])
    assert found.distances == pytest.approx(by_hand(pixels(test_digits[3])[None], shown)[0].tolist(), abs=1e-5)


def test_the_percentile_counts_real_digits_of_the_same_kind(monkeypatch, test_digits):
    monkeypatch.setattr(search, "yardstick", lambda digit: (0.0, 1e9) if digit == 1 else (0.0, 0.0, 0.0, 1e9))
    one, two = gan.nearest(test_digits[1:3])
    assert (one.labels[0], one.percentile) == (1, 50) and two.percentile == 75


def test_the_yardstick_is_measured_from_test_digits_to_training_digits(monkeypatch):
    monkeypatch.setattr(search, "UNSEEN", 3)
    search._yardstick.cache_clear()
    x, y = digits("test")
    expected = by_hand(x[y == 4][:3].flatten(1), digits("train")[0].flatten(1)).amin(dim=1).sort().values
    assert search.yardstick(4) == pytest.approx(expected.tolist(), abs=1e-5)
    search._yardstick.cache_clear()


# --- two models


def test_the_larger_generator_takes_longer_whoever_begins():
    small, large = tiny(4), tiny(96)
    fast, slow = race([small, large], runs=5)
    slow_too, fast_too = race([large, small], runs=5)
    assert 0 < fast < slow and 0 < fast_too < slow_too


def test_a_model_is_measured_in_size_time_and_distance_beside_the_floor():
    (one, other), floor = gan.measure([tiny(4), tiny(8)])
    assert one.parameters == sum(p.numel() for p in tiny(4).generator.parameters()) < other.parameters
    assert one.milliseconds > 0 and one.frechet > 10 * floor > 0  # untrained: noise is far from digits


def test_the_classifier_reads_real_digits(test_digits):
    assert sum(read == digit for digit, read in enumerate(gan.recognised(test_digits))) >= 9


def test_unconditional_and_conditional_get_the_same_noise(monkeypatch):
    asked = []
    monkeypatch.setattr(compare, "pictures", lambda variant, digits, n, seed: asked.append((digits, n, seed)) or [Image.new("L", (28, 28))] * n)
    compare.unconditional(11)
    assert asked == [("0123456789", 10, 11)] * 2
    assert gan.VARIANTS["unconditional"].latent_dim == gan.VARIANTS["dcgan"].latent_dim == gan.VARIANTS["student"].latent_dim


def test_the_comparison_counts_the_digits_asked_for(monkeypatch, test_digits):
    ones = [test_digits[1]] * 10
    monkeypatch.setattr(compare, "pictures", lambda variant, digits, n, seed: ones if variant == "unconditional" else test_digits)
    right = sum(read == digit for digit, read in enumerate(gan.recognised(test_digits)))
    shown = compare.unconditional(0)
    assert "hit the digit asked for 1 times in 10" in shown and f"Told, {right} times in 10" in shown
    assert shown.count("✗</a>") == 9 + 10 - right and "<img" in shown


def test_the_table_states_the_ratios_in_words():
    shown = compare.table(Measured(100_000, 20.0, 4.0), Measured(20_000, 8.0, 5.0), 1.5)
    assert "5.0 times fewer numbers" in shown and "2.5 times as fast" in shown and "1.25 times as far" in shown
    assert "1/5.0" in shown and "2.5 倍" in shown and "1.25 倍" in shown and "5.0 × smaller" in shown


# --- the page and the endpoint


@pytest.fixture
def drawn(monkeypatch, test_digits):
    """Test digits in place of samples, marked as samples are."""
    one = [labels.mark(picture, model="gan/dcgan", seed=7) for picture in test_digits]
    monkeypatch.setattr(copies, "pictures", lambda variant, asked, n, seed: [one[int(asked[index % len(asked)])] for index in range(n)])


def test_the_chosen_sample_is_shown_with_five_neighbours_and_a_sentence(drawn):
    shown = copies.check("dcgan", "3", 7)
    assert shown.count("<img") == 10 + 1 + 5 and "▲ 3" in shown
    assert "4,000 of the 60,000" in shown and "come closer to a training digit than that" in shown


def test_a_true_copy_is_called_one():
    shown = copies.copy("5", 1)
    assert "a true copy, at distance 0" in shown and "真正的抄袭" in shown and "--x:0.0%" in shown


def nearness(percentile, distance=2.0, searched=60_000):
    return Nearest((distance,), (41,), (6,), (Image.new("L", (28, 28)),), percentile, searched, 500)


def test_closer_than_99_of_100_real_digits_is_suspicious_and_said_so():
    assert nearness(0.8).suspicious and "looks like a copy" in copies.sentences(nearness(0.8))[0]
    assert not nearness(1.0).suspicious and "no proof of a copy" in copies.sentences(nearness(1.0))[0]
    assert "So it is no closer than a new real digit would be: not a copy" in copies.sentences(nearness(10))[0]
    assert nearness(50, distance=0).exact and "distance 0" in copies.sentences(nearness(50, distance=0))[0]


def test_the_page_says_how_many_training_digits_were_searched():
    assert "all 60,000 training digits" in copies.searched(nearness(50))
    assert "Only 4,000 of the 60,000" in copies.searched(nearness(50, searched=4000))


def test_the_endpoint_gives_files_and_distances(drawn):
    made = copies.gan_nearest("dcgan", "3", 7, 4)
    assert set(made) == {"picture", "distance", "percentile", "suspicious", "sentence", "nearest", "distances", "searched"}
    assert len(made["nearest"]) == len(made["distances"]) == 4 and made["distance"] == made["distances"][0]
    assert labels.read(made["picture"]["path"])["model"] == "gan/dcgan"
    assert labels.read(made["nearest"][0]["path"]) is None and Image.open(made["nearest"][0]["path"]).size == (28, 28)


@pytest.mark.parametrize("n, given", [(0, 1), (-3, 1), (10**9, 20), ("2", 2)])
def test_a_wild_count_is_clamped(drawn, n, given):
    assert len(copies.gan_nearest("dcgan", "3", 7, n)["nearest"]) == given


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("dcgna", "3", 0, 5), "choose one of: dcgan"),
        (("dcgan", "12", 0, 5), "unknown digit '12'"),
        (("dcgan", "", 0, 5), "unknown digit"),
        (("dcgan", "x", 0, 5), "unknown digit"),
        (("dcgan", 3, 0, 5), "unknown digit"),
        (("dcgan", "3", "abc", 5), "seed must be a number"),
        (("dcgan", "3", 0, "many"), "n must be a number"),
    ],
)
def test_bad_input_gets_a_clear_sentence(arguments, sentence):
    with pytest.raises(core.Problem, match=sentence):
        copies.gan_nearest(*arguments)


@pytest.mark.parametrize(
    "handler, arguments",
    [(copies.check, ("dcgan", "%", 7)), (copies.check, ("no", "3", 7)), (copies.copy, ("3", "x")), (compare.student, ("x",)), (compare.unconditional, (None,))],
)
def test_a_handler_tells_a_visitor_what_is_wrong(handler, arguments):
    with pytest.raises(gr.Error):
        handler(*arguments)
