"""Many visitors, one forward pass."""

import asyncio
import inspect
import threading

import pytest

from genkit.core import Problem
from genkit.together import together
from tests.conftest import finished
from tests.runs.conftest import until


def call_all(call, requests):
    results = {}

    def one(request):
        try:
            results[request] = call(request)
        except Exception as error:
            results[request] = error

    threads = [threading.Thread(target=one, args=(request,)) for request in requests]
    for thread in threads:
        thread.start()
    return threads, results


def test_calls_that_arrive_during_a_pass_share_the_next_one():
    batches, gate = [], threading.Event()

    def forward(requests):
        batches.append(list(requests))
        assert gate.wait(10)
        return [request * request for request in requests]

    call = together(forward, limit=16)
    alone, results = call_all(call, [100])
    until(lambda: batches)
    others, more = call_all(call, range(40))
    until(lambda: len(inspect.getclosurevars(call.soon).nonlocals["waiting"]) == 40)
    gate.set()
    for thread in alone + others:
        thread.join(10)
    assert [len(batch) for batch in batches] == [1, 16, 16, 8]
    assert results == {100: 10000} and more == {i: i * i for i in range(40)}


def test_one_bad_request_does_not_hit_the_others():
    gate, sizes = threading.Event(), []

    def forward(requests):
        sizes.append(len(requests))
        assert gate.wait(10)
        if 13 in requests:
            raise Problem("unlucky", "不吉利")
        return [-request for request in requests]

    call = together(forward)
    first, _ = call_all(call, [0])
    until(lambda: sizes)
    others, results = call_all(call, [11, 12, 13, 14])
    until(lambda: len(inspect.getclosurevars(call.soon).nonlocals["waiting"]) == 4)
    gate.set()
    for thread in first + others:
        thread.join(10)
    assert isinstance(results.pop(13), Problem) and results == {11: -11, 12: -12, 14: -14}
    assert sizes == [1, 4, 1, 1, 1, 1]


def test_an_event_loop_can_wait_for_a_pass_and_serve_others_meanwhile():
    gate = threading.Event()
    call = together(lambda requests: [gate.wait(10) and -request for request in requests])

    async def visit():
        waiting = [asyncio.wrap_future(call.soon(request)) for request in (1, 2, 3)]
        await asyncio.sleep(0.01)
        assert not any(future.done() for future in waiting)
        gate.set()
        return await asyncio.wait_for(asyncio.gather(*waiting), 10)

    assert finished(visit()) == [-1, -2, -3]


def test_a_pass_that_loses_a_result_is_an_error_not_a_mix_up():
    with pytest.raises(RuntimeError, match="1 requests gave 0 results"):
        together(lambda requests: [])("x")


def test_two_workers_answer_two_batches_at_once():
    met = threading.Barrier(2)
    call = together(lambda requests: [met.wait(20) >= 0 for _ in requests], limit=1, workers=2)
    assert [future.result(30) for future in (call.soon(1), call.soon(2))] == [True, True]
