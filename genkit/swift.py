"""Training steps for small networks on a shared CPU: one thread, and bfloat16 where the machine has units for it.

Several threads in one step make each other wait when anything else runs on the machine: measured beside one busy neighbour, a step with two
threads took ten times as long as with one. A run is one of a few that the server lets run at a time, each on a core.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from genkit import core


@contextmanager
def alone(device: torch.device) -> Iterator[None]:
    """Inside, on a CPU, this thread computes without others. Never held across a yield: afterwards the thread may serve somebody else."""
    before = torch.get_num_threads()
    try:
        if device.type == "cpu":
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)


def single(events: Iterator) -> Iterator:
    """The items of a generator, each made under alone(); closing this one closes that one."""
    end = object()
    try:
        while True:
            with alone(core.device()):
                event = next(events, end)
            if event is end:
                return
            yield event
    finally:
        events.close()


def half(device: torch.device, wanted: bool = True):
    """Inside, convolutions and matrices are multiplied in bfloat16, if `wanted` and if the device is quick at it; elsewhere nothing changes. Weights and optimizer stay float32.

    Micikevicius et al. 2017 (mixed precision): https://arxiv.org/abs/1710.03740
    """
    return torch.autocast(device.type if device.type in ("cpu", "cuda") else "cpu", torch.bfloat16, enabled=wanted and quick(device))


def quick(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 faster than float32. A CPU without AMX is up to 60 times slower at it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(getattr(torch.cpu, "get_capabilities", dict)().get("amx_bf16"))
