"""sample(): every text-to-image pipeline behind one signature, one picture or several of one batch, with previews while it draws.

B pictures. What differs between the classes of pipelines is in kinds.py.
"""

from __future__ import annotations

import copy
import inspect
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from diffusers import DDIMPipeline
from PIL.Image import Image

from genkit import core
from genkit.core import Problem
from genkit.diffusion import heat, kinds, schedulers, trace, words
from genkit.diffusion.pipeline import defaults, read_in_turn
from genkit.diffusion.remote import Endpoint
from genkit.diffusion.trace import Replay, Trace

PREVIEWS = 8  # at most so many times a picture is shown on the way
MOST = 8  # pictures of one batch
GRAIN, LARGEST = 64, 1024  # pixels: sides of pictures are multiples of the one, up to the other


@dataclass(frozen=True)
class Step:
    """What the pictures look like after `step` of `steps`; the last ones are the result. `remarks`, (English, Chinese): what is odd about them."""

    pictures: list[Image]
    step: int
    steps: int
    remarks: tuple[tuple[str, str], ...] = ()

    @property
    def image(self) -> Image:
        """The first of them."""
        return self.pictures[0]


def sample(
    pipe,
    prompt: str,
    *,
    negative_prompt: str = "",
    num_inference_steps: int = 20,
    guidance_scale=None,
    seed: int = 0,
    n: int = 1,
    size: int = 0,
    scheduler: str = "",
    kept: Trace | None = None,
    origin: tuple[Trace, int] | None = None,
) -> Iterator[Step]:
    """Draw n pictures (1 to 8) from the seeds seed, seed + 1, ...; yield previews on the way, the last one is the picture.

    Closing the generator stops the drawing at its next step. guidance_scale None takes what suits the model, size 0 its own side in pixels, scheduler "" its
    own; else a name of SCHEDULERS. A model that was distilled to draw without guidance does so whatever is asked. For the digits variant the prompt is a string of digits, drawn side by side. `kept` is filled with every step. origin (trace, k): go the
    first k steps of that drawing again, with its steps, scheduler and number of pictures, and let the other settings count from there.
    The same seed gives the same picture. A prompt that is longer than the model can read is cut: fit() says where.
    Raises Problem for an empty prompt, an unknown scheduler, a model whose steps cannot be gone again.
    """
    prompt, negative_prompt = words.legible(prompt), words.legible(negative_prompt or "")
    if not prompt:
        raise Problem("the prompt is empty; write what to draw", "提示词是空的；请写下想画什么")
    elsewhere = isinstance(pipe, Endpoint)
    usual = 1 if elsewhere else defaults(pipe)["guidance_scale"]
    guidance = usual if guidance_scale is None or not usual else core.number(guidance_scale, 0, 30, "guidance_scale")
    steps = core.number(num_inference_steps, 1, 100, "num_inference_steps", whole=True)
    seed, n = core.number(seed, 0, 2**63 - 1, "seed", whole=True), core.number(n, 1, MOST, "n", whole=True)
    settings = {"prompt": prompt, "negative_prompt": negative_prompt, "num_inference_steps": steps, "guidance_scale": guidance, "seed": seed, "n": n}
    kept = Trace(light=True) if kept is None else kept
    kept.settings = {**settings, "scheduler": scheduler, "size": _side(size)}
    if elsewhere:
        yield from _from(pipe, kept, origin)
        return
    if isinstance(pipe, DDIMPipeline):
        from genkit.diffusion import pixel

        yield from pixel.sample(pipe, prompt, steps, guidance, seed, scheduler, kept)
        return
    replay = _replay(pipe, kept, origin) if origin else None
    mine = own(pipe, kept.settings["scheduler"])
    read = {text: words.fit(mine, kept.settings[text])[0] for text in ("prompt", "negative_prompt")}
    yield from background(lambda report: _draw(mine, {**kept.settings, **read}, kept, replay, report))


def _from(endpoint: Endpoint, kept: Trace, origin) -> Iterator[Step]:
    """As sample(), of a model on another machine: before the last there are steps without pictures."""
    kept.closed = endpoint.only()
    if origin:
        raise kept.closed
    n = kept.settings["n"]
    for pictures, done, remarks in endpoint.draw(kept.settings):
        kept.pictures = pictures
        yield Step(pictures, done, n, remarks)


def _side(size) -> int:
    """The side of a picture in pixels: 0, or as all of the models can draw it."""
    size = core.number(size or 0, 0, LARGEST, "size", whole=True)
    return max(size // GRAIN * GRAIN, GRAIN) if size else 0


def _replay(pipe, kept: Trace, origin: tuple[Trace, int]) -> Replay:
    """What is gone again of another drawing; the steps, the scheduler and the number of pictures are that one's."""
    before, k = origin
    if hasattr(pipe, "turn"):
        raise Problem(
            "this model is too large for the memory of this machine to branch; draw again instead", "这个模型对本机内存来说太大，不能分支；请改为重新绘制"
        )
    trace.at(before, 0)  # raises Problem if nothing was kept
    fresh = kept.settings["seed"] != before.settings["seed"]
    kept.settings |= {name: before.settings[name] for name in ("num_inference_steps", "n", "scheduler", "size")}
    replay = Replay(before, k, fresh)
    kept.moved = ("branch", replay.k)
    return replay


def own(pipe, scheduler: str = ""):
    """The same networks for one visitor of many: a scheduler of one's own, which keeps the place in the trajectory, and tokenizers read in turn."""
    mine = copy.copy(pipe)
    mine.scheduler = schedulers.make(pipe.scheduler, scheduler)
    return read_in_turn(mine)


class _Closed(BaseException):
    """Nobody wants the picture any more."""


def background(draw: Callable) -> Iterator[Step]:
    """Run draw(report) in a thread and yield what it reports; once the generator is closed, report() raises there.

    It computes with as many cores as every other picture, whatever runs beside it: the order of a sum depends on that, and so its last digit.
    """
    reports: queue.Queue = queue.Queue()
    closed, end, cores = threading.Event(), object(), torch.get_num_threads()

    def report(step=None):
        if closed.is_set():
            raise _Closed
        if step is not None:
            reports.put(step)

    def work():
        try:
            torch.set_num_threads(cores)  # a new thread asks MKL otherwise, which may think of the load
            draw(report)
            reports.put(end)
        except BaseException as error:  # handed to whoever waits for the picture
            reports.put(error)

    thread = threading.Thread(target=work, name="draw", daemon=True)
    thread.start()
    try:
        while (item := reports.get()) is not end:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        closed.set()
        thread.join()


def _draw(pipe, settings: dict, kept: Trace, replay: Replay | None, report) -> None:
    """Call the pipeline with those of the settings that its class knows, and report as it goes."""
    steps, n = settings["num_inference_steps"], settings["n"]
    rngs = [core.seeded(settings["seed"] + index) for index in range(n)]
    side = settings["size"] or kinds.side(pipe)
    call = arguments(pipe, {**settings, "size": side}) | {"num_inference_steps": steps, "generator": rngs, "num_images_per_prompt": n}
    with getattr(pipe, "turn", nullcontext()):
        recorder = None if kept.light else _recorder(pipe, kept, settings["prompt"], n, side)
        if replay:
            setattr(pipe, kinds.kind_of(pipe).net, replay.skipping(kinds.net(pipe)))
        kept.follow(pipe.scheduler, rngs, recorder, replay)
        with heat.listening(recorder):
            last = called(pipe, call, steps, report, kept)
    kept.pictures = last.pictures
    report(last)


def called(pipe, call: dict, steps: int, report, kept: Trace | None = None, *, previews: bool = True) -> Step:
    """What the pipeline draws; on the way report() gets a preview now and then, what it believes by then, or a chance to say that nobody wants it any more.

    kept: a trace that follows its scheduler already.
    """
    between = max(1, -(-steps // PREVIEWS))
    if previews and kept is None:
        kept = Trace(light=True)
        kept.follow(pipe.scheduler, [])

    def on_step_end(pipe, step, t, values):
        report()
        if previews and (step + 1) % between == 0 and step + 1 < steps and kinds.unpacked(pipe, kept.moments[-1].x0).ndim == 4:
            report(Step(trace.glimpse(pipe, kept.moments[-1].x0), step + 1, steps))
        return values

    report()
    try:
        made = pipe(**call, callback_on_step_end=on_step_end)
    finally:
        pipe.maybe_free_model_hooks()
    return Step(list(made.images), steps, steps, _withheld(getattr(made, "nsfw_content_detected", None)))


def _withheld(flags: list[bool] | None) -> tuple[tuple[str, str], ...]:
    """What is to be said where a safety checker has blackened pictures."""
    if not any(flags or []):
        return ()
    return (
        (
            "The safety checker that comes with this model took the result for something not safe to show, and painted it black. It errs at times: "
            "try another seed or other words.",
            "该模型自带的安全检查器认为结果不宜展示，所以把它涂成了黑色。它有时会出错：请换一个种子或换一种说法。",
        ),
    )


def _recorder(pipe, kept: Trace, prompt: str, n: int, side: int) -> heat.Recorder | None:
    """Who listens to the words of a prompt; nobody where no attention to them is known, or where the parts of the model come and go."""
    kind = kinds.kind_of(pipe)
    if not kind.attention or hasattr(pipe, "turn"):
        return None
    kept.spans = words.spans(pipe, prompt)
    return heat.Recorder(n, len(kept.spans), (side // (pipe.vae_scale_factor * kind.patch)) ** 2)


def arguments(pipe, settings: dict) -> dict:
    """prompt, negative_prompt, guidance_scale and size, a side in pixels, as the pipeline's class wants them."""
    known, usual = inspect.signature(pipe.__call__).parameters, defaults(pipe)
    negative, guidance = settings["negative_prompt"], settings["guidance_scale"]
    call = {"prompt": settings["prompt"], "guidance_scale": guidance}
    call |= {name: settings["size"] for name in ("height", "width") if name in known}
    if negative and "negative_prompt" in known:
        call["negative_prompt"] = negative
        if "true_cfg_scale" in known and guidance > 1:  # Flux: its guidance_scale is an input of the network, this is the real one
            call["true_cfg_scale"] = guidance
    if "max_sequence_length" in usual and "max_sequence_length" in known:
        call["max_sequence_length"] = usual["max_sequence_length"]
    return call
