"""Every step of a drawing kept: x_t, what the network saw in it, and all that is needed to go on from there another way.

B pictures; latents (B, C, h, w), or packed (B, h w / 4, 4 C) for Flux; x0 and noise as predicted at that step.
"""

from __future__ import annotations

import copy
import functools
import threading
import weakref
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from PIL.Image import Image

from genkit import core, images
from genkit.core import Problem, number
from genkit.diffusion import kinds, schedulers

QUICK = 2e9  # parameters of an autoencoder x places of the latents: what a CPU decodes while one waits


@dataclass(frozen=True)
class Moment:
    """One step: before it stands `sample`; a and s say how much picture and how much noise that is."""

    t: float
    a: float
    s: float
    sample: torch.Tensor = field(repr=False)  # as the scheduler has it
    x_t: torch.Tensor = field(repr=False)  # the same with a^2 + s^2 = 1
    x0: torch.Tensor = field(repr=False)
    noise: torch.Tensor = field(repr=False)
    state: dict = field(repr=False)  # of the scheduler, before the step
    rngs: list = field(repr=False)  # states of the generators, before the step
    words: dict = field(repr=False)  # what heat.Recorder heard


@dataclass
class Trace:
    """The drawing, step by step. `settings` are those of sample(); `spans` the places in the prompt of the tokens that words are kept of."""

    settings: dict[str, Any] = field(default_factory=dict)
    moments: list[Moment] = field(default_factory=list, repr=False)
    pictures: list[Image] = field(default_factory=list, repr=False)
    spans: list[tuple[int, int]] = field(default_factory=list)
    moved: tuple[str, int] | None = None  # ("branch", k): what this one left another at
    light: bool = False  # only the newest step is kept: nobody will look back
    closed: Problem | None = None  # why there is nothing to look back at

    def bytes(self) -> int:
        """About how much memory it holds."""
        parts = [part for moment in self.moments for part in (moment.sample, moment.x_t, moment.x0, moment.noise)]
        heard = [shares for moment in self.moments for _, shares in moment.words.values()]
        return sum(part.numel() * part.element_size() for part in [*parts, *heard]) + 10_000 * len(self.moments)

    def follow(self, scheduler, rngs: list[torch.Generator], recorder=None, replay: Replay | None = None) -> None:
        """Keep what this scheduler is told from now on; with `replay`, tell its first steps again instead of taking them."""
        step = scheduler.step

        @functools.wraps(step)  # the pipelines look at its arguments
        def kept(output, t, sample, *args, **options):
            if self.light:
                self.moments.clear()
            if replay is not None and replay.active():
                self.moments.append(replace(replay.origin.moments[replay.told], words={}))  # another prompt's
                return (replay.next(scheduler, rngs, sample),)
            before, random = schedulers.state(scheduler), [rng.get_state() for rng in rngs]
            result = step(output, t, sample, *args, **options)
            self.moments.append(_moment(scheduler, output, t, sample, before, random, recorder.take() if recorder else {}))
            return result

        scheduler.step = kept


def _moment(scheduler, output, t, sample, before, rngs, words) -> Moment:
    index = getattr(scheduler, "step_index", None)
    a, s = schedulers.amounts(scheduler, t, None if index is None else index - 1)
    x_t = sample * a if schedulers.scaled(scheduler) else sample
    x0, noise = schedulers.predicted(scheduler, output, x_t, a, s)
    kept = [part.detach().cpu() for part in (sample, x_t, x0, noise)]
    return Moment(float(t), a, s, kept[0].clone(), *kept[1:], before, rngs, words)


@dataclass
class Replay:
    """Go the first k steps of `origin` again without computing them; from there on another prompt, guidance or seed counts.

    With another seed the picture that the network saw at step k is kept, and other noise is put over it.
    """

    origin: Trace
    k: int
    fresh: bool  # another seed

    def __post_init__(self):
        self.k = number(self.k, 0, max(len(self.origin.moments) - 1, 0), "k", whole=True)
        self.told = 0

    def active(self) -> bool:
        return self.told < self.k

    def next(self, scheduler, rngs, like: torch.Tensor) -> torch.Tensor:
        """The sample after the step that would have been taken now; at the last of them the scheduler is put to where it was."""
        self.told += 1
        moment = self.origin.moments[self.told]
        if self.told < self.k:
            return moment.sample.to(like)
        if self.fresh:
            schedulers.begin_at(scheduler, self.k)
            noise = torch.cat([torch.randn(moment.sample[:1].shape, generator=rng) for rng in rngs])
            mixed = moment.a * moment.x0 + moment.s * noise
            return (mixed / moment.a if schedulers.scaled(scheduler) else mixed).to(like)
        schedulers.restore(scheduler, moment.state)
        for rng, kept in zip(rngs, moment.rngs, strict=True):
            rng.set_state(kept)
        return moment.sample.to(like)

    def skipping(self, net):
        """The network, which answers nothing while steps are told again: a copy of the module that shares all its weights."""
        mine, forward = copy.copy(net), net.forward

        def skip(*args, **options):
            if not self.active():
                return forward(*args, **options)
            seen = args[0] if args else options.get("sample", options.get("hidden_states"))
            return ([torch.zeros_like(part) for part in seen] if isinstance(seen, list) else torch.zeros_like(seen),)

        mine.forward = skip
        return mine


# --- looked at


@torch.no_grad()
def decoded(pipe, latents: torch.Tensor) -> list[Image]:
    """The pictures in latents: decoded where that is quick, else glimpse()."""
    if not hasattr(pipe, "vae"):  # pixels, side by side
        return images.to_pil(latents.permute(1, 2, 0, 3).reshape(1, 1, latents.shape[2], -1))
    if not quick(pipe, latents):
        return glimpse(pipe, latents)
    latents = kinds.unpacked(pipe, latents).to(pipe.vae.device, pipe.vae.dtype)
    return images.to_pil(pipe.vae.decode(kinds.scaled(pipe, latents)).sample)


@torch.no_grad()
def glimpse(pipe, latents: torch.Tensor) -> list[Image]:
    """About what decoding would show, in next to no time: a linear map from each place of the latents to a colour, enlarged."""
    latents, to_colour = kinds.unpacked(pipe, latents).float().cpu(), _colours(pipe)
    seen = latents.permute(0, 2, 3, 1) @ to_colour[:-1] + to_colour[-1]
    return images.to_pil(F.interpolate(seen.permute(0, 3, 1, 2), scale_factor=pipe.vae_scale_factor, mode="bicubic").clamp(-1, 1))


_fitting, _fitted = threading.Lock(), weakref.WeakKeyDictionary()  # autoencoder -> (C + 1, 3)
PLACES = 8  # of the latents of a picture that colours are fitted on, on each side


def _colours(pipe) -> torch.Tensor:
    """(C + 1, 3): colour from latents, the last row the constant; fitted by least squares on what the autoencoder makes of twelve discs of one colour on another."""
    with _fitting:
        if pipe.vae not in _fitted:
            side, rng = PLACES * pipe.vae_scale_factor, core.seeded("colours")
            line = torch.linspace(-1, 1, side)
            disc, ground = torch.rand(2, 12, 3, 1, 1, generator=rng) * 2 - 1
            shown = torch.where(line[:, None] ** 2 + line**2 < 0.4, disc, ground)
            latents = torch.cat([pipe.vae.encode(one.to(pipe.vae.device, pipe.vae.dtype)).latent_dist.mean for one in shown.split(1)])
            config = pipe.vae.config
            latents = ((latents.float().cpu() - (getattr(config, "shift_factor", None) or 0)) * config.scaling_factor).permute(0, 2, 3, 1).flatten(0, 2)
            known = torch.cat([latents, torch.ones(len(latents), 1)], 1)
            meant = F.adaptive_avg_pool2d(shown, PLACES).permute(0, 2, 3, 1).flatten(0, 2)
            solved = torch.linalg.solve(known.T @ known + 1e-3 * torch.eye(known.shape[1]), known.T @ meant)
            # some autoencoders overflow in float16: then the first three channels have to do
            _fitted[pipe.vae] = solved if solved.isfinite().all() else torch.eye(known.shape[1], 3)
        return _fitted[pipe.vae]


def quick(pipe, latents: torch.Tensor) -> bool:
    """Whether decoding takes no time to speak of."""
    if not hasattr(pipe, "vae") or (pipe.vae.device.type == "cuda" and not hasattr(pipe, "turn")):
        return True
    places = latents[0].numel() // pipe.vae.config.latent_channels
    return sum(part.numel() for part in pipe.vae.parameters()) * places < QUICK


def pictured(pipe, noise: torch.Tensor) -> list[Image]:
    """Noise as colours: its first three channels (or the only one), from -2.5 to 2.5, each place of the latents a square."""
    if not hasattr(pipe, "vae"):
        return decoded(pipe, noise.float() / 2.5)
    noise = kinds.unpacked(pipe, noise).float() / 2.5
    return images.to_pil(F.interpolate(noise[:, :3], scale_factor=max(1, 64 // noise.shape[-1])))


def look(pipe, trace: Trace, k, index=0) -> tuple[Image, Image, Image]:
    """(x_t, predicted x0, predicted noise) before step k of picture number `index`, as pictures; k and index are clamped.

    Raises Problem for a drawing that was stopped before its first step.
    """
    moment, one = at(trace, k), slice(None)
    if hasattr(pipe, "vae"):
        index = number(index, 0, len(moment.sample) - 1, "index", whole=True)
        one = slice(index, index + 1)
    x_t, x0 = (decoded(pipe, part[one])[0] for part in (moment.x_t, moment.x0))
    return x_t, x0, pictured(pipe, moment.noise[one])[0]


def film(pipe, trace: Trace, index=0, *, what: str = "x0") -> list[Image]:
    """The predicted x0 ("x0") or the latents ("x_t") of every step of one picture, and the picture itself at the end."""
    index = number(index, 0, max(len(trace.pictures) - 1, 0), "index", whole=True)
    at(trace, 0)  # raises Problem if nothing was kept
    one = slice(index, index + 1) if hasattr(pipe, "vae") else slice(None)
    shown = [decoded(pipe, getattr(moment, what)[one])[0] for moment in trace.moments]
    last = trace.pictures[index]
    return [frame if frame.size == last.size else frame.resize(last.size) for frame in shown] + [last]


def at(trace: Trace, k) -> Moment:
    """The moment before step k, clamped."""
    if trace.closed:
        raise trace.closed
    if not trace.moments:
        raise Problem("nothing was kept of this drawing; draw again", "这次绘制没有留下任何步骤；请重新画一次")
    return trace.moments[number(k, 0, len(trace.moments) - 1, "step", whole=True)]
