"""How long a training takes: counted without its rests, and promised after a short calibration, for whoever waits in front of it."""

from __future__ import annotations

import dataclasses
import time
from typing import Any


class Stopwatch:
    """The seconds that a training has taken, rests not counted, and the promise of how many it will take to reach its goal, a step.

    calibration: the promise is made from the seconds between these two steps; the first steps of all are slow. goal 0: no promise.
    """

    def __init__(self, goal: int, calibration: tuple[int, int] = (8, 58)):
        self.goal, self.calibration, self.seconds, self.since, self.steps = goal, calibration, 0.0, 0.0, 0
        self.first = self.promised = self.arrived = None

    def go(self) -> None:
        self.since = time.perf_counter()

    def now(self) -> float:
        """The seconds so far, while it goes."""
        return self.seconds + time.perf_counter() - self.since

    def rest(self) -> None:
        self.seconds += time.perf_counter() - self.since
        self.since = time.perf_counter()

    def step(self, as_promised: bool, steps: int = 1) -> None:
        """Count steps; a promise does not outlive a change of the rules it was made under."""
        self.steps += steps
        if not as_promised:
            self.goal, self.promised = 0, None
        if self.goal and self.steps in self.calibration:
            self.rest()
            if self.first is None:
                self.first = self.seconds
            else:
                pace = (self.seconds - self.first) / (self.calibration[1] - self.calibration[0])
                self.promised = self.seconds + pace * (self.goal - self.steps)

    def told(self, exam: Any, there: bool) -> Any:
        """The exam, a dataclass, with its seconds, promised and arrived filled in. there: whether it shows that the goal is reached."""
        self.rest()
        if self.arrived is None and there:
            self.arrived = self.seconds
        return dataclasses.replace(exam, seconds=self.seconds, promised=self.promised, arrived=self.arrived)
