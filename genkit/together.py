"""Many visitors, one forward pass: calls that arrive while a batch is being computed are merged into the next one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


def together(fn: Callable[[list], list], limit: int = 64) -> Callable[[Any], Any]:
    """call(request) == fn([request])[0], except that the waiting requests of other threads share the same fn call, at most `limit` of them.

    Whoever finds the turn free computes for everybody who is waiting (a combining lock): one alone never waits for company.
    A request that fails does so alone: when a batch of several raises, each of its requests is computed by itself.
    """
    turn, guard = threading.Lock(), threading.Lock()
    waiting: list[tuple[Any, Future]] = []

    def call(request):
        mine: Future = Future()
        with guard:
            waiting.append((request, mine))
        with turn:
            while not mine.done():  # a turn that came before may have done it; one batch may not reach it
                with guard:
                    batch, waiting[:] = waiting[:limit], waiting[limit:]
                _answer(fn, batch)
        return mine.result()

    return call


def _answer(fn, batch: list[tuple[Any, Future]]) -> None:
    """Settle every future of the batch, with its result or its own exception."""
    try:
        results = fn([request for request, _ in batch])
        if len(results) != len(batch):
            raise RuntimeError(f"{len(batch)} requests gave {len(results)} results")
    except Exception as error:
        if len(batch) == 1:
            batch[0][1].set_exception(error)
        else:
            for one in batch:
                _answer(fn, [one])
    else:
        for (_, future), result in zip(batch, results, strict=True):
            future.set_result(result)
