"""What the sections of the VAE tab make of a drawing, of a file and of bad input. Untrained models, no browser."""

import dataclasses
import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageColor, ImageDraw

from demos import answer, pad, pieces, training
from demos.vae import clean, learn, make, maps, odd, report, scarce, walk
from genkit import labels, vae
from genkit.core import Problem
from genkit.vae import pictures
from tests.conftest import finished

CJK = re.compile("[\u4e00-\u9fff]")


def redraw(sheet, variant="conv"):
    return finished(make.redraw(sheet, variant))


# --- drawing and bringing


def test_a_test_digit_is_taken_as_it_is_and_another_comes_next(tiny):
    sheets = list(make.test_digits())
    assert len(set(sheets)) == 20 and make.next_digit(sheets[-1]) == sheets[0] and make.next_digit("a drawing") in sheets
    assert make.digit_on(sheets[3]).tobytes() == make.test_digits()[sheets[3]].tobytes()


@pytest.mark.parametrize("variant, bars", [("conv", 64), ("conv2d", 4), ("ae", 32)])
def test_a_drawing_is_shown_before_and_after_with_its_code_and_its_price(tiny, variant, bars):
    shown = redraw(make.next_digit(""), variant)
    assert shown.count("<img") == 3 and "AI-generated" in shown and "A classifier reads a 6 before" in shown
    assert len(re.findall(r'<i class="(?:up|down)"', shown)) == bars  # mu and log sigma squared; a plain autoencoder has no spread
    assert ("KL" in shown and "pays no KL" not in shown) == (variant != "ae")


@pytest.mark.parametrize(
    "sheet, variant, sentence",
    [
        ("", "conv", "nothing is drawn yet"),
        (None, "conv", "nothing is drawn yet"),
        (pad.address(Image.new("L", (28, 28), 255)), "conv", "nothing is drawn yet"),
        (pad.address(Image.new("L", (28, 28), 0)), "conv", "nothing is drawn yet"),
        ("data:image/png;base64,AAAA", "conv", "could not be read"),
        ({"a": 1}, "conv", "could not be read"),
        ("", "<img src=x>", "&lt;img"),
        ("", ["conv"], "choose one of"),
    ],
    ids=["nothing", "null", "all white", "all black", "no picture", "no text", "markup", "a list"],
)
def test_a_strange_question_is_answered_with_a_sentence(tiny, sheet, variant, sentence):
    shown = redraw(sheet, variant)
    assert sentence in shown and 'lang="zh"' in shown and "<img" not in shown


def test_a_photo_on_grey_paper_comes_onto_the_pad_as_ink_and_shows_its_five_steps(tiny, seven):
    sheet, steps, batch = make.upload([seven], "conv", "before")
    ink = np.asarray(pad.picture(sheet).convert("L"))
    assert batch == "" and steps.count("<img") == 5 and ink[0].min() == 255 and (ink > 200).mean() > 0.85  # the paper has become white
    alone = np.asarray(pictures.stages(Image.open(seven)).digit, dtype=float)
    assert np.abs(alone - np.asarray(make.digit_on(sheet), dtype=float)).mean() < 6


def test_the_ink_of_any_photo_fits_into_a_question():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (280, 280), dtype=np.uint8))
    assert len(make.inked(SimpleNamespace(ink=noise))) < answer.MOST - 200


def test_the_steps_end_at_what_the_model_takes(seven):
    stages = pictures.stages(Image.open(seven))
    assert stages.digit.tobytes() == vae.digit_from(Image.open(seven)).tobytes()
    assert max(stages.fitted.size) == 20 and max(stages.ink.size) <= 280 and stages.cropped.width < stages.ink.width


def test_several_files_stand_side_by_side_and_a_bad_one_says_so_in_its_place(tiny, seven, tmp_path):
    (tmp_path / "<b>.png").write_bytes(b"no picture")
    shown = make.several([seven, str(tmp_path / "<b>.png"), seven], "conv")
    assert shown.count("<li>") == 3 and shown.count("<img") == 4 and "&lt;b&gt;.png" in shown and "not a picture" in shown
    assert f"first {make.MOST} files" in make.several([seven] * (make.MOST + 1), "conv")


STRANGE = {
    "colour": Image.effect_noise((300, 200), 90).convert("RGB"),
    "strip": Image.new("L", (1, 10_000), 255),
    "white": Image.new("L", (300, 300), 255),
    "black": Image.new("L", (300, 300), 0),
}


@pytest.mark.parametrize("kind", [*STRANGE, "film"])
def test_a_strange_file_is_drawn_or_refused_with_a_sentence(tiny, tmp_path, kind):
    path = tmp_path / "strange.gif"
    if kind == "film":
        frames = [Image.new("L", (60, 60), 255) for _ in range(5)]
        [ImageDraw.Draw(frame).line([(10, 10), (50, 10 + 8 * index)], fill=0, width=6) for index, frame in enumerate(frames)]
        frames[0].save(path, save_all=True, append_images=frames[1:])
    else:
        path = path.with_suffix(".png")
        STRANGE[kind].save(path)
    shown = make.several([str(path)], "conv")
    assert shown.count("<img") == 2 or "nothing is drawn yet" in shown
    assert ("nothing is drawn yet" in shown) == (kind in ("white", "black", "strip"))


# --- codes, by endpoint


def test_a_code_goes_out_and_comes_back_as_the_picture_redrawn(tiny, seven, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    code = make.vae_encode({"path": seven}, "conv")
    drawn = Image.open(make.vae_decode(code["mu"], "conv")["path"])
    again, numbers = make.vae_reconstruct({"path": seven}, "conv")
    assert code["mu"] == pytest.approx(numbers["mu"], abs=1e-4) and len(code["logvar"]) == 32
    assert np.abs(np.asarray(drawn, dtype=int) - np.asarray(Image.open(again["path"]), dtype=int)).max() <= 1


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (([0.0] * 31,), "must be 32 numbers, got 31"),
        (("abc",), "list of numbers"),
        ((["x"] * 32,), "must be a number"),
        (([0.0] * 32, "conv", 77), "unknown digit"),
    ],
)
def test_a_bad_code_is_refused(tiny, arguments, sentence):
    with pytest.raises(Problem, match=sentence):
        make.vae_decode(*arguments)


def test_a_huge_code_is_clamped(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    huge, most = (Image.open(make.vae_decode([value] * 32, "conv")["path"]) for value in (1e300, 100.0))
    assert huge.tobytes() == most.tobytes()


# --- the map


def asked(**changes):
    return maps.look({"variant": "conv2d", "projection": "plain", "x": 0.5, "y": -0.5, **changes})


def test_the_plane_is_clamped_to_its_edges_and_brings_its_map_only_when_asked(tiny):
    assert asked(x=99, y=-1e300) == asked(x=1, y=-1)
    assert asked(map=True, mine="<b>")["map"] == asked(map=True)["map"]  # a strange star is left out
    assert "map" not in asked() and asked(map=True)["map"].startswith("data:image/png;base64,")


def test_the_visitors_drawing_is_a_star_where_the_encoder_puts_it(tiny):
    sheet = make.next_digit("")
    value, said = maps.settle(sheet, "conv2d", "plain")
    assert value["mine"] == pytest.approx(vae.atlas(tiny["conv2d"]).place(make.digit_on(sheet)), abs=1e-5) and "two numbers themselves" in said
    x, y = maps.pixel(*value["mine"])
    x, y = (min(max(part, 14), maps.SIDE - 14) for part in (x, y))
    plain, starred = maps.ground("conv2d", "plain"), maps.starred(maps.ground("conv2d", "plain"), tuple(value["mine"]))
    assert starred.getpixel((round(x), round(y))) == (255, 255, 255) and maps.starred(plain, None) is plain
    assert maps.settle("", "conv2d", "plain")[0]["mine"] is None


def test_a_larger_code_is_laid_flat_and_says_how_much_of_it_that_is(tiny):
    assert re.search(r"Of 32 numbers only two .* hold \d+% ", maps.settle("", "conv", "plain")[1])


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"x": "NaN"}, "x must be a number"),
        ({"variant": "conv3d"}, "choose one of"),
        ({"projection": ["plain"]}, "choose one of"),
        ({"variant": "<img>"}, "&lt;img"),
    ],
)
def test_a_strange_place_is_answered_with_a_sentence(tiny, changes, sentence):
    answer = asked(**changes)
    assert set(answer) == {"said"} and sentence in answer["said"] and "<img" not in answer["said"]


def test_a_map_keeps_the_colour_of_every_digit_that_is_on_it(tiny):
    shown, there = maps.mapped("conv2d", "plain").convert("RGB"), set(vae.atlas(tiny["conv2d"], "plain").labels)
    colours = {colour for _, colour in shown.getcolors(maps.SIDE**2)}
    assert len(there) == 10 and all(ImageColor.getrgb(maps.COLOURS[digit]) in colours for digit in there)


def test_both_maps_stand_side_by_side_with_what_chance_finds(tiny):
    shown = maps.versus("", 7)
    assert shown.count('class="chart-map"') == 2 and shown.count("download=") == 20 and "holes" in shown


# --- walking


def test_a_walk_leads_from_one_drawing_to_the_other_and_is_clamped(tiny):
    a = make.next_digit("")
    assert walk.strip(a, make.next_digit(a), "conv", 10**9).count("<img") == 64
    assert walk.strip(a, a, "conv", -5).count("<img") == 2
    assert "nothing is drawn yet" in walk.strip(a, "", "conv", 5)


def test_digits_are_added_and_written_in_another_hand(tiny):
    a = make.next_digit("")
    assert walk.sums(a, "conv", "3", "8").count("<img") == 4 and "unknown digit" in walk.sums(a, "conv", "33", "8")
    assert walk.hand(a, "").count("<img") == 10 and walk.hand(a, "6").count("<img") == 10 and "unknown digit" in walk.hand(a, "<")


@pytest.mark.parametrize("which", walk.KEPT)
def test_a_film_is_kept_as_three_marked_files(tiny, tmp_path, monkeypatch, which):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(walk, "FILM", 4)
    a = make.next_digit("")
    shown, files = walk.keep(which, a, make.next_digit(a), "conv", "")
    assert "<video" in shown and [path.rpartition(".")[2] for path in files] == ["gif", "mp4", "png"]
    assert {labels.read(path)["model"] for path in files} == {"vae/conv" if which == "walk" else "vae/conditional"}


# --- what it is good for


def test_a_spoilt_digit_is_cleaned_in_three_ways_with_their_decibels(tiny):
    shown = clean.clean(make.next_digit(""), "gaussian", 5.0, 0)  # clamped to 1
    assert shown.count("<img") == 5 and shown.count(" dB") >= 6 and "choose one of" in clean.clean(make.next_digit(""), "fog", 0.5, 0)


def test_the_endpoint_of_cleaning_gives_files_and_decibels(tiny, seven, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    said = clean.vae_denoise({"path": seven}, "blot", 0.3, 1)
    assert set(said["answers"]) == set(clean.CLEANERS) and set(said["psnr"]) == {"noisy", *clean.CLEANERS}
    assert labels.read(said["answers"]["denoise"]["path"]) and labels.read(said["answers"]["median"]["path"]) is None


def test_digits_and_what_is_none_are_parted_at_the_threshold(tiny, monkeypatch):
    monkeypatch.setattr(odd, "COUNT", 20)
    shown = odd.compare("", "noise", "elbo", 0, "conv")
    assert "100% of the odd ones are found (recall), 50% of the alarms are right (precision), 100.0% of the digits raise a false alarm" in shown
    assert "AUC" in shown and shown.count("<rect") == 2 * pieces.BINS and 'role="img"' in shown
    assert "choose one of" in odd.compare("", "ghosts", "elbo", 0, "conv") and "must be a number" in odd.compare("", "noise", "elbo", "x", "conv")


def test_an_experiment_tells_its_progress_its_result_and_its_trouble(monkeypatch):
    def begin(trouble):
        yield 0.5
        if trouble:
            raise Problem("it failed", "失败了")
        yield "done"

    monkeypatch.setattr(odd, "TURN", 0.0)
    run = odd.experiment(begin, lambda result: f"<p>{result}</p>")
    assert [("50%" in shown, "<p>done" in shown) for shown in run(False)] == [(True, False), (False, True)]
    assert "it failed" in list(run(True))[-1]


def test_help_within_the_spread_is_not_called_help():
    assert "It helps" in scarce.sentence("conditional", 9.0, 0.02) and "no proof" in scarce.sentence("conditional", 1.5, 0.02)
    assert "It hurts" in scarce.sentence("dcgan", -9.0, 0.02)


def test_the_page_offers_what_the_experiments_know(tiny):
    assert tuple(clean.KINDS) == vae.KINDS and tuple(odd.SOURCES) == vae.ODD and tuple(scarce.FILLERS) == vae.GENERATORS
    assert set(make.NAMES) <= set(vae.VARIANTS) and set(learn.TRAINED) <= set(vae.VARIANTS) and set(maps.ORDER) <= set(vae.VARIANTS)
    assert set(report.SETTINGS) == set(learn.LIMITS) == {field.name for field in dataclasses.fields(vae.Rules)}
    assert {"loss", "recon", "kl", "beta"} <= set(training.METRICS)


def test_every_problem_told_in_place_has_its_own_chinese(tiny):
    for shown in (walk.strip("", "", "conv", 5), clean.clean("", "gaussian", 0.4, 0), asked(x=None)["said"], redraw("")):
        assert CJK.search(re.search(r'lang="zh">(.*?)</span>', shown)[1])
