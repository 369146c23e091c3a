"""A text-to-image model of one's own: things cut out and named, captions, the clock that keeps its promise, the gap between captions, the page."""

import math
import random

import pytest
import torch
from PIL import Image, ImageDraw

from genkit import diffusion, emoji, runs
from genkit.core import Problem
from genkit.diffusion import pipeline, sprites, teach


def disc(colour="red", ground="white"):
    sheet = Image.new("RGB", (90, 60), ground)
    ImageDraw.Draw(sheet).ellipse((30, 10, 70, 50), fill=colour)
    return sheet


THINGS = [sprites.named("ball / 球", sprites.cut_out(disc())), sprites.named("moon", sprites.cut_out(disc("navy", "lightyellow")))]


@pytest.fixture
def small(monkeypatch):
    for name, value in {"POOL": 8, "EXAMINED": 4, "DRAWN": 2, "BATCH": 2}.items():
        monkeypatch.setattr(teach, name, value)


@pytest.fixture(scope="module")
def shipped():
    return pipeline.load("mini-sd")


def test_a_cut_out_keeps_the_thing_and_loses_its_background_whatever_its_colour():
    for ground in ("white", "black", "#86c5da"):
        picture = sprites.cut_out(disc(ground=ground))
        assert picture.size == (128, 128) and picture.getpixel((64, 64)) == (255, 0, 0, 255)
        assert picture.getpixel((1, 1))[3] == 0 and picture.getpixel((64, 1))[3] > 0  # cropped to the disc
    clear = Image.new("RGBA", (60, 60))
    clear.paste((0, 200, 0, 255), (20, 20, 40, 40))
    assert sprites.cut_out(clear).getpixel((0, 0)) == (0, 200, 0, 255)
    palette = disc().convert("P")
    assert sprites.cut_out(palette).getpixel((64, 64))[3] == 255 and sprites.cut_out(disc().convert("CMYK")).getpixel((1, 1))[3] == 0


def test_an_empty_picture_is_refused():
    for picture in (Image.new("RGB", (50, 50), "white"), Image.new("RGBA", (50, 50))):
        with pytest.raises(Problem, match="this picture is empty"):
            sprites.cut_out(picture)


@pytest.mark.parametrize(
    "written, en, zh",
    [
        ("Dragon", "dragon", ""),
        ("龙", "", "龙"),
        ("dragon / 龙", "dragon", "龙"),
        ("  my   teddy ", "my teddy", ""),
        ("<i>x", "i x", ""),
        ("ｃａｔ", "cat", ""),
    ],
)
def test_a_name_is_read_as_english_or_chinese_and_holds_nothing_but_words(written, en, zh):
    made = sprites.named(written, Image.new("RGBA", (128, 128)))
    assert (made.en, made.zh) == (en, zh)


@pytest.mark.parametrize("written", ["", " / ", "🐉", "\ud800", "\u202e", "x" * 10_000, "a b c d", "..."])
def test_what_is_no_name_is_refused(written):
    with pytest.raises(Problem, match="is no name"):
        sprites.named(written, Image.new("RGBA", (128, 128)))


def test_captions_say_thing_tint_number_and_background_in_a_language_that_the_thing_has():
    table, rng = {thing.key: thing for thing in THINGS}, random.Random(0)
    scene = emoji.Scene("blue", (("ball", "green"),), 2)
    assert {"two green balls" in sprites.caption(scene, table, rng, "en") for _ in range(9)} == {True}
    said = sprites.caption(scene, table, rng, "zh")
    assert all(part in said for part in ("两个", "绿", "球", "蓝色"))
    assert all("moon" in sprites.caption(emoji.Scene("black", (("moon", None),)), table, rng) for _ in range(9))


def test_combinations_that_are_held_out_are_never_composed():
    rng = random.Random(1)
    scenes = [sprites.random_scene(rng, ["ball", "moon"]) for _ in range(400)]
    assert {scene.count for scene in scenes} == {1, 2, 3} and {scene.background for scene in scenes} > {"white", "blue"}
    assert not [scene for scene in scenes if not emoji.allowed(scene) and (scene.background != "white" or scene.objects[0][1])]


def test_training_yields_a_pipeline_that_draws_and_an_exam_of_both_captions(small, shipped, monkeypatch):
    events = list(teach.train(THINGS, steps=3, seed=1))
    assert [event.step for event in events] == [0, 1, 2, 3] and events[0].exam.gap == pytest.approx(0, abs=1e-6)  # an untrained one gives 0 for both
    last = events[-1]
    assert math.isfinite(last.metrics["loss"]) and len(last.exam.losses) == 5 and len(last.preview) == len(last.exam.prompts) == 2
    assert last.exam.near[0] > 0 and last.exam.schooled is None and last.exam.arrived and last.exam.promised is None
    *_, drawn = diffusion.sample(last.model, "a ball on a blue background", num_inference_steps=2, n=2)
    assert [picture.size for picture in drawn.pictures] == [(64, 64)] * 2
    again = list(teach.train(THINGS, steps=3, seed=1))[-1]
    assert again.exam.true == pytest.approx(last.exam.true, rel=1e-3)  # the same seed and steps make the same


def test_the_end_comes_when_it_was_promised_however_slow_the_machine_is(small, monkeypatch):
    ticks = iter(range(10_000))
    monkeypatch.setattr("genkit.stopwatch.time.perf_counter", lambda: float(next(ticks)))  # each look at the clock takes a second
    events = list(teach.train(THINGS, seconds=20))
    assert {event.exam.promised for event in events} == {20} and events[0].exam.arrived is None
    assert 20 <= events[-1].exam.arrived < 35 and events[-1].step == events[-1].steps > 3


def test_names_that_say_the_same_are_found_and_the_encoder_goes_to_school(small, shipped, monkeypatch):
    same = [sprites.named("cat", THINGS[0].picture), sprites.named("猫", THINGS[1].picture)]
    apart, *names = teach.nearest(shipped, same)
    assert apart < teach.CLOSE < teach.nearest(shipped, [sprites.named("apple", THINGS[0].picture), sprites.named("rocket", THINGS[1].picture)])[0]
    assert names == ["cat", "猫"]
    monkeypatch.setitem(teach.SCHOOL, "steps", 12)
    before = {name: part.clone() for name, part in shipped.text_encoder.state_dict().items()}
    encoder, said = teach.schooled(shipped, same, 0)
    assert 0 <= said <= 1 and all(torch.equal(part, before[name]) for name, part in shipped.text_encoder.state_dict().items())
    assert not torch.equal(next(encoder.parameters()), next(shipped.text_encoder.parameters()))


@pytest.mark.parametrize("things", [THINGS[:1], [THINGS[0], THINGS[0]], THINGS * 7])
def test_too_few_too_many_and_two_of_one_name_are_refused(things):
    with pytest.raises(Problem, match="choose 2 to 12 things, each with a name of its own"):
        next(teach.train(things))


def test_the_page_takes_a_drawing_with_a_name_and_refuses_one_without(tmp_path):
    from demos.diffusion import teach as section

    disc().save(tmp_path / "disc.png")
    shelf, shown, *_ = section.add("ball", "", str(tmp_path / "disc.png"), "")
    assert [thing.key for thing in section.SHELF.get(shelf)] == ["ball"] and "ball" in shown
    for name, path, match in (
        ("", str(tmp_path / "disc.png"), "is no name"),
        ("ball", str(tmp_path / "disc.png"), "there is a 'ball' already"),
        ("x", "", "draw a thing"),
    ):
        with pytest.raises(Problem, match=match):
            section.add(name, "", path, shelf)
    with pytest.raises(Problem, match="2 to 12 things; there are 1"):
        section.begin("somebody", [], shelf, 1, 0)
    with pytest.raises(Problem, match="cannot be chosen here"):
        section.begin("somebody", ["../secret", "digit one"], shelf, 1, 0)
    assert section.clear(shelf) == ("", "")


def test_the_page_says_whether_it_listens_and_whether_there_was_school():
    from demos.diffusion import teach as section

    exam = teach.Exam(9, (0.5,) * 5, true=0.2, other=0.3, prompts=("a <ball>",), near=(0.5, "cat", "<i>"), schooled=0.97, promised=60, seconds=3)
    shown = section.examined(exam)
    for said in ("listen to the word yet? Yes", "听懂了", "a &lt;ball&gt;", "&lt;i&gt;", "97%", "went to school", "after about 60 s"):
        assert said in shown, said
    assert "Not yet" in section.listens(teach.Exam(0, true=0.2, other=0.2)) and section.examined(None) == ""
    assert runs.mine("nobody", section.NAME) == ""
