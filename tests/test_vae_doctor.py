"""The failure doctor of the VAE: what it reads in examinations, and what it says of trainings that were really broken."""

import dataclasses

import pytest

from genkit import vae
from genkit.vae import Rules
from genkit.vae.doctor import BREAKS, ILLNESSES, PATIENCE, REPAIRS, SURE, Exam, diagnose

WELL = Exam(200, 85.0, 24.0, 86.0, 24.0, 20, 0.93, 0.8, {"loss": 110.0, "recon": 86.0, "kl": 24.0, "beta": 1.0})
PLAIN = dataclasses.replace(WELL, kl=0.0, test_kl=0.0, active=32, kept=0.3, sharpness=0.6, metrics={**WELL.metrics, "kl": 0.0, "beta": 0.0})


def course(*exams, start=PATIENCE):
    """Examinations one after the other, 25 steps apart."""
    return [dataclasses.replace(exam, step=start + 25 * i) for i, exam in enumerate(exams)]


def at_beta(beta, **changes):
    return dataclasses.replace(WELL, metrics={**WELL.metrics, "beta": beta}, **changes)


ILL = {
    "collapse": at_beta(60.0, recon=218.0, test_recon=217.0, kl=0.1, test_kl=0.1, active=2, kept=0.07, sharpness=0.1),
    "blur": at_beta(4.0, recon=130.0, test_recon=131.0, kl=8.0, test_kl=8.0, kept=0.7, sharpness=0.55),
    "overfit": at_beta(1.0, recon=82.0, test_recon=167.0, test_kl=17.0, kept=0.7, sharpness=0.7),
}


@pytest.mark.parametrize("illness", ILL)
def test_an_illness_is_named_when_it_has_lasted_and_not_before(illness):
    assert diagnose(course(*[ILL[illness]] * (SURE - 1))) is None
    found = diagnose(course(*[ILL[illness]] * SURE))
    assert found.illness == illness and found.repairs and all(found.sentence)
    assert diagnose(course(*[ILL[illness]] * SURE, WELL)) is None  # it has passed


@pytest.mark.parametrize("illness", ILL)
def test_nobody_can_tell_so_early(illness):
    assert diagnose(course(*[ILL[illness]] * SURE, start=0)) is None


def test_a_healthy_training_and_a_plain_autoencoder_raise_no_alarm():
    assert diagnose([]) is None and diagnose(course(*[WELL] * 10)) is None and diagnose(course(*[PLAIN] * 10)) is None


def test_every_illness_has_repairs_that_the_rules_know_and_every_break_an_illness():
    fields = {field.name for field in dataclasses.fields(Rules)}
    for _, repairs in ILLNESSES.values():
        assert repairs and set(repairs) <= set(REPAIRS)
    assert all(set(repair.changes) <= fields for repair in REPAIRS.values())
    assert {broken.illness for broken in BREAKS.values()} == set(ILLNESSES) == {"collapse", "blur", "overfit"}
    assert all(set(broken.rules) <= fields and broken.options["variant"] in vae.VARIANTS for broken in BREAKS.values())


def test_the_doctor_is_light():
    import subprocess
    import sys

    code = "import sys, genkit.vae.doctor; assert 'torch' not in sys.modules and 'PIL' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", BREAKS)
def test_the_doctor_names_what_was_broken_on_purpose(name, monkeypatch):
    from genkit.vae import evaluate

    monkeypatch.delenv("GENKIT_DATA_DIR", raising=False)
    illness, step = evaluate.broken(BREAKS[name], 0)
    assert illness == BREAKS[name].illness and step <= 300


def test_the_doctor_raises_no_alarm_at_a_healthy_training(monkeypatch):
    from genkit.vae import evaluate

    monkeypatch.delenv("GENKIT_DATA_DIR", raising=False)
    healthy = dataclasses.replace(evaluate.HEALTHY, options={**evaluate.HEALTHY.options, "steps": 175})
    assert evaluate.broken(healthy, 0)[0] == ""


def test_a_warm_up_mends_a_collapse_while_the_run_goes_on(monkeypatch):
    from genkit import core

    monkeypatch.delenv("GENKIT_DATA_DIR", raising=False)
    control, exams, ill = core.Control(Rules(beta=60.0)), [], 0
    for event in vae.train(**{**BREAKS["collapse"].options, "steps": 450}, every=25, exams=25, control=control):
        exams.append(event.exam)
        found = diagnose(exams)
        if found and not ill:
            ill = event.step
            control.change(**REPAIRS[found.repairs[0]].changes)
        if event.step == 225:
            break
    assert PATIENCE < ill < 200 and found is None and event.exam.test_kl > 8 and event.exam.active > 16
