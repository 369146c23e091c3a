"""Drawing with and without what is kept of it: every step, every word; eight pictures against one; a look back; through the server. Each against the bare pipeline."""

import statistics
import time
from unittest import mock

from tests.bench import serving

PORT, TURNS, PROMPT = 7980, 9, "a red apple on a blue background"


def run() -> None:
    import torch

    from genkit import core, diffusion
    from genkit.diffusion import drawing, heat

    torch.set_num_threads(1)  # as in the app
    pipe, turbo, kept = diffusion.load("mini-sd"), diffusion.load("mini-sd-turbo"), diffusion.Trace()

    def draw(n=1, into=None):
        into = diffusion.Trace() if into is None else into
        list(diffusion.sample(pipe, PROMPT, num_inference_steps=20, guidance_scale=4.0, seed=1, n=n, kept=into))

    def bare():
        drawing.own(pipe)(PROMPT, num_inference_steps=20, guidance_scale=4.0, generator=core.seeded(1))

    def quick():
        list(diffusion.sample(turbo, PROMPT, num_inference_steps=4, seed=1, kept=diffusion.Trace()))

    def forgetful():
        list(diffusion.sample(pipe, PROMPT, num_inference_steps=20, guidance_scale=4.0, seed=1))

    def wordless():
        with mock.patch.object(drawing, "_recorder", lambda *_: None):
            draw()

    ways = {
        "the bare pipeline": bare,
        "one picture, previews, nothing kept": forgetful,
        "the same, every step kept": wordless,
        "the same, every step and every word kept (as in the tab)": draw,
        "4 steps of mini-sd-turbo instead, everything kept": quick,
    }
    times = {name: [] for name in ways}
    draw()
    quick()
    for _ in range(TURNS):  # in turn, so that a busy machine is busy for all
        for name, way in ways.items():
            times[name].append(seconds(way))
    first = statistics.median(times["the bare pipeline"])
    for name, taken in times.items():
        print(f"20 steps of mini-sd, {name}: median {statistics.median(taken):.2f} s, {statistics.median(taken) / first:.2f} of the bare pipeline")
    one = statistics.median(times["the same, every step and every word kept (as in the tab)"])
    many = statistics.median(seconds(lambda: draw(8)) for _ in range(3))
    print(f"eight pictures: median {many:.2f} s, {many / one:.1f} times one")
    draw(into=kept)
    looks = [seconds(lambda k=k: diffusion.look(pipe, kept, k)) for k in range(20)]
    maps = [seconds(lambda: heat.of_words(kept, [(0, 1), (2, 5), (6, 11)])) for _ in range(20)]
    print(f"a look at a step: median {1000 * statistics.median(looks):.0f} ms; the maps of three words: {1000 * statistics.median(maps):.1f} ms", end="; ")
    print(f"kept of it: {kept.bytes() / 1e6:.1f} MB")

    through_the_server(bare)


def through_the_server(bare) -> None:
    """A client asks the page's server for a picture, in turn with the bare pipeline here."""
    from gradio_client import Client

    with serving(["app.py", "--port", str(PORT)], PORT):
        client = Client(f"http://127.0.0.1:{PORT}", verbose=False, download_files=False)

        def ask(steps=20, model="mini-sd"):
            client.predict(PROMPT, "", steps, 4.0, 1, model, api_name="/diffusion_sample")

        def ask_turbo():
            ask(4, "mini-sd-turbo")

        ask()  # the first one waits until the models are loaded
        ask_turbo()
        asked, quick, here = zip(*((seconds(ask), seconds(ask_turbo), seconds(bare)) for _ in range(TURNS)), strict=True)
    server, turbo, alone = (statistics.median(taken) for taken in (asked, quick, here))
    print(f"20 steps of mini-sd through the server: median {server:.2f} s, {server / alone:.2f} of the bare pipeline; 4 steps of mini-sd-turbo: {turbo:.2f} s")


def seconds(way) -> float:
    began = time.perf_counter()
    way()
    return time.perf_counter() - began
