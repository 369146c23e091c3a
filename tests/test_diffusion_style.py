"""The styles that a model knows, and how it is asked for them."""

import re

import pytest

from demos.diffusion import style as page
from genkit import diffusion, emoji
from genkit.core import Problem
from genkit.diffusion import styling


@pytest.mark.parametrize(
    "prompt, style, asks",
    [
        ("a house on a purple background", "all red", "a red house on a purple background"),
        ("an apple and a green heart", "all orange", "an orange apple and an orange heart"),
        ("two yellow stars on black", "all blue", "two blue stars on black"),
        ("A CAT", "all pink", "a pink CAT"),
        ("一座房子，橙色背景", "all blue", "一座蓝色的房子，橙色背景"),
        ("一个红色的苹果和一只猫", "all green", "一个绿色的苹果和一只绿色的猫"),
    ],
)
def test_a_tint_goes_before_every_thing_in_place_of_the_colour_it_had(prompt, style, asks):
    assert diffusion.styled("mini-sd", prompt, style) == asks


def test_every_style_of_mini_sd_is_asked_for_in_words_that_it_knows():
    from genkit.diffusion import words

    for style in diffusion.styles("mini-sd"):
        for prompt in ("a house on a purple background", "一座房子，紫色背景"):
            asks = diffusion.styled("mini-sd", prompt, style)
            assert asks != prompt and all(word.known for word in words.split(asks)), asks


def test_a_pretrained_model_is_given_the_style_in_words_after_the_prompt():
    known = diffusion.styles("sd-1.5")
    assert {"oil painting", "ink wash", "pixel art"} <= set(known) and all(re.search("[\u4e00-\u9fff]", chinese) for _, chinese in known.values())
    assert diffusion.styled("sd-1.5", "a cat", "oil painting") == f"a cat, {styling.PHRASES['oil painting'][1]}"


def test_a_model_without_styles_says_so_and_its_control_offers_none():
    assert diffusion.styles("digits") == {}
    with pytest.raises(Problem, match="digits knows no styles"):
        diffusion.styled("digits", "3", "all red")
    control, said = page.offered("digits")
    assert control.choices == [] and not control.interactive and "knows no style" in said
    control, said = page.offered("mini-sd")
    assert len(control.choices) == len(diffusion.styles("mini-sd")) and control.interactive and said == ""


@pytest.mark.parametrize(
    "prompt, style, sentence", [("a cat", "cubism", "unknown style 'cubism'"), ("a <b>", "all red", "nothing in this prompt"), ("", "all red", "nothing in")]
)
def test_an_unknown_style_and_a_prompt_with_nothing_in_it_are_told(prompt, style, sentence):
    with pytest.raises(Problem, match=sentence):
        diffusion.styled("mini-sd", prompt, style)


def test_a_tint_moves_the_colours_of_the_picture_towards_itself():
    pipe = diffusion.load("mini-sd")
    *_, before = diffusion.sample(pipe, "a house on a purple background", seed=7, num_inference_steps=10)
    asks = diffusion.styled("mini-sd", "a house on a purple background", "all red")
    *_, after = diffusion.edit(pipe, asks, before.image, strength=0.8, num_inference_steps=10, seed=2)

    def redness(picture):
        red, green, blue = picture.crop((20, 20, 44, 44)).resize((1, 1)).getpixel((0, 0))
        return red - (green + blue) / 2

    assert redness(after.image) > redness(before.image) + 10 and set(emoji.TINTS) >= {"red"}
