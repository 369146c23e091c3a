"""What is kept of a drawing: its steps, its branches, its words; and what is said of a prompt before it is drawn."""

import re
import runpy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from gradio_client import Client
from PIL import Image

from genkit import diffusion, emoji, labels
from genkit.core import Problem
from genkit.diffusion import clock, schedulers, words

from .conftest import ROOT, finished

PAIR = "a red apple and a green heart"


@pytest.fixture(scope="module")
def pipe():
    return diffusion.load("mini-sd")


@pytest.fixture(scope="module")
def kept(pipe):
    """A drawing of two pictures, every step of it."""
    trace = diffusion.Trace()
    list(diffusion.sample(pipe, PAIR, num_inference_steps=8, seed=3, n=2, kept=trace))
    return trace


def apart(one, other):
    return np.abs(np.asarray(one, int) - np.asarray(other, int)).mean()


# --- schedulers and batches


@pytest.mark.parametrize("name", diffusion.SCHEDULERS)
def test_every_scheduler_draws_the_background_that_was_asked_for_and_goes_the_way_it_says(pipe, name):
    trace = diffusion.Trace()
    *_, last = diffusion.sample(pipe, "a rocket on a black background", num_inference_steps=8, seed=3, scheduler=name, kept=trace)
    assert np.asarray(last.image)[[2, 2, -3, -3], [2, -3, 2, -3]].max() < 90
    assert len(trace.moments) == 8 and trace.moments[0].t > trace.moments[-1].t
    for moment in trace.moments:
        assert abs(moment.a**2 + moment.s**2 - 1) < 1e-3
        torch.testing.assert_close(moment.a * moment.x0 + moment.s * moment.noise, moment.x_t, atol=2e-2, rtol=1e-3)


def test_the_scheduler_of_one_visitor_is_not_that_of_the_next(pipe):
    import copy
    import threading

    apart_by_turns, before = copy.copy(pipe), type(pipe.scheduler)
    apart_by_turns.turn = threading.Lock()  # as where the GPU is too small for the whole of a model
    for shared in (pipe, apart_by_turns):
        first, _, again = (list(diffusion.sample(shared, PAIR, num_inference_steps=2, scheduler=name))[-1].image for name in ("", "ddpm", ""))
        assert first.tobytes() == again.tobytes() and type(shared.scheduler) is before


def test_the_second_of_two_pictures_is_that_of_the_next_seed(pipe, kept):
    *_, alone = diffusion.sample(pipe, PAIR, num_inference_steps=8, seed=4)
    assert apart(kept.pictures[1], alone.image) < 0.5 < apart(kept.pictures[0], alone.image)


def test_the_noise_is_the_noise_that_it_is_said_to_be():
    own = schedulers.make(diffusion.load("digits").scheduler)
    own.set_timesteps(4)
    x0, noise = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    for t in own.timesteps[1:]:
        a, s = schedulers.amounts(own, t, None)
        for found, true in zip(schedulers.predicted(own, a * noise - s * x0, a * x0 + s * noise, a, s), (x0, noise), strict=True):
            torch.testing.assert_close(found, true, atol=1e-3, rtol=1e-3)


# --- steps, branches, films


def test_a_step_shows_more_picture_the_later_it_is_and_what_is_believed_is_nearer(pipe, kept):
    early, late = (diffusion.look(pipe, kept, k) for k in (1, 6))
    final = kept.pictures[0]
    assert apart(late[1], final) < apart(early[1], final) and apart(early[1], final) < apart(early[0], final)
    assert diffusion.look(pipe, kept, 10**9, -5)[0].size == (64, 64)


@pytest.mark.parametrize("name", ["", "ddpm", "euler"])
def test_a_branch_with_nothing_changed_is_the_same_picture_and_with_other_words_another(pipe, name):
    whole = diffusion.Trace()
    *_, last = diffusion.sample(pipe, PAIR, num_inference_steps=4, seed=3, scheduler=name, kept=whole)
    *_, same = diffusion.sample(pipe, PAIR, seed=3, origin=(whole, 2))
    *_, early = diffusion.sample(pipe, "a cat on a black background", seed=3, origin=(whole, 0))
    *_, late = diffusion.sample(pipe, "a cat on a black background", seed=3, origin=(whole, 3))
    assert apart(last.image, same.image) < 0.1 < apart(last.image, late.image) < apart(last.image, early.image)


def test_a_branch_computes_only_the_steps_after_it(pipe, kept, monkeypatch):
    calls, forward = [], type(pipe.unet).forward
    monkeypatch.setattr(type(pipe.unet), "forward", lambda self, *args, **options: calls.append(1) or forward(self, *args, **options))
    *_, last = diffusion.sample(pipe, PAIR, seed=3, origin=(kept, 5))
    assert len(calls) == 3 and len(last.pictures) == 2


def test_a_branch_with_another_seed_keeps_what_was_believed_more_the_later_it_is(pipe, kept):
    *_, early = diffusion.sample(pipe, PAIR, seed=99, origin=(kept, 1))
    *_, late = diffusion.sample(pipe, PAIR, seed=99, origin=(kept, 6))
    assert 0.1 < apart(kept.pictures[0], late.image) < apart(kept.pictures[0], early.image)


def test_a_film_shows_every_step_and_ends_with_the_picture(pipe, kept):
    frames = diffusion.film(pipe, kept, 1)
    assert len(frames) == 9 and {frame.size for frame in frames} == {(64, 64)} and frames[-1].tobytes() == kept.pictures[1].tobytes()


def test_the_digits_variant_keeps_its_steps_too():
    digits, trace = diffusion.load("digits"), diffusion.Trace()
    *_, last = diffusion.sample(digits, "42", num_inference_steps=3, scheduler="euler", kept=trace)
    assert [part.size for part in diffusion.look(digits, trace, 1)] == [last.image.size] * 3 == [(56, 28)] * 3


def test_a_drawing_that_was_never_begun_cannot_be_looked_into(pipe):
    with pytest.raises(Problem, match="nothing was kept"):
        diffusion.look(pipe, diffusion.Trace(), 0)


# --- words


def test_red_apple_lights_up_left_and_green_heart_right(kept):
    spans = {word.text: (word.start, word.end) for word in words.split(PAIR)}
    maps, rest = diffusion.of_words(kept, list(spans.values()))
    heat = dict(zip(spans, maps, strict=True))
    left = {word: heat[word][:, : heat[word].shape[1] // 2].sum() / heat[word].sum() for word in spans}
    assert left["apple"] > left["heart"] + 0.1 and left["red"] > left["green"]
    assert np.allclose(sum(maps) + rest, 1, atol=1e-3)
    assert diffusion.painted(heat["apple"], kept.pictures[0]).size == (192, 192)


def test_visitors_who_draw_at_the_same_time_hear_their_own_words_only(pipe):
    def draw(prompt):
        trace = diffusion.Trace()
        list(diffusion.sample(pipe, prompt, num_inference_steps=3, seed=1, kept=trace))
        return diffusion.of_words(trace, [(0, len(prompt))], k=1)[0][0]

    prompts = [PAIR, "a cat", "一只熊猫，黄色背景"]
    alone = [draw(prompt) for prompt in prompts]
    with ThreadPoolExecutor(3) as pool:
        for mine, together in zip(alone, pool.map(draw, prompts), strict=True):
            np.testing.assert_allclose(mine, together, atol=1e-4)


def test_a_branch_hears_its_own_words(pipe, kept):
    trace, prompt = diffusion.Trace(), "a cat on a black background"
    list(diffusion.sample(pipe, prompt, seed=3, kept=trace, origin=(kept, 5)))
    assert [bool(moment.words) for moment in trace.moments] == [False] * 5 + [True] * 3
    assert np.allclose(diffusion.of_words(trace, [(2, 5)], k=1)[0], diffusion.of_words(trace, [(2, 5)], k=5)[0])


# --- what is said before


@pytest.mark.parametrize(
    "prompt, strange",
    [
        ("Two strawberries and a crescent moon on a grey background", []),
        ("a skatebord and a rockt", [("skatebord", ()), ("rockt", ("rocket", "robot"))]),
        ("三只老虎和滑板，蓝色背景", [("老虎", ()), ("滑板", ())]),
        ("机器人，橙色的背景", []),
        ("🐱 <b>", [("b", ())]),
        ("", []),
    ],
)
def test_words_that_mini_sd_has_never_seen_are_found_with_what_is_spelt_like_them(prompt, strange):
    assert [(word.text, word.near) for word in words.split(prompt) if not word.known] == strange


def test_every_caption_of_the_training_pictures_consists_of_known_words():
    import random

    rng = random.Random(0)
    for _ in range(400):
        scene = emoji.random_scene(rng)
        for language in ("en", "zh"):
            said = emoji.caption(scene, rng, language)
            assert [word.text for word in words.split(said) if not word.known] == [], said


def test_a_long_prompt_is_cut_where_the_encoder_stops_and_draws_what_was_read(pipe):
    read, cut = diffusion.fit(pipe, "cat " * 40)
    assert read.split() == ["cat"] * 30 and cut.split() == ["cat"] * 10
    whole, part = (list(diffusion.sample(pipe, text, num_inference_steps=1))[-1].image for text in ("cat " * 40, read))
    assert whole.tobytes() == part.tobytes()
    assert diffusion.fit(pipe, "\ud800 a cat \x00") and diffusion.fit(pipe, "🐱" * 500)[1]


def test_the_time_told_is_that_of_the_drawings_before():
    assert clock.expected("nobody", 20, 1, True) is None
    for seconds in (1.0, 9.0, 1.2):
        clock.note("someone", 19, 1, True, seconds)
    assert clock.expected("someone", 19, 1, True) == pytest.approx(1.2)
    assert clock.expected("someone", 9, 1, True) == pytest.approx(0.6) and clock.expected("someone", 19, 1, False) == pytest.approx(0.6)
    assert clock.expected("someone", 19, 4, True) == pytest.approx(4.8)


# --- the tab


def test_every_example_is_a_combination_that_no_training_picture_showed():
    from demos.diffusion.make import EXAMPLES

    for prompt in EXAMPLES:
        things = [name for name, thing in emoji.THINGS.items() if name in prompt or thing.zh in prompt]
        grounds = [name for name in emoji.BACKGROUNDS if name in prompt or emoji.CHINESE[name] + "色" in prompt]
        assert len(things) == len(grounds) == 1 and emoji.held_out(things[0], grounds[0]), prompt


def test_what_is_said_of_a_prompt_is_escaped_and_in_both_languages():
    from demos.diffusion import make

    said = finished(make.before("a rockt <img src=x onerror=alert(1)> \ud800", "mini-sd", 1, 20, 4))
    assert "<mark>rockt</mark>" in said and "<img" not in said and "spelt most like it" in said and "拼写最接近" in said
    assert "choose one of" in finished(make.before("a", "../../etc", 1, 20, 4))


def test_a_drawing_is_kept_under_its_key_and_another_key_is_told(kept):
    from demos.diffusion import drawn, heat, steps

    key = drawn.put("mini-sd", kept)
    assert "predicted x" in finished(steps.look(key, 5, 1)) and finished(heat.heatmap(key, True, 1, 2)).count("<img") == 9
    assert "not kept any more" in finished(steps.look("another", 5, 1)) and "not kept" in finished(heat.heatmap("another", True, 1, 1))
    assert "must be a number" in finished(steps.look(key, "abc", 1))


def test_the_sliders_stay_where_they_are_unless_a_drawing_has_fewer_steps_or_pictures(kept):
    from demos.diffusion import drawn, steps

    at, index = steps.settle(drawn.put("mini-sd", kept), 20, 2)
    assert (at.maximum, at.value, index.value, index.visible) == (8, 8, 2, True)
    assert steps.settle(drawn.put("mini-sd", kept), 3, 1)[0].value == 3


def test_the_code_of_the_tab_draws_what_the_tab_draws(pipe, tmp_path, monkeypatch):
    from demos.diffusion import keep

    code = keep.program(PAIR, "mini-sd", 2, "euler", 3, 4, 'a "cat"', 3)
    code = code.replace('f"{index}.png"', f"f{str(tmp_path / '{index}.png')!r}")
    more = f"\nfor index, picture in enumerate(pictures):\n    picture.save(f{str(tmp_path / 'alone{index}.png')!r})\n"
    (tmp_path / "code.py").write_text(code + more)
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(tmp_path / "code.py"))
    *_, last = diffusion.sample(pipe, PAIR, n=2, scheduler="euler", num_inference_steps=3, guidance_scale=4, negative_prompt='a "cat"', seed=3)
    for index, picture in enumerate(last.pictures):
        assert max(apart(picture, Image.open(tmp_path / f"{name}{index}.png")) for name in ("", "alone")) < 0.5
    assert "number" in keep.program(PAIR, "mini-sd", "x", "", 3, 4, "", 3) and keep.program("7", "digits", 1, "", 3, 4, "", 3).startswith("from genkit")


@pytest.fixture(scope="module")
def client(server, tmp_path_factory):
    return Client(server, verbose=False, download_files=str(tmp_path_factory.mktemp("downloads")))


def test_diffusion_steps_returns_every_step_and_leaves_at_a_branch(client):
    made = client.predict(PAIR, "", 4, 4.0, 3, "mini-sd", "ddim", api_name="/diffusion_steps")
    assert len(made["steps"]) == 4 and made["cut"] == "" and made["steps"][0]["t"] > made["steps"][3]["t"]
    assert Image.open(made["steps"][1]["x0"]).size == (64, 64) and labels.read(made["picture"])["settings"]["scheduler"] == "ddim"
    other = client.predict(PAIR, "", 4, 4.0, 3, "mini-sd", "ddim", 3, "a cat on a black background", api_name="/diffusion_steps")
    same = [Image.open(one["steps"][1]["x_t"]).tobytes() for one in (made, other)]
    assert same[0] == same[1] and apart(Image.open(made["picture"]), Image.open(other["picture"])) > 0.5


def test_diffusion_heatmap_returns_a_map_for_each_word(client):
    made = client.predict(PAIR, "", 4, 4.0, 3, "mini-sd", 2, api_name="/diffusion_heatmap")
    assert [word["word"] for word in made["words"]] == PAIR.split()
    assert sum(word["share"] for word in made["words"]) + made["rest"] == pytest.approx(1, abs=1e-3)
    assert Image.open(made["words"][2]["map"]).size == (192, 192) and made["words"][2]["peak"][0] < 0.5


def test_a_visitor_scrubs_back_through_the_drawing_and_sees_where_words_acted(visit):
    page = visit("/?tab=diffusion")
    page.locator("#diffusion-result img").first.wait_for()
    page.locator("#diffusion-steps > button").first.click()
    looked = page.locator("#diffusion-look")
    looked.get_by_text(re.compile("Step 8 of 20")).wait_for()
    slider = page.locator("#diffusion-at input[type=range]")
    slider.focus()
    slider.press("ArrowRight")
    looked.get_by_text(re.compile("Step 9 of 20")).wait_for()
    page.locator("#diffusion-heat > button").first.click()
    page.locator("#diffusion-heat-maps").get_by_text("watermelon").first.wait_for()
    assert page.locator("#diffusion-heat-maps img").count() >= 6
