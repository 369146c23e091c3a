"""Training steps in bfloat16 where the device has units for it: on a CPU with AMX they take about half the time. Weights and optimizers stay float32.

Micikevicius et al. 2017 (mixed precision): https://arxiv.org/abs/1710.03740. B batch, H heads, T tokens, D numbers a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import AttentionInterface

from genkit import swift


@contextmanager
def half(model, device: torch.device, wanted: bool = True) -> Iterator[None]:
    """Inside, matrices are multiplied in bfloat16, if `wanted` and if the device is quick at it; elsewhere nothing changes. For training steps only: no cache, no padding."""
    wanted = wanted and swift.quick(device)
    swap = wanted and device.type == "cpu" and getattr(model.config, "_attn_implementation", "") == "sdpa"
    if swap:
        model.set_attn_implementation("genkit-whole")
    try:
        with swift.half(device, wanted):
            yield
    finally:
        if swap:
            model.set_attn_implementation("sdpa")


def _whole(module, q, k, v, attention_mask, scaling, **options) -> tuple[torch.Tensor, None]:
    """Causal attention of q, k, v (B, H, T, D) by way of all T x T weights. Returns (B, T, H, D).

    torch's fused kernel saves memory, but its way back uses AMX badly: for 16 windows of 256, 4 heads of 56, there and back take 50 ms, these three lines 24.
    """
    b, h, t, d = q.shape
    causal = torch.full((t, t), -torch.inf, dtype=q.dtype, device=q.device).triu(1)
    scores = torch.baddbmm(causal.expand(b * h, t, t), q.reshape(b * h, t, d), k.reshape(b * h, t, d).transpose(1, 2), alpha=scaling)
    return (scores.softmax(dim=-1).to(v.dtype) @ v.reshape(b * h, t, d)).view(b, h, t, d).transpose(1, 2).contiguous(), None


AttentionInterface.register("genkit-whole", _whole)
