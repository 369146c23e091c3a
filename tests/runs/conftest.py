"""Trainings that do nothing, for the tests of runs, and a server without runs."""

import threading
import time

import pytest

from genkit import runs
from genkit.core import Event


class Net:
    """Stands for a model: something that can be weakly referred to."""


class Training:
    """A train() whose steps the test lets happen one by one, and which remembers the threads it ran on."""

    every: list["Training"] = []

    def __init__(self, steps: int, fail: Exception | None = None):
        self.every.append(self)
        self.steps, self.fail, self.allowed, self.gate = steps, fail, 0, threading.Condition()
        self.threads, self.closed = set(), threading.Event()

    def __call__(self):
        try:
            for step in range(self.steps + 1):
                with self.gate:
                    assert self.gate.wait_for(lambda step=step: self.allowed > step, timeout=20)
                self.threads.add(threading.current_thread())
                if self.fail and step == self.steps:
                    raise self.fail
                yield Event(step, self.steps, {"loss": 1 / step} if step else {}, step, f"preview {step}")
        finally:
            self.threads.add(threading.current_thread())
            self.closed.set()

    def let(self, n: int = 10**9):
        with self.gate:
            self.allowed += n
            self.gate.notify_all()
        return self


def quick(steps: int = 3):
    return Training(steps).let()()


def until(condition, timeout: float = 10.0):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def fresh():
    runs.configure(**vars(runs.Limits()))
    yield
    runs.configure(grace=0)  # everybody is gone
    while Training.every:
        Training.every.pop().let()
    until(idle)
    runs._runs.clear()


def idle() -> bool:
    with runs._changed:
        runs._tend()
        return not (runs._line or runs._working)


def last(id: str) -> runs.Snapshot:
    return list(runs.follow(id))[-1]
