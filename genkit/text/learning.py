"""Learning a text in front of somebody: three parts, the best model kept, over-fitting named, a promise of time. Whatever the model is, train() teaches it.

This file stays light: the page imports it before torch.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from genkit import core
from genkit.core import Event
from genkit.stopwatch import Stopwatch
from genkit.text.own import Parts

PATIENCE, RISE = 3, 0.02  # reports in a row, and the share of the lowest validation loss by which they must exceed it, before a rise is no chance
TESTED = 32  # windows of the test part, evenly spread


@dataclass(frozen=True)
class Exam:
    """How far a training has come, as of a report. Losses in nats per token."""

    step: int
    best: int  # the step with the lowest validation loss so far: the model of that moment is the one that is kept
    loss_val: float  # that loss
    test: float | None = None  # of the kept model on the test part, when the training has come to its end
    seconds: float = 0.0  # of training so far, pauses not counted
    promised: float | None = None  # seconds after which the end was promised; None before the calibration, or where the run is too short for one
    arrived: float | None = None  # seconds after which it came


def learn(variant: str, parts: Parts, *, seed: int = 0, **settings) -> Iterator[Event]:
    """train() on the first part; Event.model is the model with the lowest loss on the second one so far, Event.exam an Exam after the first report.

    The samples are those of the present model, and at the end of the kept one. settings: those of train(): steps, every, batch_size, lr.
    The parts are held only as long as the generator is. Prechelt 1998, "Early stopping - but when?": https://doi.org/10.1007/3-540-49430-8_3
    """
    from genkit.text.training import train

    watch, exam, kept = Stopwatch(0), Exam(0, 0, math.inf), None
    watch.go()
    for event in train(variant, corpus=parts, seed=seed, **settings):
        if event.step and not exam.step:
            watch.goal, watch.calibration = event.steps, (event.step, 3 * event.step)  # all reports are as far apart as the first two
        watch.step(True, event.step - exam.step)
        loss = event.metrics.get("loss_val", math.inf)
        better = loss < exam.loss_val
        if better or kept is None:
            kept = _copy(event.model)
        exam = Exam(event.step, event.step if better else exam.best, min(loss, exam.loss_val) if better else exam.loss_val)
        over = event.step == event.steps
        if over:
            event, exam = _handed_out(event, exam, kept, parts, seed)
        exam = watch.told(exam, over)
        watch.rest()
        yield dataclasses.replace(event, model=kept, exam=exam if event.metrics else None)
        watch.go()


def _copy(model):
    """The model as it is now, built anew: what is hooked on to it for the training stays behind. Its tokenizer, which does not learn, is shared."""
    other = core.build(lambda: type(model)(copy.deepcopy(model.config)), 0)
    other.load_state_dict(model.state_dict())
    other.generation_config, other.tokenizer = copy.deepcopy(model.generation_config), model.tokenizer
    return other.to(model.device).eval()


def _handed_out(event: Event, exam: Exam, kept, parts: Parts, seed: int) -> tuple[Event, Exam]:
    """The last event with samples of the kept model, and its loss on the part that nothing was chosen by."""
    from genkit.text.sampling import sample
    from genkit.text.training import SHOWN, encode, validation

    if exam.best != event.step:
        *_, preview = sample(kept, "", max_new_tokens=SHOWN, seed=seed)
        event = dataclasses.replace(event, preview=preview)
    test = validation(kept, encode(kept.tokenizer, parts.test), most=TESTED)
    return event, dataclasses.replace(exam, test=test)


def overfit(points: Sequence[tuple[int, dict[str, float]]]) -> int | None:
    """The step since which a model learns by heart, None if it does not: there the validation loss was lowest; it has risen since, while the training loss fell.

    points: (step, {"loss", "loss_val"}), as a run's curve has them.
    """
    told = [(step, row["loss"], row["loss_val"]) for step, row in points if math.isfinite(row.get("loss_val", math.nan)) and "loss" in row]
    if not told:
        return None
    best = min(range(len(told)), key=lambda index: told[index][2])
    step, loss, lowest = told[best]
    since = told[best + 1 :][-PATIENCE:]
    if len(since) < PATIENCE:
        return None
    risen = all(loss_val > lowest + RISE * abs(lowest) for _, _, loss_val in since)
    fallen = sum(loss for _, loss, _ in since) / PATIENCE < loss
    return step if risen and fallen else None
