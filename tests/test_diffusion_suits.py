"""What the page says of a pretrained model before it is loaded, and what it sets when one is chosen."""

import pytest

from demos import download
from demos.diffusion import compare, make
from genkit import diffusion, models


@pytest.mark.parametrize("name", diffusion.PRETRAINED)
def test_size_licence_memory_steps_and_best_settings_stand_there_in_both_languages(name, monkeypatch):
    remote = diffusion.PRETRAINED[name]
    monkeypatch.setattr(models, "free_memory", lambda device: 25 * 10**9)
    said = download.describe("diffusion", name)[0] + make.suits(name)
    for word in (remote.repo, remote.licence, f"{remote.defaults['num_inference_steps']} steps", f"{remote.defaults['num_inference_steps']} 步"):
        assert word in said
    assert ("no guidance" in said) == ("不用引导" in said) == (remote.defaults["guidance_scale"] == 0)
    side = remote.defaults["size"]
    assert f"{side} × {side} pixels" in said and f"{side} × {side} 像素" in said and f"{diffusion.plan(remote, 'cpu', 25 * 10**9).need / 1e9:.1f} GB" in said
    assert ("does not fit" in said) == ("放不下" in said) == (name == "flux.1-schnell")  # 34 GB


@pytest.mark.parametrize("name", ["mini-sd", "digits", *diffusion.PRETRAINED])
def test_choosing_a_model_sets_the_sliders_to_what_suits_it_and_greys_what_does_nothing(name):
    steps, guidance, size, negative, scheduler, limits = make.settle(name)
    defaults = diffusion.PRETRAINED[name].defaults if name in diffusion.PRETRAINED else {"num_inference_steps": 20, "guidance_scale": 4, "size": 512}
    assert (steps, guidance.value, size.value) == (defaults["num_inference_steps"], defaults["guidance_scale"], defaults["size"])
    free = defaults["guidance_scale"] == 0
    assert guidance.interactive == (not free) and negative.interactive == (not free and name != "digits") and size.visible == (name in diffusion.PRETRAINED)
    assert scheduler["interactive"] == (name not in diffusion.OWN_WAY)
    assert ("without guidance" in limits.value) == ("不用引导" in limits.value) == free and limits.visible == (free or name == "digits")


def test_a_model_without_guidance_is_asked_for_none_whatever_the_sliders_say():
    asked = make.checked("a cat", "a dog", 4, 7.5, 1, "sd-turbo")
    assert (asked["guidance_scale"], asked["negative_prompt"]) == (0.0, "")
    asked = make.checked("a cat", "a dog", 4, 7.5, 1, "sd-1.5")
    assert (asked["guidance_scale"], asked["negative_prompt"]) == (7.5, "a dog")
    assert make.sized("sd-turbo", 300) == {"size": 300} and make.sized("mini-sd", 300) == {} and make.sized("sd-1.5", 10**9) == {"size": 1024}


def test_a_grid_goes_over_what_a_model_can_do():
    assert compare.columns("sd-1.5") == compare.columns("mini-sd") == compare.STEPS
    assert compare.columns("z-image-turbo") == (1, 2, 4, 9)
    assert len(compare.rows("guidance", "flux.1-schnell")) == 1 < len(compare.rows("guidance", "sd-1.5"))
