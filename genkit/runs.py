"""A run belongs to the server, not to a connection: one worker pumps a train() generator, anyone with its id can follow it, only its owner stops it.

A run waits in a bounded line for one of a few workers, then runs until it is done, stopped, failed, past its deadline, or its owner has been gone
for longer than the grace time. In each of these endings its generator is closed, on the thread that advanced it, and the worker takes the next run.
A generator can only be left at an event: a run that is told to stop ends at once for everybody who follows it, its worker at the next event.
"""

from __future__ import annotations

import heapq
import logging
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from genkit.core import Event, Problem
from genkit.models import guard

if TYPE_CHECKING:
    from PIL.Image import Image

POINTS = 200  # of a curve that are kept
TICK, BEAT = 0.25, 2.0  # seconds between two snapshots that follow() yields: at least, at most
LET_GO = 5.0  # seconds that follow() waits for the last event of a run that was told to stop

log = logging.getLogger(__name__)


@dataclass
class Limits:
    workers: int = 2  # runs at a time
    line: int = 20  # runs waiting
    grace: float = 120.0  # seconds without a touch() until an owner counts as gone
    keep: float = 1800.0  # seconds that an ended run is kept
    cap: int = 40  # ended runs kept


@dataclass(frozen=True)
class Snapshot:
    """What there is to know about a run at one moment."""

    id: str
    title: str
    state: str  # waiting, running, done, stopped or failed
    place: int  # in the line: 1 is next; 0 when not waiting
    expected_wait: float  # seconds until it begins; 0 when not waiting
    step: int
    steps: int  # 0 before the first event
    elapsed: float  # seconds of running
    remaining: float | None  # seconds to go, None while unknown
    metrics: tuple[tuple[int, dict[str, float]], ...]  # (step, metrics) from the first event to the newest, thinned to POINTS
    preview: list[Image] | str | None = field(repr=False)  # of the newest event
    problem: Problem | None  # why it failed, or was stopped by the server
    version: int  # grows with each change

    @property
    def ended(self) -> bool:
        return self.state in ("done", "stopped", "failed")


class _Run:
    def __init__(self, owner: str, events: Iterator[Event], title: str, deadline: float):
        self.id, self.owner, self.title, self.deadline = secrets.token_urlsafe(12), owner, title, deadline
        self.events, self.state, self.problem, self.version = events, "waiting", None, 0
        self.touched = time.monotonic()
        self.began = self.ended = self.first = self.newest = None  # began, ended: times; first, newest: (time, event)
        self.worked = False  # a worker is still inside the generator
        self.curve, self.seen, self.stride = [], 0, 1  # (step, metrics) of every stride-th event seen

    def record(self, event: Event) -> None:
        self.newest = (time.monotonic(), event)
        self.first = self.first or (self.newest[0], event.step)  # the step alone: an event would hold its model
        if self.seen % self.stride == 0:
            self.curve.append((event.step, dict(event.metrics)))
        if len(self.curve) >= POINTS:  # every second point goes, so that the whole curve stays, evenly
            self.curve, self.stride = self.curve[::2], self.stride * 2
        self.seen += 1
        self.changed()

    def changed(self) -> None:
        self.version += 1
        _changed.notify_all()

    def elapsed(self, now: float) -> float:
        return 0.0 if self.began is None else (self.ended or now) - self.began

    def remaining(self, now: float) -> float | None:
        """Seconds to go at the pace between the first event and the newest; at most what the deadline leaves."""
        if self.ended or self.newest is None or self.newest[1].step <= self.first[1]:
            return None
        (then, event), (since, step) = self.newest, self.first
        pace = (then - since) / (event.step - step)
        return max(0.0, min((event.steps - event.step) * pace - (now - then), self.deadline - self.elapsed(now)))

    def metrics(self) -> tuple:
        newest = [(self.newest[1].step, dict(self.newest[1].metrics))] if self.newest else []
        return tuple(self.curve + (newest if newest and self.curve[-1][0] != newest[0][0] else []))


_limits = Limits()
_changed = threading.Condition()  # guards everything below
_runs: dict[str, _Run] = {}
_line: list[_Run] = []
_working: list[_Run] = []


def configure(**limits: float) -> None:
    """Set workers, line, grace, keep or cap: the fields of Limits."""
    for name in limits:
        if name not in Limits.__dataclass_fields__:
            raise TypeError(f"unknown limit {name!r}; choose from: {', '.join(Limits.__dataclass_fields__)}")
    with _changed:
        vars(_limits).update(limits)
        _hire()


def start(owner: str, events: Iterator[Event], *, title: str = "", deadline: float = 600.0) -> str:
    """Put the run into the line; its id. While a run of the same owner and title is alive, that one's id: two clicks train once.

    `events` is not advanced on the caller's thread. deadline: seconds of running. Raises Problem when the line is full.
    """
    with _changed:
        _tend()
        for run in _line + _working:
            if (run.owner, run.title) == (owner, title) and not run.ended:
                return run.id
        if len(_line) >= _limits.line:
            raise Problem("{n} trainings are already waiting; try again in a few minutes", "已有 {n} 个训练在排队；请过几分钟再试", n=len(_line))
        run = _Run(owner, events, title, deadline)
        _runs[run.id] = run
        _line.append(run)
        run.changed()
        _hire()
        return run.id


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
    """End the run, waiting or running; what it has learnt stays. Raises Problem without its owner's token; an ended run stays as it is."""
    with _changed:
        run = _get(id)
        if not _owns(run, owner):
            raise Problem("only the person who started this training can stop it", "只有启动这次训练的人才能停止它")
        _end(run, "stopped")


def model(id: str) -> Any:
    """The model of the newest event: at rest when the run has ended, else only until the next event. Raises Problem before the first one."""
    with _changed:
        run = _get(id)
        _changed.wait_for(lambda: not (run.ended and run.worked), timeout=LET_GO)
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


# everything below is called with _changed held, except _work and _pump


def _get(id: str) -> _Run:
    run = _runs.get(id) if isinstance(id, str) else None
    if run is None:
        raise Problem("this training is no longer kept; start a new one", "这次训练已不再保留；请重新开始")
    return run


def _owns(run: _Run, owner: str) -> bool:
    return isinstance(owner, str) and secrets.compare_digest(run.owner.encode(), owner.encode())


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
        run.events = None
    run.changed()


def _tend() -> None:
    """End what is past its deadline or has lost its owner; forget what ended long ago or is one too many."""
    now = time.monotonic()
    for run in _line + _working:
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
        steps=event.steps if event else 0, elapsed=run.elapsed(now), remaining=run.remaining(now), metrics=run.metrics(),
        preview=event.preview if event else None, problem=run.problem, version=run.version,
    )  # fmt: skip


def _wait(place: int, now: float) -> float:
    """Seconds until the run at this place of the line begins: every worker takes the next run when it has finished its own."""
    free = [0.0] * max(0, _limits.workers - len(_working))
    for run in _working:
        left = run.remaining(now)
        free.append(0.0 if run.ended else max(0.0, run.deadline - run.elapsed(now)) if left is None else left)
    past = [run.ended - run.began for run in _runs.values() if run.ended and run.began]
    heapq.heapify(free)
    for run in _line[: max(0, place - 1)]:  # those ahead: they take about as long as runs did so far
        heapq.heapreplace(free, free[0] + (min(sum(past) / len(past), run.deadline) if past else run.deadline))
    return free[0] if place else 0.0


def _hire() -> None:
    """Give the first of the line to workers of their own, as many as may work."""
    while _line and len(_working) < _limits.workers:
        run = _line.pop(0)
        run.state, run.began, run.worked = "running", time.monotonic(), True
        _working.append(run)
        run.changed()
        threading.Thread(target=_work, args=(run,), name=f"run-{run.title}", daemon=True).start()


def _work(run: _Run) -> None:
    """The life of a worker: one run, then the next of the line gets another."""
    try:
        _pump(run)
    finally:
        with _changed:
            _working.remove(run)
            run.events, run.worked = None, False
            run.changed()
            _tend()
            _hire()


def _pump(run: _Run) -> None:
    """Advance the generator until it or its run has ended, and close it."""
    state, problem, events = "done", None, guard(run.events)
    try:
        for event in events:
            with _changed:
                run.record(event)
                _tend()
            if run.ended:
                break
        events.close()
    except Problem as mendable:
        state, problem = "failed", mendable
    except Exception:
        log.exception("run %s (%s) failed", run.id, run.title)
        state, problem = "failed", Problem("the training failed unexpectedly; the server's log says why", "训练意外失败；原因见服务器日志")
    with _changed:
        _end(run, state, problem)
