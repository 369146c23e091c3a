"""The GAN lab: what its buttons do to a run, what it says of one, and one visit in a real browser."""

import dataclasses
import json
import math
import re
import time
from types import SimpleNamespace

import gradio as gr
import pytest
from PIL import Image

from demos import training
from demos.gan import learn, report
from genkit import gan, runs
from genkit.core import Event, Problem
from genkit.gan import doctor
from genkit.gan.doctor import Exam
from tests.conftest import finished

OWN = gan.VARIANTS["dcgan"].rules
USUAL = ("dcgan", *learn.recipe("dcgan"), learn.STEPS, 0, False)  # the controls as they are offered


def exam(step=0, **changes):
    return Exam(step, 0.9, (20,) * 10, 9.0, 3.0, 0.8, 0.7, 1.0, 1.0, {}, **changes)


class Trainings:
    """A train() that reports at once what it was called with, step after step, an examination every ten of them."""

    def __init__(self):
        self.calls = []

    def __call__(self, variant, **options):
        self.calls.append({"variant": variant, **options})
        return self.events(options["steps"])

    def events(self, steps):
        for step in range(steps + 1):
            yield Event(step, steps, {"loss_d": 1.0, "loss_g": 2.0} if step else {}, None, [Image.new("L", (28, 28))], exam(step // 10 * 10))
            time.sleep(0.002)


@pytest.fixture
def train(monkeypatch):
    trainings = Trainings()
    monkeypatch.setitem(vars(gan), "train", trainings)
    runs.configure(**vars(runs.Limits()))
    yield trainings
    runs.configure(grace=0)
    end = time.monotonic() + 10
    while runs._line or runs._working:
        assert time.monotonic() < end
        time.sleep(0.01)
    runs._runs.clear()
    runs.configure(**vars(runs.Limits()))


@pytest.fixture(scope="module")
def lab():
    with gr.Blocks() as page:
        kept, parts = training.remembered(), {}
        return SimpleNamespace(kept=kept, parts=parts, desk=learn.build(page, kept, parts))


def visitor(session="page", **query):
    return SimpleNamespace(query_params=query, session_hash=session)


def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.005)


def rests(run, step=None):
    now = runs.snapshot(run)
    return now.state == "paused" and not runs._runs[run].worked and step in (None, now.step)


def shot(**changes):
    rules = changes.pop("settings", gan.Rules())
    about = {"variant": "dcgan"}
    usual = {
        "id": "x", "title": "gan", "state": "running", "place": 0, "expected_wait": 0.0, "step": 50, "steps": 600, "elapsed": 9.0, "remaining": 5.0,
        "metrics": (), "preview": None, "problem": None, "version": 1, "about": about, "settings": rules,
    }  # fmt: skip
    return runs.Snapshot(**{**usual, **changes})


# --- starting


def test_the_page_offers_what_the_trainer_knows():
    from genkit.gan import losses

    assert set(report.LOSSES) == set(losses.LOSSES) and set(losses.PENALTIES) <= set(report.WORDS)
    assert tuple(learn.OPTIMIZERS) == gan.OPTIMIZERS and set(learn.TRAINED) <= set(gan.VARIANTS)
    assert set(report.SETTINGS) | {"players", "single"} == {field.name for field in dataclasses.fields(gan.Rules)}
    assert {"loss_d", "loss_g", "d_real", "d_fake", "d_right", "grad_g"} <= set(training.METRICS)


@pytest.mark.parametrize("variant", learn.TRAINED)
def test_controls_left_alone_are_the_recipe_itself(train, variant):
    run = learn.begin("me", variant, *learn.recipe(variant), 600, 7, False)
    (call,) = train.calls
    assert call.pop("control").now == gan.VARIANTS[variant].rules
    assert call == {"variant": variant, "steps": 600, "every": 10, "seed": 7, "exams": learn.EXAMS}  # only then a time is promised
    assert runs.snapshot(run).about["variant"] == variant


def test_what_a_visitor_asks_for_is_clamped(train):
    learn.begin("me", "dcgan", "sgd", 99, 100, 10**9, "hinge", 10**9, -5, True)
    (call,) = train.calls
    rules = call["control"].now
    assert (call["optimizer"], call["lr"], call["latent_dim"], call["steps"], call["seed"]) == ("sgd", 0.1, 128, training.STEPS, 0)
    assert (rules.loss, rules.d_steps, rules.single) == ("hinge", 5, True)
    assert runs.snapshot(runs.mine("me", "gan")).rest == learn.SLOW


@pytest.mark.parametrize("place, value", [(0, "dcgna"), (1, "adamw"), (2, "nan"), (3, None), (4, []), (5, "loss"), (6, {}), (7, "x")])
def test_what_is_no_choice_is_a_problem_in_both_languages(train, place, value):
    asked = list(USUAL)
    asked[place] = value
    with pytest.raises(Problem) as told:
        learn.begin("me", *asked)
    assert re.search("[\u4e00-\u9fff]", told.value.zh) and not runs.mine("me", "gan")


def test_the_wasserstein_loss_comes_with_a_bound_on_the_slope():
    assert learn.ruled("dcgan", "wasserstein", 1).penalty == "gradient"
    assert learn.ruled("style", "wasserstein", 1).penalty == "gradient" and learn.ruled("mlp", "hinge", 1).penalty == ""


def test_two_clicks_train_once(train):
    assert learn.begin("me", *USUAL) == learn.begin("me", *USUAL)


def test_a_break_takes_the_place_of_the_present_run_and_two_clicks_break_once(train, monkeypatch):
    broken = doctor.Break(("Break", "弄坏"), ("see", "看"), ("why", "因"), ("mend", "修"), {"variant": "mlp", "lr": 0.05, "steps": 900}, {"d_steps": 5})
    monkeypatch.setitem(doctor.BREAKS, "test", broken)
    before, start = learn.begin("me", *USUAL), report.CLINIC.breaking("test", learn.play)
    run = start("me", 600, 3, False)
    assert run != before and start("me", 600, 3, False) == run
    assert runs.snapshot(before).state == "stopped" and runs.mine("me", "gan") == run
    call = train.calls[-1]
    assert (call["variant"], call["lr"], call["steps"], call["seed"], call["control"].now) == ("mlp", 0.05, 900, 3, gan.Rules(d_steps=5))
    assert runs.snapshot(run).about["broken"] == "test"


@pytest.mark.parametrize("key", doctor.BREAKS)
def test_every_break_can_be_started_and_teaches_something(train, lab, key):
    run = report.CLINIC.breaking(key, learn.play)("me", 600, 0, False)
    said = lab.desk.view(runs.snapshot(run), "me", True)[lab.parts["learn_lesson"]]
    assert all(text in said for pair in (doctor.BREAKS[key].see, doctor.BREAKS[key].why, doctor.BREAKS[key].mend) for text in pair)
    assert key in lab.parts["learn_break"] and report.CLINIC.lesson("no such break") == ""


# --- operating


def test_a_single_step_starts_a_run_and_goes_one_step_at_a_time_with_one_player(train, lab):
    step_d, step_g = (learn.stepping(lab.desk, player) for player in ("d", "g"))
    kept = step_d(None, visitor(), *USUAL)
    run = kept["gan"]
    until(lambda: rests(run, 1))
    assert runs.snapshot(run).settings == dataclasses.replace(OWN, players="d", single=True)
    assert step_g(kept, visitor(), *USUAL) == kept
    until(lambda: rests(run, 2))
    assert runs.snapshot(run).settings.players == "g" and len(train.calls) == 1
    learn.go_on(run, kept["owner"])
    until(lambda: runs.snapshot(run).step > 5)
    assert runs.snapshot(run).settings == OWN


def test_nobody_else_steps_mends_or_resumes_a_run(train, lab):
    run = learn.begin("me", *USUAL)
    for act in (report.CLINIC.mending("crowd"), learn.go_on):
        with pytest.raises(Problem, match="only the person who started"):
            act(run, "you")
    with pytest.raises(gr.Error, match="only the person who started"):  # a second screen, without the key
        learn.stepping(lab.desk, "d")({"owner": "you"}, visitor(tab="gan", run=run, key=""), *USUAL)
    assert runs.snapshot(run).settings == OWN and len(train.calls) == 1


def test_slow_motion_shows_every_step_and_ends(train):
    run = learn.begin("me", *USUAL)
    learn.set_slow(run, "me", True)
    now = runs.snapshot(run)
    assert now.rest == learn.SLOW and now.settings.single
    learn.set_slow(run, "me", False)
    now = runs.snapshot(run)
    assert now.rest == 0 and not now.settings.single
    learn.set_slow("", "me", True)  # before there is a run, the box is a wish


def test_a_repair_changes_the_run_that_goes_on(train, lab):
    run = learn.begin("me", *USUAL)
    until(lambda: runs.snapshot(run).step >= 20)
    report.CLINIC.mending("smoothing")(run, "me")
    now = runs.snapshot(run)
    assert now.settings == dataclasses.replace(OWN, **doctor.REPAIRS["smoothing"].changes) and now.state == "running"
    step, said = now.changed["smoothing"], lab.desk.view(now, "me", False)[lab.parts["learn_doctor"]]
    assert f"Changed at step {step}: label smoothing: 0.1" in said and f"第 {step} 步更改：标签平滑：0.1" in said


def test_reset_ends_the_run_and_puts_everything_back(train, lab):
    run = learn.begin("me", *USUAL)
    settings = [lab.parts[f"learn_{name}"] for name in ("variant", "optimizer", "lr", "d_steps", "latent", "loss", "steps", "seed")]
    back = lab.desk.resetting(lambda: learn.usual(lab.parts, settings))({"owner": "me", "gan": run, "vae": "kept"}, visitor())
    assert runs.snapshot(run).state == "stopped"
    assert back[lab.kept] == {"owner": "me", "gan": "", "vae": "kept"}
    assert [back[component] for component in settings] == [*USUAL[:-1]]
    assert back[lab.parts["learn_report"]] == "" and "lit" not in back[lab.parts["learn_formula"]]


def test_one_step_of_d_leaves_g_as_it_is(train, monkeypatch):
    import torch

    from genkit.gan.training import train as real

    monkeypatch.delenv("GENKIT_DATA_DIR", raising=False)
    monkeypatch.setitem(vars(gan), "train", lambda variant, **options: real(variant, channels=8, batch_size=4, **{**options, "exams": 0}))
    run = learn.begin("me", "mlp", *learn.recipe("mlp"), 600, 0, False)

    def weights():
        until(lambda: rests(run), 200)  # torch and accelerate wake up
        model = runs.model(run)
        return [torch.cat([p.detach().flatten().clone() for p in player.parameters()]) for player in (model.generator, model.discriminator)]

    runs.change(run, "me", single=True)
    runs.once(run, "me")
    told = {}
    for players in ("d", "g"):
        (g, d), step = weights(), runs.snapshot(run).step
        runs.change(run, "me", players=players, single=True)
        runs.once(run, "me")
        until(lambda step=step: rests(run, step + 1), 200)
        (g_after, d_after), told[players] = weights(), set(runs.snapshot(run).metrics[-1][1])
        assert (players == "d") == (not torch.equal(d, d_after)) and (players == "g") == (not torch.equal(g, g_after))
    assert "loss_g" not in told["d"] and "loss_d" in told["d"] and "loss_g" in told["g"] and "loss_d" not in told["g"]


# --- what it says


def lit(said):
    return {player for player in ("d", "g") if f'class="term {player} lit"' in said}


@pytest.mark.parametrize(
    "changes, who",
    [
        ({}, {"d", "g"}),
        ({"state": "paused"}, set()),
        ({"state": "paused", "settings": gan.Rules(players="d", single=True)}, {"d"}),
        ({"state": "paused", "settings": gan.Rules(players="g", single=True)}, {"g"}),
        ({"state": "paused", "settings": gan.Rules(single=True)}, {"d", "g"}),
        ({"settings": gan.Rules(d_rate=0.0)}, {"g"}),
        ({"step": 0}, set()),
        ({"state": "done"}, set()),
        ({"settings": None}, set()),
    ],
)
def test_the_term_of_whoever_trains_is_lit(changes, who):
    assert lit(report.game(shot(**changes))) == who
    assert lit(report.game()) == set()


@pytest.mark.parametrize(
    "seconds, promised, arrived, en, zh",
    [
        (3, None, None, "No promise", "暂不承诺"),
        (12, 40, None, "in about 40 s of training; 12 s have passed", "大约训练 40 秒"),
        (55, 40, None, "promised after 40 s of training; 55 s have passed and they are not there yet", "还没有出现"),
        (60, 40, 37, "promised after 40 s of training, came after 37 s", "实际 37 秒"),
        (60, None, 37, "came after 37 s of training. Nothing was promised", "没有承诺"),
    ],
)
def test_the_promise_is_told_as_it_is(seconds, promised, arrived, en, zh):
    said = report.promise(exam(50, seconds=seconds, promised=promised, arrived=arrived))
    assert en in said and zh in said


def test_an_examination_stands_in_words_too():
    said = report.examination(dataclasses.replace(exam(50), counts=(150, 50, 0, 0, 0, 0, 0, 0, 0, 0), frechet=math.nan, right=0.125))
    assert "most of them as 0 (150 times), fewest as 2 (0 times)" in said and "2 of 10 digits are covered" in said
    assert "12%" in said and "–" in said and "as many real digits: 3" in said and "nan" not in said
    told_nothing = report.examination(exam(50), conditional=False)
    assert "As asked" not in told_nothing and "promise" not in told_nothing  # it is not told which digit
    assert report.examination(None) == ""


def test_only_the_owner_of_a_living_run_is_offered_repairs_the_best_one_first(lab, monkeypatch):
    monkeypatch.setattr(doctor, "diagnose", lambda exams: doctor.Diagnosis("collapse", ("Mode <collapse>.", "模式坍塌。"), ("crowd", "wgan-gp")))
    ill = shot(exams=(exam(50), exam(100)))

    def offered(shot, own):
        shown = learn.findings(lab.parts)(shot, own, False)
        return {key: shown[button]["variant"] for key, button in lab.parts["learn_repair"].items() if shown[button]["visible"]}, shown[
            lab.parts["learn_doctor"]
        ]

    monkeypatch.setattr(gr, "Button", lambda **options: options)
    cures, said = offered(ill, True)
    assert cures == {"crowd": "primary", "wgan-gp": "secondary"} and "Mode &lt;collapse&gt;." in said and "模式坍塌。" in said
    assert offered(ill, False)[0] == {} and offered(shot(exams=ill.exams, state="done"), True)[0] == {}
    in_force = dataclasses.replace(gan.Rules(), **doctor.REPAIRS["crowd"].changes)
    assert offered(shot(exams=ill.exams, settings=in_force), True)[0] == {"wgan-gp": "primary"}


def test_after_a_repair_the_doctor_looks_at_newer_examinations_only(monkeypatch):
    seen = []
    monkeypatch.setattr(doctor, "diagnose", lambda exams: seen.append([exam.step for exam in exams]))
    exams = tuple(exam(step) for step in range(0, 400, 50))
    assert "no alarm" in report.CLINIC.diagnosis(shot(exams=exams))[0]
    said, _ = report.CLINIC.diagnosis(shot(exams=exams, changed={"crowd": 250, "players": 340}, settings=gan.Rules(crowd=True)))
    assert seen == [list(range(0, 400, 50)), [300, 350]]
    assert "waits to see whether it helps" in said and "Changed at step 250: D sees whole batches: yes." in said
    assert "Too early" in report.CLINIC.diagnosis(shot(exams=exams[:1]))[0]


# --- the panel of every family


def test_numbers_of_different_scales_have_charts_of_their_own():
    said = training.charts(((0, {}), (10, {"loss_d": 1.5, "d_real": 0.7, "d_fake": 0.2, "grad_g": 44.0}), (20, {"loss_d": math.nan, "loss_other": 2})))
    assert said.count("<svg class=") == 3 and "loss_other</span>: 2" in said and "44" in said
    assert "nan," not in said and ",nan" not in said  # no point of a curve
    assert training.charts(((0, {"loss": 1.0}), (1, {"loss": 0.5}))).count("<svg class=") == 1


@pytest.mark.parametrize("value", [None, "", "{", "[]", '{"at": null}', '{"at": "x"}', '{"steps": [1]}', 7, '{"at": 1e999}', "[" * 10**5])
def test_what_no_timeline_would_send_means_the_newest(value):
    assert training.asked_step(value) is None
    assert training.asked_step('{"at": 40}') == 40 and training.asked_step('{"at": -3}') == 0


def test_a_frame_of_the_timeline_shows_its_pictures_and_numbers(train):
    run = learn.begin("me", *USUAL)
    until(lambda: runs.snapshot(run).step > 30)
    step = runs.snapshot(run).frames[7]
    frame = runs.frame(run, step)
    said = training.back(frame, learn.examined(run, frame.exam))
    assert f"This is step {step};" in said and "<img" in said and "generator's loss</span>" in said and "Examined at step" in said


async def collect(views, n):
    return [await anext(views) for _ in range(n)]


def test_a_page_follows_a_run_once_and_hears_of_it_also_while_it_rests(train, lab, monkeypatch):
    monkeypatch.setattr(training, "TURN", 0.01)
    monkeypatch.setattr(training, "BEAT", 0.05)
    desk = lab.desk
    run = learn.begin("me", *USUAL)
    runs.pause(run, "me")
    until(lambda: rests(run))

    async def visit():
        first = desk.follow(run, "me", "page")
        view, beat = await collect(first, 2)
        assert desk.where in view and json.loads(view[desk.timeline])["run"] == run and not view[desk.pause].interactive and view[desk.resume].interactive
        assert set(beat) == {desk.state} and "paused" in beat[desk.state]  # a sign of life: only then the server sees that a page is gone
        second = desk.follow(run, "me", "page")
        (view,) = await collect(second, 1)
        assert desk.where not in view  # the links stay as they are
        assert [view async for view in first] == [gr.skip()]  # the first one ends, and with nothing that could be shown once more
        await second.aclose()

    finished(visit())
    assert ("page", "gan") not in training._following


# --- in a browser


def test_a_visitor_starts_pauses_steps_resumes_and_stops(visit):
    from playwright.sync_api import expect

    page = visit("/?tab=gan")
    expect(page.locator("#gan-result .made")).to_be_visible(timeout=120_000)
    page.get_by_role("button", name="Train it yourself").click()
    state, patience = page.locator("#gan-learn .run [role=status]"), {"timeout": 60_000, "use_inner_text": True}
    page.locator("#gan-start").click()
    expect(state).to_contain_text(re.compile("training: step [1-9]"), **patience)
    expect(page.locator("#gan-formula .term.lit")).to_have_count(2)
    page.locator("#gan-pause").click()
    expect(state).to_contain_text("paused", **patience)
    expect(page.locator("#gan-formula .term.lit")).to_have_count(0)
    page.locator("#gan-step-d").click()
    expect(page.locator("#gan-formula .term.d.lit")).to_be_visible(timeout=60_000)
    expect(state).to_contain_text(re.compile("paused: step [0-9]+ of"), **patience)
    step = int(re.search("paused: step ([0-9]+) of", state.inner_text())[1])
    page.locator("#gan-step-d").click()
    expect(state).to_contain_text(f"paused: step {step + 1} of", **patience)  # one step of a run that reports every ten
    expect(page.locator("#gan-formula .term.g.lit")).to_have_count(0)
    page.locator("#gan-timeline input").focus()
    page.keyboard.press("Home")
    expect(page.locator(".look .frame")).to_contain_text("This is step 0;")
    expect(page.locator("#gan-report")).to_be_hidden()
    page.keyboard.press("End")
    expect(page.locator(".look .frame")).to_have_count(0)
    page.locator("#gan-resume").click()
    expect(state).to_contain_text("training", **patience)
    page.locator("#gan-stop").click()
    expect(state).to_contain_text("stopped", **patience)
    expect(page.locator("#gan-start")).to_be_enabled()
