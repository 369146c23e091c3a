"""Trainings in front of a class: the loss by noise level, the promise of the end, digits that learn."""

import math

import pytest
import torch

from genkit import diffusion, swift
from genkit.core import Event
from genkit.diffusion import live, pixel


def test_a_perfect_guess_has_no_loss_at_any_level_and_none_at_all_has_that_of_v_itself():
    alphas_cumprod = torch.linspace(0.999, 0.001, 1000)
    x0, noise = torch.full((200, 2), 2.0), torch.zeros(200, 2)

    def perfect(x_t, t):
        return -(1 - alphas_cumprod[t]).sqrt()[:, None] * 2.0  # v = a noise - s x0

    assert live.by_level(perfect, x0, noise, alphas_cumprod) == pytest.approx([0] * 5, abs=1e-10)
    losses = live.by_level(lambda x_t, t: torch.zeros_like(x_t), x0, noise, alphas_cumprod)
    assert losses == pytest.approx([4 * (1 - alphas_cumprod[200 * level : 200 * level + 200]).mean().item() for level in range(5)], rel=1e-4)


def test_the_end_is_promised_at_the_third_report_and_the_promise_stands():
    events = (Event(step, 8, {}, None, [], live.Exam(step)) for step in range(9))
    exams = [event.exam for event in live.timed(events)]
    assert [exam.promised is None for exam in exams] == [True] * 3 + [False] * 6
    assert len({exam.promised for exam in exams[3:]}) == 1 and exams[3].promised > 0
    assert [exam.arrived is None for exam in exams] == [True] * 8 + [False] and exams[-1].arrived == exams[-1].seconds


def test_a_training_with_one_thread_gives_the_threads_back_at_every_event():
    inside, before = [], torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for _ in swift.single(inside.append(torch.get_num_threads()) for _ in range(2)):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert inside == [1, 1]


def test_digits_are_examined_on_the_way_and_the_loss_falls_where_there_is_much_noise_first(monkeypatch):
    monkeypatch.delenv("GENKIT_DATA_DIR", raising=False)
    monkeypatch.setattr(pixel, "EXAMINED", 10)
    events = list(diffusion.train("digits", steps=8, every=2, batch_size=8, lr=2e-3, exams=4))
    exams = [event.exam for event in events]
    assert [exam.step for exam in exams] == [0, 0, 4, 4, 8]
    assert all(len(exam.losses) == 5 and all(map(math.isfinite, exam.losses)) and 0 <= exam.right <= 1 for exam in exams)
    assert exams[-1].losses[2] < exams[0].losses[2] and exams[-1].promised and exams[-1].arrived


def test_the_page_says_of_every_level_what_it_was_and_what_it_is():
    from demos.diffusion import learn

    shown = learn.examined(
        live.Exam(50, (0.5, 0.25, 0.125, 0.1, 0.0625), 0.44, 12.0, 100.0),
        [live.Exam(0, (1.0, 0.9, 0.8, 0.7, 0.6)), live.Exam(50, (0.5, 0.25, 0.125, 0.1, 0.0625))],
    )
    for said in ("t 0–199", "t 800–999", "<b>0.500</b>", "at first 1<", "at first 0.6", "44% of a hundred", "44% 认成", "after about 100 s", "约 100 秒后结束"):
        assert said in shown, said
    assert shown.count("<polyline") == 5 and learn.examined(None) == ""
