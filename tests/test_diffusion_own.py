"""What was trained in the tab goes home as a zip and comes back; what is damaged or foreign is refused with a sentence."""

import ast
import io
import zipfile
from types import SimpleNamespace

import pytest
import torch

from genkit import core, diffusion, keep
from genkit.core import Problem
from genkit.diffusion import live, parcels, pixel, points, teach

CARD = keep.Card("mine", "a model", {}, "data", "code\n")


def zipped(save, path):
    with keep.packed(save, CARD) as folder:
        path.write_bytes(keep.zipped(folder))
    return path


@pytest.fixture(scope="module")
def models():
    return {"digits": pixel.pipeline(core.build(pixel.unet, 1).eval()), "points": core.build(points.Mover, 1).eval(), "own": parcels._fresh()}


@pytest.fixture(scope="module")
def zips(models, tmp_path_factory):
    from demos.diffusion import own

    folder = tmp_path_factory.mktemp("zips")
    saves = {"digits": diffusion.save, "points": own.points_save, "own": diffusion.save}
    return {name: zipped(lambda path, name=name: saves[name](models[name], path), folder / f"{name}.zip") for name in models}


FORMS = {"digits": parcels.digits, "points": parcels.drawn_points, "own": parcels.own_model}


def weights(model):
    return {f"{index} {key}": part for index, net in enumerate([getattr(model, name) for name in ("unet", "text_encoder") if hasattr(model, name)] or [model]) for key, part in net.state_dict().items()}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_a_model_comes_back_as_it_went(name, models, zips):
    again = keep.read([zips[name]], FORMS[name]())
    before, after = weights(models[name]), weights(again)
    assert type(again) is type(models[name]) and before.keys() == after.keys()
    assert all(torch.allclose(before[key].float(), after[key].float(), atol=2e-3) for key in before)  # in half precision on the way
    assert not any(net.training for net in FORMS[name]().networks(again))


def test_diffusers_alone_opens_the_folder_of_ones_own_text_to_image_model(zips, tmp_path):
    from diffusers import StableDiffusionPipeline

    with zipfile.ZipFile(zips["own"]) as archive:
        archive.extractall(tmp_path)
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path)
    pipe.set_progress_bar_config(disable=True)
    assert pipe("a cat", num_inference_steps=2).images[0].size == (64, 64)


@pytest.mark.parametrize("name, other", [("digits", "own"), ("own", "digits"), ("points", "digits"), ("digits", "points")])
def test_a_model_of_another_kind_is_refused(name, other, zips):
    with pytest.raises(Problem, match="the zip holds|is missing|does not fit|is too large"):
        keep.read([zips[other]], FORMS[name]())


def changed(source, target, change):
    """A copy of a zip with change(name, data) -> data in place of each file's data."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return target


def spoilt(data: bytes) -> bytes:
    from safetensors.torch import load, save

    state = load(data)
    key = next(iter(state))
    return save({**state, key: torch.full_like(state[key], float("nan"))})


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(
    "damage, match", [(lambda data: data[: len(data) // 2], "damaged or cut off"), (spoilt, "not all finite"), (lambda data: b"", "damaged")]
)
def test_damaged_weights_are_refused(name, damage, match, zips, tmp_path):
    broken = changed(zips[name], tmp_path / "broken.zip", lambda file, data: damage(data) if file.endswith(".safetensors") else data)
    with pytest.raises(Problem, match=match):
        keep.read([broken], FORMS[name]())


def test_settings_that_lie_change_nothing(zips, tmp_path):
    lying = changed(zips["digits"], tmp_path / "lying.zip", lambda file, data: b'{"_class_name": ["os", "system"]}' if file.endswith(".json") else data)
    assert type(keep.read([lying], parcels.digits())).__name__ == "DDIMPipeline"


def run_of(model: str) -> SimpleNamespace:
    about = {"seed": 3, "steps": 400, "every": 25, "exams": 50, "things": ("cat / 猫", 'my "teddy"')}
    exam = teach.Exam(100, (0.5,) * 5, 0.5, true=0.2, other=0.3) if model == "own" else live.Exam(100, (0.5,) * 5, 0.5)
    return SimpleNamespace(about=about, step=100, steps=400, exam=exam)


def test_the_card_and_the_code_say_how_it_came_to_be(models):
    from demos.diffusion import own

    made = {"digits": own.digits_made, "points": own.points_made, "own": own.own_made}
    code = {"digits": own.digits_code, "points": own.points_code, "own": lambda run: own.own_code(run, "")}
    for name in made:
        found = made[name](run_of(name), models[name])
        assert "100" in found.name and "0.500" in found.card.text() and "licence" in found.card.text()
        ast.parse(code[name](run_of(name)))
        ast.parse(found.card.code)
    assert 'sprites.named("my \\"teddy\\""' in own.own_code(run_of("own"), "") and "step >= 100" in own.digits_code(run_of("digits"))


def test_the_page_shows_what_a_model_that_was_brought_can_do(models, zips):
    from demos.diffusion import own

    assert "<img" in own.digits_shown(models["digits"]) and own.own_shown(models["own"], "<i>a cat").count("<img") == 4
    assert len({keeping.place for _, keeping in own.KEEPINGS}) == 3
    assert io.BytesIO(zips["own"].read_bytes()).getbuffer().nbytes < 40 << 20
