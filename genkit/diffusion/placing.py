"""How a pretrained model is placed on the machine at hand: in which precision, whole or in parts, its pictures decoded in one piece or in tiles.

Arithmetic only, so that the page can say it before anything is loaded. Memory is the parameters' bytes and what decoding a picture needs; all in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from genkit.core import Remote
from genkit.hub import amount

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
CHANNELS = 4 * 256  # numbers a pixel that decoding holds at once: about four tensors of the 256 channels of the last blocks of Stable Diffusion's decoder
TILE = 512  # pixels: decoded at once when the rest has to wait, as AutoencoderKL does it
SIDE = 512  # of a picture, where a model does not say


@dataclass(frozen=True)
class Plan:
    """way: "whole", "parts" (one at a time on the GPU) or "layers" (one at a time, slow). need: bytes of the device's memory; fits: whether they are free."""

    device: str
    dtype: str
    way: str
    tiled: bool
    need: int
    free: int
    fits: bool
    why: tuple[str, str]  # (English, Chinese)


def plan(entry: Remote, device: str, free: int, *, half: str = "bfloat16") -> Plan:
    """The first that fits of what is quick and exact, what saves memory, and what saves most. device: cuda, mps or cpu; half: the 16 bits that a GPU is good at."""
    side = entry.defaults.get("size", SIDE)
    total, biggest = sum(entry.parts.values()), max(entry.parts.values(), default=0)

    def way(dtype: str, how: str, tiled: bool) -> tuple[str, str, bool, int]:
        tiled = tiled and side > TILE  # a picture of one tile has nothing to divide
        held = {"whole": total, "parts": biggest, "layers": 0}[how]
        return dtype, how, tiled, BYTES[dtype] * (held + CHANNELS * min(side, TILE if tiled else side) ** 2)

    ways = {
        "cuda": [way(half, "whole", False), way(half, "whole", True), way(half, "parts", True), way(half, "layers", True)],
        "mps": [way("float16", "whole", False), way("float16", "whole", True)],
        "cpu": [way(dtype, "whole", tiled) for dtype in ("float32", "bfloat16") for tiled in (False, True)],
    }[device]
    chosen = next((each for each in ways if each[3] <= free), ways[-1])
    dtype, how, tiled, need = chosen
    full = BYTES[ways[0][0]] * total
    return Plan(device, dtype, how, tiled, need, free, need <= free, _reasons(how, tiled, dtype != ways[0][0], full, BYTES[dtype] * biggest, side))


def _reasons(how: str, tiled: bool, halved: bool, full: int, biggest: int, side: int) -> tuple[str, str]:
    """Why not the first way."""
    said = []
    if halved:
        said.append((f"in float32 it would take {amount(full)}", f"用 float32 需要 {amount(full)}"))
    if how == "parts":
        said.append((f"all of it would take {amount(full)}, so its parts take turns", f"全部放下需要 {amount(full)}，所以各部分轮流上"))
    if how == "layers":
        said.append(
            (
                f"its largest part alone takes {amount(biggest)}, so its layers take turns, which is slow",
                f"单是最大的部分就要 {amount(biggest)}，所以逐层轮流，较慢",
            )
        )
    if tiled:
        said.append((f"{side} × {side} pixels are decoded in tiles", f"{side} × {side} 像素分块解码"))
    if not said:
        return "there is room for all of it", "放得下"
    return "; ".join(en for en, _ in said), "；".join(zh for _, zh in said)
