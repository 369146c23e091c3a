"""Drawing with and without what is kept of it: every step, every word; eight pictures against one; a look back. In one process, each against the bare pipeline."""

import statistics
import time
from unittest import mock

TURNS, PROMPT = 9, "a red apple on a blue background"


def run() -> None:
    import torch

    from genkit import core, diffusion
    from genkit.diffusion import drawing, heat, trace

    torch.set_num_threads(1)  # as in the app
    pipe, kept = diffusion.load("mini-sd"), diffusion.Trace()

    def draw(n=1, into=None):
        list(diffusion.sample(pipe, PROMPT, num_inference_steps=20, guidance_scale=4.0, seed=1, n=n, kept=into))

    def bare():
        drawing.own(pipe)(PROMPT, num_inference_steps=20, guidance_scale=4.0, generator=core.seeded(1))

    def forgetful(words: bool):
        """Drawing that keeps no words, or neither words nor steps."""
        with mock.patch.object(drawing, "_recorder", lambda *_: None):
            if words:
                draw()
            else:
                with mock.patch.object(trace.Trace, "follow", lambda *_: None):
                    draw()

    ways = {
        "the bare pipeline": bare,
        "one picture, previews, nothing kept": lambda: forgetful(False),
        "the same, every step kept": lambda: forgetful(True),
        "the same, every step and every word kept (as in the tab)": draw,
    }
    times = {name: [] for name in ways}
    draw()
    for _ in range(TURNS):  # in turn, so that a busy machine is busy for all
        for name, way in ways.items():
            times[name].append(seconds(way))
    first = statistics.median(times["the bare pipeline"])
    for name, taken in times.items():
        print(f"20 steps of mini-sd, {name}: median {statistics.median(taken):.2f} s, {statistics.median(taken) / first:.2f} of the bare pipeline")
    many = statistics.median(seconds(lambda: draw(8)) for _ in range(3))
    print(f"eight pictures: median {many:.2f} s, {many / statistics.median(times[name]):.1f} times one")
    draw(into=kept)
    looks = [seconds(lambda k=k: diffusion.look(pipe, kept, k)) for k in range(20)]
    maps = [seconds(lambda: heat.of_words(kept, [(0, 1), (2, 5), (6, 11)])) for _ in range(20)]
    print(f"a look at a step: median {1000 * statistics.median(looks):.0f} ms; the maps of three words: {1000 * statistics.median(maps):.1f} ms", end="; ")
    print(f"kept of it: {kept.bytes() / 1e6:.1f} MB")


def seconds(way) -> float:
    began = time.perf_counter()
    way()
    return time.perf_counter() - began
