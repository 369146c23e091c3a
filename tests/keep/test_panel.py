"""The code for a result, and the panel that packs, brings and pushes."""

import itertools
import runpy
from types import SimpleNamespace

import pytest
from PIL import Image

import demos.keep
from demos.gan import keep as gan_keep
from demos.gan import make
from genkit import core, gan, keep, models, runs
from genkit.core import Problem
from tests.keep.conftest import TOKEN, bring, drawn, zip_of

# --- the code


WRITTEN = {
    "07": '"07"', 'a"b': r'"a\"b"', "a'b\\": r'''"a'b\\"''', "\n\"'": r'''"\n\"'"''', "数字": '"数字"', 3: "3", 0.5: "0.5", None: "None", (0.0, 0.9): "(0.0, 0.9)",
}  # fmt: skip


@pytest.mark.parametrize("value, python", [*WRITTEN.items(), (True, "True")])
def test_a_value_is_written_as_python_reads_it(value, python):
    assert demos.keep.literal(value) == python


def run_code(code: str, folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "code.py").write_text(code, encoding="utf-8")
    return runpy.run_path(str(folder / "code.py"))


@pytest.mark.parametrize("variant, digits, n, seed", [("dcgan", "0123456789", 20, 7), ("mlp", "3, 7", 5, 123), ("dcgan", "8", 2.0, -5)])
def test_the_code_makes_the_very_pictures_that_the_tab_shows(variant, digits, n, seed, tmp_path, monkeypatch):
    made = run_code(gan_keep.sampling(variant, digits, n, seed), tmp_path, monkeypatch)
    shown = make.pictures(variant, digits, n, seed)
    assert [picture.tobytes() for picture in made["pictures"]] == [picture.tobytes() for picture in shown]
    assert Image.open(tmp_path / f"{len(shown) - 1}.png").tobytes() == shown[-1].tobytes()


def test_markup_and_quotes_in_the_controls_stay_inside_a_string():
    code = gan_keep.sampling("dcgan", '"); import os; ("', 5, 7)
    assert compile(code, "code", "exec").co_names.count("os") == 0


@pytest.fixture
def trained(monkeypatch):
    """A run of a visitor that ended after two of two steps, and one that was stopped after one."""
    monkeypatch.delenv("GENKIT_DATA_DIR", raising=False)

    def start(owner, title, cut=None, **options):
        asked = {"steps": 2, "every": 1, "seed": 4, "batch_size": 4, **options}
        events = gan.train("mlp", **asked)
        run = runs.start(owner, itertools.islice(events, None if cut is None else cut + 1), title=title, about={"variant": "mlp", **asked})
        list(runs.follow(run, owner=owner))
        return run

    return start


@pytest.mark.parametrize("cut", [None, 1])
def test_the_code_of_a_training_trains_the_same_again(trained, cut, tmp_path, monkeypatch):
    run = trained("pupil", f"code {cut}", cut, rules=gan.Rules(d_steps=2), optimizer="rmsprop", latent_dim=5)
    code = gan_keep.training(runs.snapshot(run), "dcgan", "07", 4, 9)
    assert "rules=gan.Rules(d_steps=2)" in code and 'optimizer="rmsprop"' in code and ("break" in code) == bool(cut)
    again = run_code(code, tmp_path, monkeypatch)
    assert again["pictures"] == next(gan.sample(runs.model(run), "07", n=4, seed=9))
    assert next(gan.sample(gan.load(tmp_path / "my-gan"), "07", n=4, seed=9)) == again["pictures"]


def test_rules_that_were_changed_on_the_way_stand_in_the_code():
    own = gan.VARIANTS["dcgan"].rules
    about = {"variant": "dcgan", "steps": 5, "seed": 0, "control": core.Control(own), "exams": 10}
    shot = SimpleNamespace(about=about, step=5, steps=5, settings=own, changed={})
    assert 'for event in gan.train("dcgan", steps=5, seed=0):' in gan_keep.training(shot, "dcgan", "0", 1, 0).splitlines()
    shot.settings, shot.changed = gan.Rules(loss="wasserstein", penalty="gradient"), {"loss": 120, "penalty": 120}
    code = gan_keep.training(shot, "dcgan", "0", 1, 0)
    assert 'rules=gan.Rules(loss="wasserstein", penalty="gradient")' in code and "# changed on the way, here from the start: loss at step 120" in code
    assert compile(code, "code", "exec")


def test_a_training_of_ones_own_is_packed_even_while_it_runs(trained, tmp_path):
    run = trained("pupil", "pack", 1)
    shot = demos.keep.own_run("gan", {"owner": "pupil", "gan": run})
    made = gan_keep.trained(shot, runs.model(run))
    card = made.card.text()
    assert made.name == "my-gan-1" and "| steps | `1 of 2` |" in card and "| seed | `4` |" in card and "4,000 training digits" in card
    with keep.packed(lambda path: gan.save(made.model, path), made.card) as folder:
        assert drawn(bring(tmp_path, keep.zipped(folder))) == drawn(made.model)


@pytest.mark.parametrize("kept", [None, {}, {"owner": "x"}, {"gan": "no such run"}])
def test_who_has_trained_nothing_is_told(kept):
    with pytest.raises(Problem):
        demos.keep.own_run("gan", kept)


def test_the_shipped_weights_are_shared_not_copied():
    assert gan_keep.shipped("dcgan").model is models.use("gan", "dcgan")


# --- the panel


@pytest.fixture(scope="module")
def handlers():
    """The handlers of the panel of the GAN tab, by name."""
    import gradio as gr

    with gr.Blocks() as page:
        there = {"variant": gr.Radio(["dcgan"], value="dcgan"), "digits": gr.Textbox("07"), "n": gr.Number(2), "seed": gr.Number(7)}
        with gr.Accordion() as there["keep"]:
            gan_keep.build(page, gr.BrowserState({}), there)
    assert all(fn.api_visibility == "private" and fn.concurrency_limit for fn in page.fns.values())
    return {fn.fn.__name__: fn.fn for fn in page.fns.values()}


CONTROLS = ("dcgan", "07", 2, 7)


def test_a_zip_from_the_panel_goes_back_into_it_for_this_visitor_alone(handlers, tmp_path, monkeypatch):
    import gradio as gr

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    packed = handlers["pack"]("shipped", {}, *CONTROLS)
    path = packed.value["path"]
    assert path.endswith("gan-dcgan.zip") and packed.visible
    key, _, shown, _ = handlers["bring"]([path], "", *CONTROLS)
    assert shown.count("<img") == 2 and handlers["again"](key, *CONTROLS) == (key, shown)
    for other in ("", "somebody else's"):
        with pytest.raises(gr.Error, match="no model of yours"):
            handlers["again"](other, *CONTROLS)
    handlers["put_away"](key)
    with pytest.raises(gr.Error, match="no model of yours"):
        handlers["again"](key, *CONTROLS)


def test_a_second_model_takes_the_place_of_the_first(handlers, parts, tmp_path):
    import gradio as gr

    (tmp_path / "model.zip").write_bytes(zip_of(parts))
    first, *_ = handlers["bring"]([str(tmp_path / "model.zip")], "", *CONTROLS)
    second, *_ = handlers["bring"]([str(tmp_path / "model.zip")], first, *CONTROLS)
    with pytest.raises(gr.Error, match="no model of yours"):
        handlers["again"](first, *CONTROLS)
    (tmp_path / "bad.zip").write_bytes(b"bad")
    with pytest.raises(gr.Error, match="not a zip"):
        handlers["bring"]([str(tmp_path / "bad.zip")], second, *CONTROLS)
    assert handlers["again"](second, *CONTROLS)[0] == second  # a refused one takes nothing away


@pytest.mark.parametrize(
    "token, said", [(TOKEN, "Your model is on the Hub"), ("hf_of_nobody_at_all", "does not know this token"), ("password", "not a Hub token")]
)
def test_whatever_comes_of_a_push_the_token_goes_from_the_page(handlers, hub, token, said):
    answer, left = handlers["push"]("shipped", {}, "my-first-gan", f" {token} ", True, *CONTROLS)
    assert said in answer and left == "" and token not in answer.replace(said, "")
    assert (f'href="{hub.url}/pupil/my-first-gan"' in answer) == (token == TOKEN)


def test_the_code_of_the_panel_follows_the_choice(handlers):
    assert handlers["code"]("shipped", {}, *CONTROLS) == gan_keep.sampling(*CONTROLS)
    assert handlers["code"]("own", {}, *CONTROLS).startswith("# you have trained no model yet")


def test_the_panel_packs_the_visitors_own_training_and_shows_its_code(handlers, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    kept = {"owner": "pupil", "gan": trained("pupil", "panel")}
    path = handlers["pack"]("own", kept, *CONTROLS).value["path"]
    assert path.endswith("my-gan-2.zip") and drawn(keep.read([path], gan_keep.form())) == drawn(runs.model(kept["gan"]))
    assert 'gan.train("mlp", steps=2, every=1, seed=4, batch_size=4)' in handlers["code"]("own", kept, *CONTROLS)
