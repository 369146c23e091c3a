"""Runs belong to the server; merged calls."""

import gc
import threading
import time
import weakref

import pytest

from genkit import runs
from genkit.core import Event, Problem
from tests.runs.conftest import Net, Training, last, quick, until


def test_a_run_goes_from_the_first_event_to_the_last():
    id = runs.start("me", quick(3), title="gan mlp")
    end = last(id)
    assert (end.state, end.title, end.step, end.steps, end.preview, end.problem) == ("done", "gan mlp", 3, 3, "preview 3", None)
    assert end.metrics == ((0, {}), (1, {"loss": 1.0}), (2, {"loss": 0.5}), (3, {"loss": 1 / 3}))
    assert runs.model(id) == 3
    assert end.ended and end.place == 0 and end.expected_wait == 0 and end.remaining is None


def test_who_comes_back_sees_the_whole_curve_and_can_stop():
    training = Training(100).let(5)
    id = runs.start("me", training())
    first = runs.follow(id)
    while next(first).step < 4:
        pass
    first.close()  # the page was reloaded
    again = next(runs.follow(id))
    assert [step for step, _ in again.metrics] == [0, 1, 2, 3, 4] and again.preview == "preview 4"
    runs.stop(id, "me")
    assert runs.snapshot(id).state == "stopped"


def test_the_generator_lives_and_dies_on_its_own_thread():
    training = Training(2).let()
    last(runs.start("me", training()))
    assert training.closed.wait(5) and len(training.threads) == 1
    assert training.threads != {threading.current_thread()}


def test_two_clicks_train_once():
    training = Training(2)
    id = runs.start("me", training(), title="gan")
    assert runs.start("me", quick(), title="gan") == id
    assert runs.start("you", quick(), title="gan") != id
    assert runs.start("me", quick(), title="vae") != id
    training.let()
    assert last(id).state == "done"
    assert runs.start("me", quick(), title="gan") != id


def test_ids_cannot_be_guessed():
    ids = {runs.start(str(i), quick()) for i in range(5)}
    assert len(ids) == 5 and all(len(id) >= 16 for id in ids)


def test_who_waits_knows_the_place_and_about_how_long():
    runs.configure(workers=1)
    training = Training(10).let(1)
    running = runs.start("a", training(), deadline=100)
    second, third = runs.start("b", quick(), deadline=50), runs.start("c", quick(), deadline=50)
    assert [runs.snapshot(id).place for id in (running, second, third)] == [0, 1, 2]
    assert runs.snapshot(second).expected_wait == pytest.approx(100, abs=5)  # the pace is unknown: the deadline
    assert runs.snapshot(third).expected_wait == pytest.approx(150, abs=5)
    time.sleep(0.2)
    training.let(1)
    until(lambda: runs.snapshot(running).step == 1)
    now = runs.snapshot(running)
    assert now.remaining > 0.5 and runs.snapshot(second).expected_wait == pytest.approx(now.remaining, abs=0.5)
    training.let()
    assert last(third).state == "done"


def test_a_full_line_says_so():
    runs.configure(workers=1, line=2)
    for owner in "abc":
        runs.start(owner, Training(1)())
    with pytest.raises(Problem, match="2 trainings are already waiting") as told:
        runs.start("d", quick())
    assert "2 个训练" in told.value.zh


def test_only_the_owner_stops_a_run():
    training = Training(100).let(1)
    id = runs.start("me", training())
    for stranger in ("you", "", None, 7):
        with pytest.raises(Problem, match="only the person who started"):
            runs.stop(id, stranger)
    assert runs.snapshot(id).state == "running"
    runs.stop(id, "me")
    assert runs.snapshot(id).state == "stopped"
    runs.stop(id, "me")  # once more is fine


def test_stopping_closes_the_generator_and_the_next_run_begins():
    runs.configure(workers=1)
    training = Training(10**6)
    id, waiting = runs.start("me", training()), runs.start("you", quick())
    training.let(3)
    until(lambda: runs.snapshot(id).step == 2)
    runs.stop(id, "me")
    training.let(1)  # the event that the worker was waiting for
    assert training.closed.wait(5)
    assert last(waiting).state == "done"


def test_stopping_early_keeps_the_model():
    training = Training(10**6).let(3)
    id = runs.start("me", training())
    until(lambda: runs.snapshot(id).step == 2)
    runs.stop(id, "me")
    training.let(1)
    assert last(id).step == 3 == runs.model(id)  # the last event is the one the model is at rest in


def test_stop_before_the_first_event_ends_the_run_at_once():
    training = Training(5)
    id = runs.start("me", training())
    until(lambda: runs.snapshot(id).state == "running")
    runs.stop(id, "me")
    stopped = next(runs.follow(id))
    assert (stopped.state, stopped.step, stopped.preview) == ("stopped", 0, None)
    training.let(1)
    assert training.closed.wait(5)


def test_stop_in_the_line_never_begins_the_training():
    runs.configure(workers=1)
    running, training = runs.start("a", Training(5)()), Training(5).let()
    id = runs.start("me", training())
    runs.stop(id, "me")
    assert [seen.state for seen in runs.follow(id)] == ["stopped"]
    runs.stop(running, "a")
    assert not training.threads
    with pytest.raises(Problem, match="no model yet"):
        runs.model(id)


def test_a_problem_in_a_training_reaches_the_visitor_in_both_languages():
    end = last(runs.start("me", Training(2, Problem("no data", "没有数据")).let()()))
    assert (end.state, end.problem.en, end.problem.zh, end.step) == ("failed", "no data", "没有数据", 1)


def test_an_unexpected_failure_is_logged_and_tells_no_internals(caplog):
    end = last(runs.start("me", Training(0, KeyError("secret")).let()()))
    assert end.state == "failed" and "unexpectedly" in end.problem.en and "意外" in end.problem.zh
    assert "secret" not in end.problem.en + end.problem.zh and "KeyError: 'secret'" in caplog.text


def test_out_of_memory_is_a_problem_with_a_remedy():
    end = last(runs.start("me", Training(1, MemoryError()).let()()))
    assert end.state == "failed" and "out of memory" in end.problem.en and "内存不足" in end.problem.zh


def test_a_failed_run_holds_on_to_no_tensors():
    def training():
        tensors = Net()
        alive.append(weakref.ref(tensors))
        yield Event(0, 1, {}, None, "")
        raise Problem("no", "否")

    alive = []
    last(runs.start("me", training()))
    gc.collect()
    assert alive[0]() is None


def test_a_run_whose_owner_is_gone_ends():
    runs.configure(grace=1.0)
    training = Training(10**6)
    id = runs.start("me", training())
    began = time.monotonic()
    while time.monotonic() - began < 1.5:  # present, though nobody follows
        runs.touch(id, "me")
        training.let(1)
        time.sleep(0.02)
    assert runs.snapshot(id).state == "running"
    while not training.closed.is_set():  # gone; a stranger's touch does not count
        runs.touch(id, "you")
        training.let(1)
        time.sleep(0.02)
        assert time.monotonic() - began < 10
    assert runs.snapshot(id).state == "stopped" and "closed" in runs.snapshot(id).problem.en


def test_following_with_the_owners_token_is_being_there():
    runs.configure(grace=1.5)
    training = Training(10)
    mine, training_of_others = runs.start("me", training()), Training(10)
    theirs = runs.start("you", training_of_others())
    states = []
    for seen in runs.follow(mine, owner="me"):
        states.append(seen.state)
        training.let(1)
    assert states[-1] == "done"  # ten events, a quarter second each
    assert runs.snapshot(theirs).state == "stopped"


def test_the_deadline_ends_a_run_and_keeps_what_it_learnt():
    training = Training(10**6)
    id = runs.start("me", training(), deadline=0.3)
    while not training.closed.is_set():
        training.let(1)
        time.sleep(0.01)
    end = last(id)
    assert end.state == "stopped" and "time limit" in end.problem.en and runs.model(id) == end.step > 0


def test_ended_runs_are_kept_for_a_while_and_not_too_many():
    runs.configure(cap=3)
    ids = []
    for i in range(5):
        ids.append(runs.start(str(i), quick()))
        last(ids[-1])
    until(lambda: runs.snapshot(ids[-1]) and len(runs._runs) == 3)
    with pytest.raises(Problem, match="no longer kept"):
        runs.snapshot(ids[0])
    runs.configure(keep=0)
    runs.start("me", quick())
    for call in (runs.snapshot, runs.model, lambda id: next(runs.follow(id)), lambda id: runs.stop(id, "4"), lambda id: runs.touch(id, "4")):
        with pytest.raises(Problem, match="no longer kept"):
            call(ids[-1])


@pytest.mark.parametrize("id", ["", "unknown", None, ["x"], 7])
def test_an_unknown_id_is_a_problem(id):
    with pytest.raises(Problem):
        runs.snapshot(id)


@pytest.mark.parametrize("steps", [150, 199, 200, 1234, 20_000])
def test_a_long_run_keeps_its_whole_curve_in_few_points(steps):
    def training():
        for step in range(steps + 1):
            yield Event(step, steps, {"loss": float(step)}, None, "")

    points = [step for step, _ in last(runs.start("me", training())).metrics]
    assert len(points) <= runs.POINTS and points[0] == 0 and points[-1] == steps
    gaps = [b - a for a, b in zip(points, points[1:], strict=False)]
    assert len(set(gaps[:-1])) == 1 and gaps[-1] <= gaps[0]  # even
    assert len(points) >= min(steps, runs.POINTS // 2)


def test_followers_are_told_at_most_four_times_a_second_and_of_changes_only():
    def training():
        while True:
            yield Event(0, 1, {}, None, "")
            time.sleep(0.001)

    id, times = runs.start("me", training()), []
    for seen in runs.follow(id, owner="me"):
        times.append((time.monotonic(), seen.version))
        if len(times) == 5:
            runs.stop(id, "me")
    assert times[4][0] - times[0][0] >= 0.99
    assert [version for _, version in times] == sorted({version for _, version in times})
    assert list(runs.follow(id, since=times[-1][1])) == []


def test_fifty_followers_see_the_same_end():
    training = Training(20)
    id, ends = runs.start("me", training()), []
    watchers = [threading.Thread(target=lambda: ends.append(last(id))) for _ in range(50)]
    for watcher in watchers:
        watcher.start()
    training.let()
    for watcher in watchers:
        watcher.join(10)
    assert len(ends) == 50 and {(end.state, end.step, end.version) for end in ends} == {("done", 20, ends[0].version)}
