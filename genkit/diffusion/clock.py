"""How long a drawing will take, from the drawings that this process has made: medians of seconds a step, nothing assumed of the machine."""

from __future__ import annotations

import statistics
import threading
from collections import defaultdict, deque

_guard = threading.Lock()
_taken: dict[tuple[str, int, bool], deque] = defaultdict(lambda: deque(maxlen=9))  # (model, pictures, guided) -> seconds a step


def note(model: str, steps: int, n: int, guided: bool, seconds: float) -> None:
    """A drawing of n pictures in so many steps took so long, all in all."""
    with _guard:
        _taken[model, n, guided].append(seconds / (steps + 1))  # the words before and the decoder after count as a step


def expected(model: str, steps: int, n: int, guided: bool) -> float | None:
    """Seconds; None before the first drawing with this model. What was never measured as it is asked for is reckoned from what is most like it."""
    with _guard:
        measured = {key[1:]: statistics.median(times) for key, times in _taken.items() if key[0] == model}
    if not measured:
        return None
    (pictures, pairs), each = min(measured.items(), key=lambda entry: (abs(entry[0][0] - n), entry[0][1] != guided))
    # more pictures are at most proportionally slower; guidance computes everything twice
    return each * (steps + 1) * (n / pictures) * (1 + guided) / (1 + pairs)
