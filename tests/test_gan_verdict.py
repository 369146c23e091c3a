"""The discriminator's verdict on generated, real and drawn digits: the mathematics, the page's handlers, the endpoint."""

import math

import gradio as gr
import pytest
import torch
from PIL import Image, ImageDraw, ImageOps

from demos import pad, pieces
from demos.gan import judge
from genkit import core, gan, images
from genkit.core import Problem
from genkit.digits import digits
from genkit.gan import quality
from genkit.gan.model import GAN
from genkit.gan.verdict import Reference, percentile, scores_of


@pytest.fixture(autouse=True)
def hermetic(monkeypatch):
    monkeypatch.delenv("GENKIT_DATA_DIR", raising=False)


def tiny(arch="dcgan", conditional=True):
    """An untrained GAN whose D has an opinion on digits."""

    def make():
        model = GAN(arch, 8, 4, 4, conditional)
        torch.nn.init.normal_(model.discriminator.digit.weight)
        return model

    return core.build(make, 0).eval()


@pytest.fixture(scope="module")
def model():
    return tiny()


@pytest.fixture
def pictures():
    """A test digit of each kind."""
    return [Image.fromarray(picture.numpy()) for picture in digits("test")[0][::100]]


def drawing(*strokes, width=22):
    sheet = Image.new("RGB", (280, 280), "white")
    for stroke in strokes:
        ImageDraw.Draw(sheet).line(stroke, fill="black", width=width, joint="curve")
    return sheet


SEVEN = drawing([(70, 60), (200, 60), (120, 230)])


@pytest.mark.parametrize("arch", ["dcgan", "mlp"])
def test_a_batch_is_judged_like_one_by_one(arch, pictures):
    model = tiny(arch)
    together, alone = gan.judge(model, pictures), [gan.judge(model, [picture])[0] for picture in pictures]
    assert [made.scores for made in together] == [pytest.approx(made.scores, abs=1e-4) for made in alone]
    assert [made.digit for made in together] == [made.digit for made in alone]


def test_the_ten_scores_of_one_pass_are_those_of_ten_passes(model, pictures):
    x = images.from_pil(pictures, "L")
    with torch.inference_mode():
        one_by_one = torch.stack([model.discriminator(x, torch.full((len(x),), digit)) for digit in range(10)], dim=1)
    assert torch.allclose(scores_of(model, x), one_by_one, atol=1e-4)


def test_the_score_is_that_of_the_named_digit_else_of_what_the_classifier_reads(model, pictures):
    (named,), (free,) = gan.judge(model, pictures[:1], [4]), gan.judge(model, pictures[:1])
    assert named.digit == 4 and named.score == named.scores[4]
    assert free.digit == gan.recognised(pictures[:1])[0] != 4 and free.score == free.scores[free.digit]


def test_a_probability_is_the_sigmoid_of_the_score_and_a_critic_has_none(model, pictures):
    (made,), (critic,) = gan.judge(model, pictures[:1]), gan.judge(model, pictures[:1], loss="wasserstein")
    assert made.probability == pytest.approx(1 / (1 + math.exp(-made.score)), abs=1e-5) == made.believes[made.digit]
    assert critic.probability is None and critic.believes == critic.scores


def test_a_discriminator_that_is_not_told_names_no_digit(pictures):
    (made,) = gan.judge(tiny(conditional=False), pictures[:1])
    assert made.digit is None and len(set(made.scores)) == 1


def test_a_percentile_is_the_share_of_smaller_numbers():
    among = [1.0, 2.0, 3.0, 4.0]
    assert [percentile(value, among) for value in (0, 1, 2.5, 4, 9)] == [0, 0, 50, 75, 100]


def test_the_percentiles_place_a_picture_among_500_real_and_500_generated_digits(model, pictures):
    among = gan.reference(model)
    assert len(among.real) == len(among.fake) == 500 and list(among.real) == sorted(among.real)
    for made in gan.judge(model, pictures):
        assert made.percentile_real == pytest.approx(sum(score < made.score for score in among.real) / 5)
        assert made.percentile_fake == pytest.approx(sum(score < made.score for score in among.fake) / 5)


def test_half_of_what_the_reference_was_made_of_lies_above_its_middle(model):
    made, asked = quality.draw(model, 500)
    assert sum(made.percentile_fake >= 50 for made in gan.judge(model, images.to_pil(made), asked.tolist())) == pytest.approx(250, abs=2)


def test_the_reference_is_computed_once_and_goes_with_its_model(monkeypatch):
    from genkit.gan import verdict

    calls = []
    monkeypatch.setattr(verdict, "scores_of", lambda model, x: calls.append(model) or torch.zeros(len(x), 10))
    for _ in range(3):
        verdict.reference(one := tiny())
        verdict.reference(one)
    assert len(calls) == 6  # real and fake, of three models


def test_no_pictures_give_no_verdicts(model):
    assert gan.judge(model, []) == []


# --- the page


@pytest.fixture
def court(monkeypatch, model):
    """The page with a tiny model in place of every variant."""
    judge.jury.cache_clear()
    monkeypatch.setattr(judge.models, "use", lambda family, name: model)
    yield
    judge.jury.cache_clear()


def sheet(picture):
    return pad.address(picture)


def test_a_drawing_gets_its_verdict_with_a_strip_ten_beliefs_and_words(court):
    shown = judge.look(sheet(SEVEN), "dcgan")
    assert shown.count("<rect") == 2 * pieces.BINS and shown.count("<li") == 10
    assert "500 real test digits" in shown and "500 个真实测试数字" in shown and 'role="status"' in shown


def test_a_critic_is_said_to_give_no_probability(court):
    assert "scores, not probabilities" in judge.look(sheet(SEVEN), "wgan-gp")
    assert "scores, not probabilities" not in judge.look(sheet(SEVEN), "dcgan")


def test_a_picked_test_digit_is_judged_as_it_is(court, model):
    address = judge.pick_real("")
    picture = judge.real_digits()[address]
    assert picture.size == (28, 28) and judge.seen(picture).tobytes() == picture.tobytes()
    assert f"{gan.judge(model, [picture])[0].percentile_real:.0f}% of 500 real" in judge.look(address, "dcgan")


def test_picking_goes_through_all_twenty_test_digits():
    seen, address = set(), ""
    for _ in range(25):
        seen.add(address := judge.pick_real(address))
    assert len(seen) == 20


def test_a_drawing_is_cropped_centred_and_inverted():
    seen = judge.seen(SEVEN)
    box = seen.getbbox()
    assert seen.size == (28, 28) and seen.getpixel((0, 0)) == 0 and max(box[2] - box[0], box[3] - box[1]) == 20


def test_a_small_drawing_in_black_on_white_is_not_taken_for_an_mnist_digit():
    small = SEVEN.resize((28, 28))
    assert judge.seen(small).getpixel((0, 0)) == 0


@pytest.mark.parametrize("value", ["", None, "data:image/png;base64,AAAA", "nonsense", sheet(Image.new("RGB", (280, 280), "white"))])
def test_an_empty_or_broken_pad_is_refused_in_a_sentence(court, value):
    with pytest.raises(gr.Error):
        judge.look(value, "dcgan")


def test_changing_d_over_an_empty_pad_changes_nothing(court):
    assert judge.again("", "dcgan") == gr.skip()


def test_ten_made_and_ten_real_digits_each_carry_what_d_thinks_of_them(monkeypatch, court, pictures):
    monkeypatch.setattr(judge, "pictures", lambda variant, asked, n, seed: pictures[:n])
    shown = judge.samples("dcgan", 7)
    assert shown.count("<img") == 20 and shown.count("%</a>") == 20
    assert "%" not in judge.samples("wgan-gp", 7).split("</p>", 1)[1].replace("data:image", "")


def saved(picture, path):
    picture.save(path)
    return {"path": str(path)}


def test_the_endpoint_answers_with_plain_numbers(court, tmp_path):
    made = judge.gan_verdict(saved(SEVEN, tmp_path / "seven.png"), "dcgan")
    assert set(made) == {"score", "probability", "percentile_real", "percentile_fake", "believes", "digit"}
    assert len(made["believes"]) == 10 and made["believes"][made["digit"]] == made["probability"]
    assert 0 <= made["percentile_real"] <= 100 and 0 <= made["percentile_fake"] <= 100
    assert judge.gan_verdict(saved(SEVEN, tmp_path / "seven.png"), "wgan-gp")["probability"] is None


def test_a_drawing_and_its_negative_get_the_same_verdict(court, tmp_path):
    black, white = (judge.gan_verdict(saved(picture, tmp_path / "a.png")) for picture in (SEVEN, ImageOps.invert(SEVEN)))
    assert black["score"] == pytest.approx(white["score"], abs=1e-3)


@pytest.mark.parametrize("size", [(1, 10_000), (10_000, 1), (1, 1)])
def test_a_picture_of_a_strange_shape_is_judged_or_refused_never_a_crash(court, tmp_path, size):
    blank = Image.new("L", size, 255)
    with pytest.raises(Problem, match="nothing is drawn"):
        judge.gan_verdict(saved(blank, tmp_path / "blank.png"))
    blank.putpixel((size[0] // 2, size[1] // 2), 0)
    if size != (1, 1):
        line = blank.copy()
        line.paste(0, (0, 0, max(1, size[0] // 4), max(1, size[1] // 4)))
        assert math.isfinite(judge.gan_verdict(saved(line, tmp_path / "line.png"))["score"])


@pytest.mark.parametrize("colour", ["white", "black", "grey"])
@pytest.mark.parametrize("side", [28, 200])
def test_a_picture_of_one_colour_is_refused(court, tmp_path, colour, side):
    with pytest.raises(Problem, match="nothing is drawn"):
        judge.gan_verdict(saved(Image.new("RGB", (side, side), colour), tmp_path / "one.png"))


@pytest.mark.parametrize("content", [b"", b"a text file", b"\x89PNG\r\n\x1a\n", b"\0" * 1_000_000])
def test_a_file_that_is_no_picture_is_refused(court, tmp_path, content):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(Problem, match="not a picture"):
        judge.gan_verdict({"path": str(tmp_path / "bad.png")})


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(court, tmp_path):
    with pytest.raises(Problem, match="too large"):
        judge.gan_verdict(saved(Image.new("1", (8_000, 8_000)), tmp_path / "bomb.png"))


@pytest.mark.parametrize("variant", ["dcgna", "", None, 3, "../dcgan"])
def test_an_unknown_variant_is_refused_with_the_list(court, tmp_path, variant):
    with pytest.raises(Problem, match="choose one of: dcgan"):
        judge.gan_verdict(saved(SEVEN, tmp_path / "seven.png"), variant)


def test_the_strip_keeps_a_mark_outside_the_scale_at_its_end():
    among = Reference(tuple(map(float, range(100))), tuple(map(float, range(-50, 50))))
    assert "--x:100.0%" in judge.strip(1e9, among) and "--x:0.0%" in judge.strip(-1e9, among)
