"""The failure doctor: what it reads in examinations, what it says of games that were really broken, and that its repairs really mend."""

import dataclasses

import pytest

from genkit import core
from genkit.gan import VARIANTS, Rules, evaluate
from genkit.gan.doctor import BREAKS, ILLNESSES, REPAIRS, SURE, Exam, diagnose
from genkit.gan.training import train

WELL = Exam(100, 0.9, (20,) * 10, 6.0, 1.3, 0.7, 0.6, 0.9, 1.0, {"loss_d": 0.8, "loss_g": 1.0, "d_real": 0.7, "d_fake": 0.4, "d_right": 0.85, "grad_g": 3.0})
YOUNG = dataclasses.replace(WELL, right=0.1, counts=(0,) * 8 + (200, 0), frechet=80.0, precision=0.0, recall=0.0, variety=0.3, roughness=1.7)


@pytest.fixture(autouse=True)
def hermetic(monkeypatch):
    monkeypatch.delenv("GENKIT_DATA_DIR", raising=False)


def course(*exams, start=100):
    """Examinations one after the other, 25 steps apart."""
    return [dataclasses.replace(exam, step=start + 25 * i) for i, exam in enumerate(exams)]


def with_metrics(exam, **metrics):
    return dataclasses.replace(exam, metrics={**exam.metrics, **metrics})


ILL = {
    "noise": with_metrics(dataclasses.replace(YOUNG, roughness=6.0), d_right=0.0, grad_g=0.1),
    "d-wins": with_metrics(YOUNG, d_right=1.0, grad_g=0.2),
    "collapse": with_metrics(dataclasses.replace(YOUNG, roughness=1.0), d_right=0.4, grad_g=0.1),
}


@pytest.mark.parametrize("illness", ILL)
def test_an_illness_is_named_when_it_has_lasted_and_not_before(illness):
    assert diagnose(course(*[ILL[illness]] * (SURE - 1))) is None
    found = diagnose(course(*[ILL[illness]] * SURE))
    assert found.illness == illness and found.repairs and all(found.sentence)
    assert diagnose(course(*[ILL[illness]] * SURE, WELL)) is None  # it has passed


def test_a_healthy_game_and_a_young_one_raise_no_alarm():
    assert diagnose([]) is None
    assert diagnose(course(*[WELL] * 10)) is None
    assert diagnose(course(*[YOUNG] * 10)) is None  # alike and bad, but D sees it and G is told so
    assert diagnose(course(*[ILL["noise"]] * 3, start=0)) is None  # nobody can tell so early


def test_digits_that_come_and_go_are_an_oscillation():
    odd = dataclasses.replace(WELL, counts=(40, 0) * 5)
    even = dataclasses.replace(WELL, counts=(0, 40) * 5)
    assert diagnose(course(*[odd, even] * SURE)).illness == "oscillation"
    assert diagnose(course(*[odd, odd] * SURE)) is None


def test_entropy_is_zero_for_one_digit_and_log_ten_for_all():
    assert YOUNG.entropy == 0 and WELL.entropy == pytest.approx(2.302585) and (YOUNG.covered, WELL.covered) == (1, 10)


def test_every_illness_has_repairs_that_the_rules_know_and_every_break_an_illness():
    fields = {field.name for field in dataclasses.fields(Rules)}
    for _, repairs in ILLNESSES.values():
        assert repairs and set(repairs) <= set(REPAIRS)
    assert all(set(repair.changes) <= fields for repair in REPAIRS.values())
    assert {broken.illness for broken in BREAKS.values()} <= set(ILLNESSES) and len(BREAKS) == 3
    assert all(set(broken.rules) <= fields for broken in BREAKS.values())


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", BREAKS)
def test_the_doctor_names_what_was_broken_on_purpose(name, seed):
    assert evaluate.broken(BREAKS[name], seed) == BREAKS[name].illness


@pytest.mark.parametrize("seed", [0, 1])
def test_the_doctor_raises_no_alarm_at_a_healthy_game(seed):
    assert evaluate.alarm(evaluate.examined("dcgan", 150, seed, {}, {"batch_size": 32})) == ""


def test_a_broken_game_is_reproducible_from_its_seed():
    def begin():
        broken = BREAKS["noise"]
        options = {**broken.options, "steps": 10}
        control = core.Control(dataclasses.replace(VARIANTS["dcgan"].rules, **broken.rules))
        return [event.exam for event in train(options.pop("variant"), every=5, exams=5, seed=4, control=control, **options)]

    timeless = [[dataclasses.replace(exam, seconds=0, promised=None, arrived=None) for exam in begin()] for _ in range(2)]
    assert timeless[0] == timeless[1]


def test_the_first_repair_mends_the_same_game():
    broken = BREAKS["noise"]
    options = dict(broken.options)
    control = core.Control(dataclasses.replace(VARIANTS["dcgan"].rules, **broken.rules))
    exams, ill_at = [], 0
    for event in train(options.pop("variant"), every=25, exams=25, seed=3, control=control, **options):
        exams.append(event.exam)
        found = diagnose(exams)
        if found and not ill_at:
            ill_at, exams = event.step, []
            control.change(**REPAIRS[found.repairs[0]].changes)
        if ill_at and event.step >= ill_at + 100:
            break
    assert ill_at and diagnose(exams) is None
    assert exams[-1].roughness < 3 < ILL["noise"].roughness and exams[-1].metrics["grad_g"] > 1
