"""Where drawings walk: their latents, step by step, on the plane through them that shows most (principal components)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from genkit.core import Problem
from genkit.diffusion.trace import Trace


@dataclass(frozen=True)
class Plane:
    """paths: for each drawing its (x, y) before every step and at the end; shown: the part of the variance along x and along y."""

    paths: list[list[tuple[float, float]]]
    shown: tuple[float, float]
    apart: list[float]  # distance of the first two drawings before each step and at the end, in all dimensions


def project(traces: list[Trace], ends: list[torch.Tensor] | None = None) -> Plane:
    """The paths of drawings of equally many steps, first picture each. ends: the finished latents (1, C, h, w); else what was believed last.

    Raises Problem if nothing was kept of one of them, or they differ in length.
    """
    for trace in traces:
        if trace.closed:
            raise trace.closed
    if not traces or any(len(trace.moments) != len(traces[0].moments) or not trace.moments for trace in traces):
        raise Problem("paths can be compared only of drawings with equally many steps", "只能比较步数相同的绘制路径")
    ends = ends or [trace.moments[-1].x0 for trace in traces]
    walks = [torch.cat([*(moment.x_t[:1] for moment in trace.moments), end[:1]]).flatten(1).float() for trace, end in zip(traces, ends, strict=True)]
    points = torch.cat(walks)
    centred = points - points.mean(0)
    left, sizes, _ = torch.linalg.svd(centred, full_matrices=False)
    signs = torch.where(left[0, :2] < 0, -1.0, 1.0)  # the first point lies right and above, on every machine
    flat = (left[:, :2] * sizes[:2] * signs).tolist()
    variance = sizes.square()
    shown = (variance[:2] / variance.sum().clamp_min(1e-12)).tolist()
    count = len(walks[0])
    paths = [[tuple(point) for point in flat[start : start + count]] for start in range(0, len(flat), count)]
    apart = (walks[0] - walks[min(1, len(walks) - 1)]).norm(dim=1).tolist()
    return Plane(paths, tuple(shown), apart)
