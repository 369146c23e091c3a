"""A run belongs to the server, not to a connection: a worker pumps a train() generator, anyone with its id can follow it, only its owner operates it.

A run waits in a bounded line for one of a few workers, then runs until it is done, stopped, failed, past its deadline, or its owner has been gone
for longer than the grace time. In each of these endings its generator is closed and its worker takes the next run. A paused run gives its worker back
and waits in the line again when it is resumed, perhaps for another worker. A generator can only be left at an event: a run that is told to stop or to
pause does so at once for everybody who follows it, its worker at the next event.
"""

from __future__ import annotations

import heapq
import logging
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from genkit.core import Control, Event, Problem, number
from genkit.models import guard
from genkit.records import Frame, Snapshot, Thinned

POINTS, FRAMES = 200, 60  # of a curve, of the timeline that are kept
DEADLINE = 600.0  # seconds of running, unless a run is given another one
SLOWEST = 2.0  # seconds of rest between two events, at most
TICK, BEAT = 0.25, 2.0  # seconds between two snapshots that follow() yields: at least, at most
LET_GO = 5.0  # seconds that follow() waits for the last event of a run that was told to stop

log = logging.getLogger(__name__)


@dataclass
class Limits:
    workers: int = 2  # runs at a time
    line: int = 20  # runs waiting
    parked: int = 40  # runs paused
    grace: float = 120.0  # seconds without a touch() until an owner counts as gone
    keep: float = 1800.0  # seconds that an ended run is kept
    cap: int = 40  # ended runs kept


class _Run:
    def __init__(self, owner: str, events: Iterator[Event], title: str, deadline: float, about: dict[str, Any], control: Control | None):
        self.id, self.owner, self.title, self.deadline, self.about = secrets.token_urlsafe(12), owner, title, deadline, about
        self.events, self.state, self.problem, self.version = guard(events), "waiting", None, 0
        self.control, self.changes = control, {}
        self.touched, self.ended = time.monotonic(), None
        self.worked = False  # a worker is inside the generator
        self.since, self.spent = None, 0.0  # when the worker came; seconds of running before
        self.allowed, self.again, self.rest = None, False, 0.0  # events until it is paused, None: no end; in line once more after that; seconds between events
        self.first = self.newest = None  # (seconds of running, step), (seconds of running, event)
        self.curve, self.frames, self.exams = Thinned(POINTS), Thinned(FRAMES), Thinned(FRAMES)

    def record(self, event: Event) -> None:
        self.newest = (self.elapsed(time.monotonic()), event)
        self.first = self.first or (self.newest[0], event.step)  # the step alone: an event would hold its model
        self.curve.add((event.step, dict(event.metrics)))
        self.frames.add(Frame(event.step, dict(event.metrics), event.preview, event.exam))
        if event.exam is not None and (self.exams.newest is None or event.exam.step != self.exams.newest.step):  # it stays until the next one
            self.exams.add(event.exam)
        self.changed()

    def changed(self) -> None:
        self.version += 1
        _changed.notify_all()

    def elapsed(self, now: float) -> float:
        return self.spent + (0.0 if self.since is None else (self.ended or now) - self.since)

    def remaining(self, now: float) -> float | None:
        """Seconds to go at the pace between the first event and the newest; at most what the deadline leaves."""
        if self.ended or self.newest is None or self.newest[1].step <= self.first[1]:
            return None
        (then, event), (since, step), elapsed = self.newest, self.first, self.elapsed(now)
        pace = (then - since) / (event.step - step)
        return max(0.0, min((event.steps - event.step) * pace - (elapsed - then), self.deadline - elapsed))


_limits = Limits()
_changed = threading.Condition()  # guards everything below
_runs: dict[str, _Run] = {}
_line: list[_Run] = []
_working: list[_Run] = []
_watchman: threading.Thread | None = None


def configure(**limits: float) -> None:
    """Set workers, line, grace, keep or cap: the fields of Limits."""
    for name in limits:
        if name not in Limits.__dataclass_fields__:
            raise TypeError(f"unknown limit {name!r}; choose from: {', '.join(Limits.__dataclass_fields__)}")
    with _changed:
        vars(_limits).update(limits)
        _hire()


def start(
    owner: str, events: Iterator[Event], *, title: str = "", deadline: float = DEADLINE, about: dict[str, Any] | None = None, control: Control | None = None
) -> str:
    """Put the run into the line; its id. While a run of the same owner and title is alive, that one's id: two clicks train once.

    `events` is not advanced on the caller's thread. deadline: seconds of running. about: what snapshots say it was started with.
    control: what the training looks at on its way, for change(). Raises Problem when the line is full.
    """
    with _changed:
        _tend()
        alive = _mine(owner, title)
        if alive:
            return alive.id
        _room()
        run = _Run(owner, events, title, deadline, about or {}, control)
        _runs[run.id] = run
        _line.append(run)
        run.changed()
        _hire()
        return run.id


def mine(owner: str, title: str) -> str:
    """The id of this owner's run of this title that has not ended; "" if there is none."""
    with _changed:
        _tend()
        run = _mine(owner, title)
        return run.id if run else ""


def owns(id: str, owner: str) -> bool:
    """Whether this owner started the run. Raises Problem where it is no longer kept."""
    with _changed:
        return _owns(_get(id), owner)


def snapshot(id: str) -> Snapshot:
    with _changed:
        run = _get(id)
        _tend()
        return _snapshot(run)


def touch(id: str, owner: str) -> None:
    """The owner is still there. Anybody else's token does nothing."""
    with _changed:
        run = _get(id)
        if _owns(run, owner):
            run.touched = time.monotonic()


def stop(id: str, owner: str) -> None:
    """End the run, waiting, running or paused; what it has learnt stays. Raises Problem without its owner's token; an ended run stays as it is."""
    with _changed:
        _end(_owned(id, owner), "stopped")


def pause(id: str, owner: str) -> None:
    """Let the run rest at its next event and give its worker back. Raises Problem for a stranger, for an ended run, and where too many rest."""
    with _changed:
        run = _owned(id, owner, alive=True)
        if run.state == "paused":
            return
        if sum(other.state == "paused" for other in _runs.values()) >= _limits.parked:
            raise Problem("too many trainings are paused; stop this one, or let it go on", "暂停的训练太多；请停止这个训练，或让它继续")
        run.allowed, run.again = 0, False
        _rest(run)


def resume(id: str, owner: str) -> None:
    """Put a paused run into the line again. Raises Problem for a stranger, for an ended run, and when the line is full."""
    with _changed:
        run = _owned(id, owner, alive=True)
        if run.worked and run.allowed is not None:  # on its way to its next event: from there
            run.again, run.state = True, "running"
        elif run.allowed is not None:
            if run in _line:  # for a single event, in front of those who wait for more
                _line.remove(run)
            _room()
            run.allowed, run.state = None, "waiting"
            _line.append(run)
        run.changed()
        _hire()


def once(id: str, owner: str) -> None:
    """Let the run go to its next event and rest there; one that has not begun shows its beginning first. It waits for no whole training of others.

    Raises Problem for a stranger and for an ended run.
    """
    with _changed:
        run = _owned(id, owner, alive=True)
        run.allowed, run.again = 1 if run.newest else 2, False
        if run.worked:
            run.state = "running"
        else:
            run.state = "waiting"
            if run in _line:
                _line.remove(run)
            _line.insert(sum(other.allowed is not None for other in _line), run)
        run.changed()
        _hire()


def slow(id: str, owner: str, seconds: float) -> None:
    """Rest so many seconds after each event, between 0 and SLOWEST. Raises Problem for a stranger and for an ended run."""
    with _changed:
        run = _owned(id, owner, alive=True)
        run.rest = number(seconds, 0.0, SLOWEST, "seconds")
        run.changed()


def change(id: str, owner: str, **changes: Any) -> None:
    """Change settings of the running training: they count from its next step on. Raises Problem for a stranger, and where nothing can be changed."""
    with _changed:
        run = _owned(id, owner, alive=True)
        if run.control is None:
            raise Problem("nothing can be changed in this training while it runs", "这个训练在进行中不能更改设置")
        before = run.control.now
        run.control.change(**changes)
        step = run.newest[1].step if run.newest else 0
        run.changes |= {name: step for name in changes if getattr(before, name) != getattr(run.control.now, name)}
        run.changed()


def frame(id: str, step: int) -> Frame:
    """What the run looked like: the last of its kept frames at or before this step, the first one for an earlier step. Raises Problem before the first event."""
    with _changed:
        frames = _get(id).frames.items()
        if not frames:
            raise Problem("this training has shown nothing yet; wait for its first result", "这次训练还没有任何结果；请等待第一个结果")
        return next((frame for frame in reversed(frames) if frame.step <= step), frames[0])


def model(id: str) -> Any:
    """The model of the newest event: at rest when the run has ended or rests, else only until the next event. Raises Problem before the first one."""
    with _changed:
        run = _get(id)
        _changed.wait_for(lambda: not (run.worked and (run.ended or run.state == "paused")), timeout=LET_GO)
        if run.newest is None:
            raise Problem("this training has no model yet; wait for its first result", "这次训练还没有模型；请等待第一个结果")
        return run.newest[1].model


def follow(id: str, since: int = -1, *, owner: str = "") -> Iterator[Snapshot]:
    """Yield a Snapshot at each change after version `since`, at most four a second, at least one every two seconds, until the run has ended.

    With its owner's token each turn counts as a touch(): as long as somebody takes the snapshots, the owner is there.
    """
    with _changed:
        run = _get(id)
    over = False
    while not over:
        with _changed:
            if _owns(run, owner):
                run.touched = time.monotonic()
            _changed.wait_for(lambda since=since: run.version > since or _over(run), timeout=BEAT)
            _tend()
            seen, over = _snapshot(run), _over(run)
        if seen.version > since or not over:
            since = seen.version
            yield seen
        if not over:
            time.sleep(TICK)


# everything below is called with _changed held, except _watch, _work and _pump


def _get(id: str) -> _Run:
    run = _runs.get(id) if isinstance(id, str) else None
    if run is None:
        raise Problem("this training is no longer kept; start a new one", "这次训练已不再保留；请重新开始")
    return run


def _owns(run: _Run, owner: str) -> bool:
    return isinstance(owner, str) and secrets.compare_digest(run.owner.encode(), owner.encode())


def _owned(id: str, owner: str, *, alive: bool = False) -> _Run:
    """The run, for its owner; if alive is asked for, only one that has not ended."""
    run = _get(id)
    if not _owns(run, owner):
        raise Problem("only the person who started this training can stop or change it", "只有启动这次训练的人才能停止或更改它")
    run.touched = time.monotonic()
    _tend()
    if alive and run.ended:
        raise Problem("this training has ended; start a new one", "这次训练已经结束；请重新开始")
    return run


def _mine(owner: str, title: str) -> _Run | None:
    return next((run for run in _runs.values() if (run.owner, run.title) == (owner, title) and not run.ended), None)


def _room() -> None:
    if len(_line) >= _limits.line:
        raise Problem("{n} trainings are already waiting; try again in a few minutes", "已有 {n} 个训练在排队；请过几分钟再试", n=len(_line))


def _over(run: _Run) -> bool:
    return run.ended is not None and (not run.worked or time.monotonic() - run.ended > LET_GO)


def _end(run: _Run, state: str, problem: Problem | None = None) -> None:
    if run.ended:
        return
    if problem:  # its traceback would keep the frames of the training alive, and their tensors with them
        problem.__traceback__ = problem.__context__ = problem.__cause__ = None
    run.state, run.problem, run.ended = state, problem, time.monotonic()
    if run in _line:
        _line.remove(run)
    if not run.worked:  # on a thread of its own: what a training tidies up may take its time
        threading.Thread(target=run.events.close, name=f"close-{run.title}", daemon=True).start()
        run.events = None
    run.changed()


def _tend() -> None:
    """End what is past its deadline or has lost its owner; forget what ended long ago or is one too many."""
    now = time.monotonic()
    for run in [run for run in _runs.values() if not run.ended]:
        if now - run.touched > _limits.grace:
            _end(run, "stopped", Problem("stopped: the page that started it was closed", "已停止：启动它的页面已关闭"))
        elif run.elapsed(now) > run.deadline:
            en, zh = "stopped at the time limit of {n} s; what it has learnt is kept", "已到 {n} 秒的时间上限而停止；已学到的内容会保留"
            _end(run, "stopped", Problem(en, zh, n=round(run.deadline)))
    ended = sorted((run for run in _runs.values() if run.ended and not run.worked), key=lambda run: run.ended)
    for i, run in enumerate(ended):
        if now - run.ended > _limits.keep or len(ended) - i > _limits.cap:
            del _runs[run.id]


def _snapshot(run: _Run) -> Snapshot:
    now, event = time.monotonic(), run.newest[1] if run.newest else None
    place = _line.index(run) + 1 if run in _line else 0
    return Snapshot(
        id=run.id, title=run.title, state=run.state, place=place, expected_wait=_wait(place, now), step=event.step if event else 0,
        steps=event.steps if event else 0, elapsed=run.elapsed(now), remaining=run.remaining(now), metrics=run.curve.items(),
        preview=event.preview if event else None, problem=run.problem, version=run.version, about=run.about,
        exam=event.exam if event else None, exams=run.exams.items(), frames=tuple(frame.step for frame in run.frames.items()),
        settings=run.control.now if run.control else None, changed=dict(run.changes), rest=run.rest,
    )  # fmt: skip


def _wait(place: int, now: float) -> float:
    """Seconds until the run at this place of the line begins: every worker takes the next run when it has finished its own."""
    free = [0.0] * max(0, _limits.workers - len(_working))
    for run in _working:
        left = run.remaining(now)
        free.append(0.0 if run.ended else max(0.0, run.deadline - run.elapsed(now)) if left is None else left)
    past = [run.spent for run in _runs.values() if run.ended and run.spent]
    heapq.heapify(free)
    for run in _line[: max(0, place - 1)]:  # those ahead: they take about as long as runs did so far
        heapq.heapreplace(free, free[0] + (min(sum(past) / len(past), run.deadline) if past else run.deadline))
    return free[0] if place else 0.0


def _hire() -> None:
    """Give the first of the line to workers of their own, as many as may work. For single events there is one worker more: they need not wait for trainings."""
    while _line and len(_working) < _limits.workers + (_line[0].allowed is not None):
        run = _line.pop(0)
        run.state, run.since, run.worked = "running", time.monotonic(), True
        _working.append(run)
        run.changed()
        threading.Thread(target=_work, args=(run,), name=f"run-{run.title}", daemon=True).start()


def _rest(run: _Run) -> None:
    """The run is paused from now on; somebody watches whether its owner is still there when nobody else calls."""
    global _watchman
    if run in _line:
        _line.remove(run)
    run.state = "paused"
    run.changed()
    if _watchman is None:
        _watchman = threading.Thread(target=_watch, name="runs-watchman", daemon=True)
        _watchman.start()


def _watch() -> None:
    global _watchman
    with _changed:
        while any(run.state == "paused" for run in _runs.values()):
            _changed.wait(BEAT)
            _tend()
        _watchman = None


def _leave(run: _Run) -> None:
    """The worker has come out of the generator and is free for the next of the line."""
    _working.remove(run)
    run.spent, run.since, run.worked = run.elapsed(time.monotonic()), None, False


def _work(run: _Run) -> None:
    """The life of a worker: one run, until it ends or is paused; then the next of the line gets another."""
    parked = False
    try:
        parked = _pump(run)
    finally:
        with _changed:
            if not parked:
                _leave(run)
                run.events = None
            run.changed()
            _tend()
            _hire()


def _pump(run: _Run) -> bool:
    """Advance the generator until it or its run has ended, and close it; or until the run is to rest, then return True."""
    state, problem = "done", None
    try:
        for event in run.events:
            with _changed:
                run.record(event)
                run.allowed = run.allowed and run.allowed - 1
                _tend()
                _changed.wait_for(lambda: run.ended or run.allowed is not None or not run.rest, timeout=run.rest)
                if run.allowed == 0 and not run.ended:
                    _park(run)
                    return True
            if run.ended:
                break
        run.events.close()
    except Problem as mendable:
        state, problem = "failed", mendable
    except Exception:
        log.exception("run %s (%s) failed", run.id, run.title)
        state, problem = "failed", Problem("the training failed unexpectedly; the server's log says why", "训练意外失败；原因见服务器日志")
    with _changed:
        _end(run, state, problem)
    return False


def _park(run: _Run) -> None:
    """Take the run out of the hands of its worker: to rest, or into the line again."""
    _leave(run)
    if run.again:
        run.allowed, run.again, run.state = None, False, "waiting"
        _line.append(run)
    else:
        _rest(run)
