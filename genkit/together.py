"""Many visitors, one forward pass: calls that arrive while a batch is being computed are merged into the next one."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


def together(fn: Callable[[list], list], limit: int = 64, workers: int = 1) -> Callable[[Any], Any]:
    """call(request) == fn([request])[0], except that requests which wait at the same time share one fn call, at most `limit` of them.

    workers: fn calls at a time. One alone never waits for company. call.soon(request) is a Future of the same, for an event loop, which must not wait.
    A request that fails does so alone: when a batch of several raises, each of its requests is computed by itself.
    """
    guard, worker = threading.Lock(), ThreadPoolExecutor(workers, "together")
    waiting: list[tuple[Any, Future]] = []

    def turn() -> None:  # there are as many turns as requests; those whose request went with an earlier batch find less to do, or nothing
        with guard:
            batch, waiting[:] = waiting[:limit], waiting[limit:]
        if batch:
            _answer(fn, batch)

    def soon(request) -> Future:
        mine: Future = Future()
        with guard:
            waiting.append((request, mine))
        worker.submit(turn)
        return mine

    def call(request):
        return soon(request).result()

    call.soon = soon
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


def once_each(fn: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """call(model) == fn(model), computed once for as long as the model is in memory; who asks meanwhile waits for it."""
    turn, known = threading.Lock(), weakref.WeakKeyDictionary()

    @functools.wraps(fn)
    def call(model):
        with turn:
            if model not in known:
                known[model] = fn(model)
            return known[model]

    return call
