"""A run of the VAE tab, what is kept of it, and its lesson. Untrained models, no browser."""

import time
from types import SimpleNamespace

import gradio as gr
import pytest
from PIL import Image

from demos import training
from demos.vae import keep, learn, report
from genkit import runs, vae
from genkit.core import Event, Problem
from genkit.vae import doctor

# --- training


def exam(step=0, **changes):
    picture = Image.new("L", (28, 28))
    usual = {"recon": 80.0, "kl": 25.0, "test_recon": 82.0, "test_kl": 25.0, "active": 20, "kept": 0.9, "sharpness": 0.9, "metrics": {"beta": 1.0}}
    return doctor.Exam(step, **{**usual, **changes}, pictures=((picture, picture),) * 10)


@pytest.fixture
def train(monkeypatch):
    """A train() that remembers what it was called with, and reports every step."""
    calls = []

    def events(variant, **options):
        calls.append({"variant": variant, **options})

        def steps():
            for step in range(options["steps"] + 1):
                yield Event(
                    step, options["steps"], {"loss": 1.0, "recon": 1.0, "kl": 1.0, "beta": 1.0} if step else {}, None, [Image.new("L", (28, 28))], exam(step)
                )
                time.sleep(0.002)

        return steps()

    monkeypatch.setitem(vars(vae), "train", events)
    runs.configure(**vars(runs.Limits()))
    yield calls
    runs.configure(grace=0)
    end = time.monotonic() + 10
    while runs._line or runs._working:
        assert time.monotonic() < end
        time.sleep(0.01)
    runs._runs.clear()
    runs.configure(**vars(runs.Limits()))


@pytest.mark.parametrize("variant", learn.TRAINED)
def test_controls_left_alone_are_the_recipe_itself(train, variant):
    learn.begin("me", variant, *learn.recipe(variant), 0, 600, 7)
    (call,) = train
    assert call.pop("control").now == vae.VARIANTS[variant].rules
    assert call == {"variant": variant, "steps": 600, "every": 10, "seed": 7, "exams": learn.EXAMS}


def test_beta_takes_effect_while_the_run_goes_on_and_only_for_its_owner(train):
    run = learn.begin("me", "conv", *learn.recipe("conv"), 0, 5000, 0)
    learn.setting("beta")(run, "me", 7)
    learn.setting("beta")(run, "you", 9)
    learn.setting("warmup")(run, "me", 10**9)
    assert runs.snapshot(run).settings == vae.Rules(beta=7.0, warmup=learn.LIMITS["warmup"][1]) and train[0]["control"].now.beta == 7.0
    with pytest.raises(Problem, match="must be a number"):
        learn.setting("beta")(run, "me", "much")


@pytest.mark.parametrize("key", doctor.BREAKS)
def test_a_run_is_broken_as_the_doctor_says_and_a_double_click_breaks_once(train, key):
    run = report.CLINIC.breaking(key, learn.play)("me", 600, 0)
    broken = doctor.BREAKS[key]
    assert report.CLINIC.breaking(key, learn.play)("me", 600, 0) == run and len(train) == 1 and runs.snapshot(run).about["broken"] == key
    assert all(getattr(train[0]["control"].now, name) == value for name, value in broken.rules.items())
    assert all(train[0].get(name, value) == value for name, value in broken.options.items())
    assert broken.label[0] in report.CLINIC.lesson(key) and report.CLINIC.lesson("no such") == ""


def shot(**changes):
    usual = {
        "id": "x", "title": "vae", "state": "running", "place": 0, "expected_wait": 0.0, "step": 50, "steps": 600, "elapsed": 9.0, "remaining": 5.0,
        "metrics": (), "preview": None, "problem": None, "version": 1, "about": {"variant": "conv"}, "settings": vae.Rules(),
    }  # fmt: skip
    return runs.Snapshot(**{**usual, **changes})


def test_the_doctor_names_the_collapse_and_offers_what_would_change_something():
    ill = tuple(exam(step, test_kl=0.1, kept=0.1, active=0, metrics={"beta": 60.0}) for step in (150, 175, 200, 225))
    said, cures = report.CLINIC.diagnosis(shot(exams=ill, settings=vae.Rules(beta=60.0)))
    assert "collapse" in said and cures and all(key in doctor.REPAIRS for key in cures)
    said, cures = report.CLINIC.diagnosis(shot(exams=ill, settings=vae.Rules(beta=1.0), changed={"beta": 230}))
    assert cures == () and "waits to see" in said and "Changed at step 230" in said


def test_an_examination_shows_digits_before_and_after_and_its_numbers_in_words():
    shown = report.examination(exam(25), 32)
    assert shown.count("<img") == 20 and "107.0" in shown and "20 <small>" in shown and "90%" in shown
    assert report.examination(None, 32) == "" and "–" in report.figures(exam(25, test_recon=float("nan")), 32)


def test_the_formula_shows_the_beta_in_force():
    assert ">β</b>" in report.game() and "lit" not in report.game()
    growing = report.game(shot(metrics=((40, {"beta": 0.5}),)))
    assert ">0.5</b>" in growing and "β is growing: 0.5 now, 1 in the end" in growing


# --- keeping and teaching


def test_a_model_is_kept_as_it_was_trained_and_its_code_repeats_it(train):
    run = learn.begin("me", "conv", 4, 0, 0, 8, 2e-3, 50, 600, 7)
    code = keep.training(runs.snapshot(run), "conv", 5, 3)
    compile(code, "code", "exec")
    assert 'vae.train("conv", ' in code and "examples=50" in code and "rules=vae.Rules(beta=4.0)" in code and "latent_dim=8" in code and "seed=7" in code
    compile(keep.sampling("conv", 10**9, 3), "code", "exec")
    assert "n=64" in keep.sampling("conv", 10**9, 3)


def test_a_model_that_was_brought_redraws_and_dreams(tiny):
    assert keep.show(tiny["conv"], "conv", 64, 7).count("<img") == 10 + keep.MOST
    assert {"arch", "latent_dim", "channels", "variational", "conditional"} <= set(keep.form().fields)


def test_reset_ends_the_run_and_puts_everything_back(train):
    with gr.Blocks() as page:
        kept, found = training.remembered(), {}
        desk = learn.build(page, kept, found)
    settings = [found[f"learn_{name}"] for name in ("variant", "beta", "free_bits", "warmup", "latent", "lr", "examples", "steps", "seed")]
    run = learn.begin("me", "conv", *learn.recipe("conv"), 0, 5000, 0)
    back = desk.resetting(lambda: learn.usual(found, settings))(
        {"owner": "me", "vae": run, "gan": "kept"}, SimpleNamespace(query_params={}, session_hash="page")
    )
    assert runs.snapshot(run).state == "stopped" and back[kept] == {"owner": "me", "vae": "", "gan": "kept"}
    assert [back[component] for component in settings] == ["conv", *learn.recipe("conv"), 0, learn.STEPS, 0]
