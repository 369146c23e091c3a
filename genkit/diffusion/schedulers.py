"""Which way from noise to picture: the schedulers of diffusers by name, for any model that was trained on noise levels alphas_cumprod.

A scheduler keeps its place in the trajectory, so every drawing has its own. x_t = a x0 + s noise; a^2 + s^2 = 1, or a + s = 1 for flow matching.
"""

from __future__ import annotations

import copy

import diffusers
import torch

from genkit.core import Problem, pick
from genkit.diffusion import OPTIONS, SCHEDULERS


def make(own, name: str = ""):
    """A fresh scheduler of that name for a model whose own one is given; "" is the model's own kind. Raises Problem for a name or model that it does not fit."""
    if not name:
        return type(own).from_config(own.config)
    pick(SCHEDULERS, name, "scheduler", "调度器")
    if flows(own):
        raise Problem(
            "this model was trained on straight paths (flow matching) and draws with its own scheduler only; leave the scheduler as it is",
            "该模型用直线路径（流匹配）训练，只能用自带的调度器；请不要更改调度器",
        )
    return getattr(diffusers, SCHEDULERS[name]).from_config(own.config, **OPTIONS[name])


def flows(scheduler) -> bool:
    """Whether the paths are straight lines between noise and picture (flow matching, Lipman et al. 2022)."""
    return type(scheduler).__name__.startswith("FlowMatch") or bool(getattr(scheduler.config, "use_flow_sigmas", False))


def amounts(scheduler, t, index: int | None) -> tuple[float, float]:
    """(a, s) at timestep t, which is step number `index` of this scheduler."""
    sigmas = getattr(scheduler, "sigmas", None)
    if sigmas is None or index is None:
        kept = float(scheduler.alphas_cumprod[int(t)])
        return kept**0.5, (1 - kept) ** 0.5
    sigma = float(sigmas[index])
    if flows(scheduler):
        return 1 - sigma, sigma
    a = (sigma**2 + 1) ** -0.5
    return a, sigma * a


def scaled(scheduler) -> bool:
    """Whether its samples are x0 + sigma noise, x_t / a (Karras et al. 2022), as Euler's are."""
    return "Euler" in type(scheduler).__name__ and not flows(scheduler)


def predicted(scheduler, output: torch.Tensor, x_t: torch.Tensor, a: float, s: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(x0, noise) that the network sees in x_t, from its output: the noise, x0 itself, or v = a noise - s x0 (Salimans & Ho 2022, appendix D)."""
    kind = getattr(scheduler.config, "prediction_type", "epsilon")
    if flows(scheduler):
        return x_t - s * output, x_t + a * output
    if kind == "epsilon":
        return (x_t - s * output) / a, output
    x0 = output if kind == "sample" else a * x_t - s * output
    return x0, (x_t - a * x0) / max(s, 1e-6)


def state(scheduler) -> dict:
    """All that it remembers, to go on from here another time: what it changes in place is copied."""
    return {name: list(value) if isinstance(value, list) else value for name, value in vars(scheduler).items() if name != "step"}


def restore(scheduler, kept: dict) -> None:
    """Put it back to where state() was taken."""
    vars(scheduler).update({name: list(value) if isinstance(value, list) else copy.copy(value) for name, value in kept.items()})


def begin_at(scheduler, index: int) -> None:
    """Let it go on at step `index` without a memory of the steps before, as on new noise."""
    if hasattr(scheduler, "_step_index"):
        scheduler._step_index = index
