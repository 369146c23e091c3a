"""The one border between tensors, (B, C, H, W) in [-1, 1], and PIL pictures."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image


def to_pil(x: torch.Tensor) -> list[Image.Image]:
    """(B, C, H, W) in [-1, 1], C = 1 or 3 -> B pictures, mode L or RGB. Values outside are clipped."""
    levels = ((x.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round().byte()
    return [Image.fromarray(np.ascontiguousarray(picture.squeeze(0) if len(picture) == 1 else picture.transpose(1, 2, 0))) for picture in levels.numpy()]


def from_pil(pictures: list[Image.Image], mode: str = "RGB") -> torch.Tensor:
    """Pictures of one size -> (B, C, H, W) float32 in [-1, 1], C = 1 for mode "L", 3 for "RGB"."""
    stacked = np.stack([np.asarray(picture.convert(mode), dtype=np.float32) for picture in pictures])
    x = torch.from_numpy(stacked) / 127.5 - 1
    return x.unsqueeze(1) if mode == "L" else x.permute(0, 3, 1, 2).contiguous()
