"""Runs that rest: pauses, single events, slow motion, changes on the way, the timeline."""

import dataclasses
import time

import pytest

from genkit import runs
from genkit.core import Control, Event, Problem
from tests.runs.conftest import Training, last, quick, until


@dataclasses.dataclass(frozen=True)
class Settings:
    speed: int = 1
    loss: str = "a"


def paused(id: str, step: int) -> bool:
    now = runs.snapshot(id)
    return now.state == "paused" and now.step == step and not runs._runs[id].worked


def test_a_paused_run_gives_its_worker_to_another_and_goes_on_where_it_was():
    runs.configure(workers=1)
    training = Training(6).let(3)
    id, other = runs.start("me", training()), runs.start("you", quick())
    until(lambda: runs.snapshot(id).step == 2)
    runs.pause(id, "me")
    assert runs.snapshot(id).state == "paused"  # for everybody at once; the worker comes out at the next event
    training.let(1)
    assert last(other).state == "done"
    assert paused(id, 3) and runs.model(id) == 3 and not training.closed.is_set()
    runs.resume(id, "me")
    training.let()
    end = last(id)
    assert (end.state, end.step, len(end.metrics)) == ("done", 6, 7)
    assert len(training.threads) == 2  # one worker before the pause, another after it


def test_a_resumed_run_waits_its_turn():
    runs.configure(workers=1)
    training, other = Training(6).let(1), Training(3)
    id = runs.start("me", training())
    until(lambda: runs.snapshot(id).steps)
    runs.pause(id, "me")
    training.let(1)
    until(lambda: paused(id, 1))
    theirs = runs.start("you", other())
    runs.resume(id, "me")
    assert (runs.snapshot(id).state, runs.snapshot(id).place) == ("waiting", 1)
    other.let()
    training.let()
    assert last(theirs).state == last(id).state == "done"


def test_resuming_into_a_full_line_says_so_and_the_run_stays_paused():
    runs.configure(workers=1, line=1)
    id = runs.start("me", quick(10**6))
    runs.pause(id, "me")
    until(lambda: runs.snapshot(id).state == "paused" and not runs._working)
    runs.start("a", Training(1)())
    runs.start("b", Training(1)())
    with pytest.raises(Problem, match="already waiting"):
        runs.resume(id, "me")
    assert runs.snapshot(id).state == "paused"


def test_resumed_before_the_worker_has_come_out_a_run_just_goes_on():
    training = Training(4).let(1)
    id = runs.start("me", training())
    until(lambda: runs.snapshot(id).steps)
    runs.pause(id, "me")
    runs.resume(id, "me")
    training.let()
    assert last(id).state == "done"


def test_a_waiting_run_that_is_paused_leaves_the_line_and_begins_later():
    runs.configure(workers=1)
    first, training = Training(1), Training(2).let()
    runs.start("a", first())
    id, behind = runs.start("me", training()), runs.start("b", quick())
    runs.pause(id, "me")
    assert (runs.snapshot(id).place, runs.snapshot(behind).place) == (0, 1)
    first.let()
    assert last(behind).state == "done" and not training.threads
    runs.resume(id, "me")
    assert last(id).state == "done"


def test_one_event_at_a_time():
    id = runs.start("me", quick(10**6))
    runs.pause(id, "me")
    until(lambda: runs.snapshot(id).state == "paused" and not runs._runs[id].worked)
    step = runs.snapshot(id).step
    for more in (1, 2, 3):
        runs.once(id, "me")
        until(lambda more=more: paused(id, step + more))


def test_a_run_that_has_not_begun_shows_its_beginning_before_its_first_single_event():
    runs.configure(workers=0)
    training = Training(50).let()
    id = runs.start("me", training())
    runs.once(id, "me")
    runs.configure(workers=1)
    until(lambda: paused(id, 1))
    assert runs.snapshot(id).frames == (0, 1)


def test_a_single_event_waits_for_no_whole_training():
    runs.configure(workers=1)
    id = runs.start("me", quick(10**6))
    runs.pause(id, "me")
    until(lambda: runs.snapshot(id).state == "paused" and not runs._working)
    long = runs.start("you", Training(1)())
    waiting = runs.start("them", Training(1)())
    step = runs.snapshot(id).step
    runs.once(id, "me")
    until(lambda: paused(id, step + 1))
    assert [runs.snapshot(other).state for other in (long, waiting)] == ["running", "waiting"]
    runs.once(id, "me")
    runs.resume(id, "me")  # no way around the line
    until(lambda: runs.snapshot(id).state == "waiting" and not runs._runs[id].worked)
    assert (runs.snapshot(waiting).place, runs.snapshot(id).place) == (1, 2)


def test_stopping_a_paused_run_closes_its_generator():
    training = Training(10**6).let()
    id = runs.start("me", training())
    runs.pause(id, "me")
    until(lambda: runs.snapshot(id).state == "paused" and not runs._working)
    assert not training.closed.is_set()
    runs.stop(id, "me")
    assert runs.snapshot(id).state == "stopped" and training.closed.wait(5)
    for operate in (runs.pause, runs.resume, runs.once):
        with pytest.raises(Problem, match="has ended"):
            operate(id, "me")


def test_a_paused_run_whose_owner_is_gone_ends_without_anybody_asking(monkeypatch):
    monkeypatch.setattr(runs, "BEAT", 0.05)
    runs.configure(grace=0.3)
    training = Training(10**6).let()
    id = runs.start("me", training())
    runs.pause(id, "me")
    assert training.closed.wait(5)
    assert runs.snapshot(id).state == "stopped" and "closed" in runs.snapshot(id).problem.en


def test_the_deadline_counts_no_pause():
    id = runs.start("me", quick(10**6), deadline=1.0)
    runs.pause(id, "me")
    until(lambda: runs.snapshot(id).state == "paused" and not runs._working)
    before = runs.snapshot(id).elapsed
    time.sleep(1.1)
    rested = runs.snapshot(id)
    assert rested.state == "paused" and rested.elapsed == before < 1
    runs.resume(id, "me")
    end = last(id)
    assert end.state == "stopped" and "time limit" in end.problem.en and end.elapsed >= 1


def test_two_clicks_train_once_also_while_it_rests():
    id = runs.start("me", Training(5).let(1)(), title="gan")
    runs.pause(id, "me")
    assert runs.start("me", quick(), title="gan") == id == runs.mine("me", "gan")
    assert runs.mine("you", "gan") == runs.mine("me", "vae") == ""
    runs.stop(id, "me")
    assert runs.mine("me", "gan") == ""


def test_not_everybody_can_keep_a_paused_run():
    runs.configure(parked=2, workers=3)
    ids = {owner: runs.start(owner, Training(5)()) for owner in "abc"}
    runs.pause(ids["a"], "a")
    runs.pause(ids["b"], "b")
    runs.pause(ids["b"], "b")  # once more is fine
    with pytest.raises(Problem, match="too many trainings are paused"):
        runs.pause(ids["c"], "c")
    runs.resume(ids["a"], "a")
    runs.pause(ids["c"], "c")


def test_only_the_owner_operates_a_run():
    control = Control(Settings())
    id = runs.start("me", Training(100).let(1)(), control=control)
    operations = [runs.pause, runs.resume, runs.once, lambda id, owner: runs.slow(id, owner, 1), lambda id, owner: runs.change(id, owner, speed=9)]
    for operate in operations:
        for stranger in ("you", "", None, 7):
            with pytest.raises(Problem, match="only the person who started"):
                operate(id, stranger)
    assert runs.snapshot(id).state == "running" and control.now == Settings() and runs.snapshot(id).rest == 0


def test_a_change_reaches_the_training_and_everybody_sees_since_when():
    control, training = Control(Settings()), Training(10).let(3)
    id = runs.start("me", training(), control=control)
    until(lambda: runs.snapshot(id).step == 2)
    runs.change(id, "me", speed=5, loss="a")
    now = runs.snapshot(id)
    assert control.now == now.settings == Settings(speed=5) and now.changed == {"speed": 2}
    with pytest.raises(Problem, match="nothing can be changed") as told:
        runs.change(runs.start("you", quick(10**6)), "you", speed=2)
    assert "不能更改" in told.value.zh


def test_slow_motion_rests_between_events_is_bounded_and_ends_when_told():
    id = runs.start("me", quick(10**6))
    until(lambda: runs.snapshot(id).step > 2)
    runs.slow(id, "me", 1e9)
    assert runs.snapshot(id).rest == runs.SLOWEST
    step, began = runs.snapshot(id).step, time.monotonic()
    time.sleep(0.3)
    assert runs.snapshot(id).step <= step + 1
    runs.pause(id, "me")  # during the rest: at once
    until(lambda: runs.snapshot(id).state == "paused" and not runs._working)
    runs.slow(id, "me", -3)
    runs.resume(id, "me")
    until(lambda: runs.snapshot(id).step > step + 3)
    assert time.monotonic() - began < runs.SLOWEST
    with pytest.raises(Problem):
        runs.slow(id, "me", "fast")


@pytest.mark.parametrize("steps", [3, 59, 60, 1234])
def test_the_timeline_is_bounded_even_and_reaches_from_the_first_event_to_the_newest(steps):
    def training():
        for step in range(steps + 1):
            yield Event(step, steps, {"loss": float(step)}, None, f"picture {step}", Exam(step // 50 * 50))

    id = runs.start("me", training())
    end = last(id)
    assert end.frames[0] == 0 and end.frames[-1] == steps and len(end.frames) <= runs.FRAMES
    assert len({b - a for a, b in zip(end.frames, end.frames[1:-1], strict=False)}) <= 1
    assert [exam.step for exam in end.exams] == [*range(0, steps + 1, 50)] and end.exam == Exam(steps // 50 * 50)
    middle = end.frames[len(end.frames) // 2]
    assert runs.frame(id, middle) == runs.Frame(middle, {"loss": float(middle)}, f"picture {middle}", Exam(middle // 50 * 50))
    assert runs.frame(id, 10**9).step == steps and runs.frame(id, -5).step == 0
    assert len(runs._runs[id].frames.kept) <= runs.FRAMES and len(runs._runs[id].exams.kept) <= runs.FRAMES


@dataclasses.dataclass(frozen=True)
class Exam:
    step: int


def test_a_run_without_events_has_no_frames():
    id = runs.start("me", Training(2)())
    assert runs.snapshot(id).frames == () and runs.snapshot(id).exam is None
    with pytest.raises(Problem, match="nothing yet"):
        runs.frame(id, 0)
