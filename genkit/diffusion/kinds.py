"""What differs between the pipeline classes of diffusers, as a table: how latents are packed, whose tokens the picture looks at, and where they stand.

B pictures; latents (B, C, h, w). Flux packs 2 x 2 of them into one token, (B, h w / 4, 4 C), and its paths are straight lines, as Z-Image's are: that is the
scheduler's affair, see schedulers.amounts().
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Kind:
    """One family of pipelines: text to image, image to image and inpainting."""

    net: str = "unet"  # the part that is asked at every step
    patch: int = 1  # side of the square of latents that a transformer sees as one place
    attention: str = "cross"  # to the words alone; or "joint": to words and picture in one
    reader: str = "tokenizer"  # the tokenizer whose tokens the picture looks at
    template: bool = False  # whether the prompt stands in a chat template
    default: int = 128  # places of the latents on a side where the configuration does not say


KINDS = {
    "StableDiffusion": Kind(default=64),
    "StableDiffusionXL": Kind(),
    "Flux": Kind("transformer", patch=2, attention="joint", reader="tokenizer_2"),
    "ZImage": Kind("transformer", patch=2, attention="joint", template=True),
}
_UNKNOWN = {"unet": Kind(), "transformer": Kind("transformer", attention="")}  # what a host has allowed beyond the catalogue


def kind_of(pipe) -> Kind:
    """The row of a pipeline."""
    name = type(pipe).__name__.removesuffix("Pipeline").removesuffix("Img2Img").removesuffix("Inpaint")
    return KINDS.get(name) or _UNKNOWN["unet" if getattr(pipe, "unet", None) is not None else "transformer"]


def net(pipe):
    """The network that is asked at every step."""
    return getattr(pipe, kind_of(pipe).net)


def side(pipe) -> int:
    """The side of the pictures that a model draws, in pixels."""
    places = getattr(pipe, "default_sample_size", None) or getattr(net(pipe).config, "sample_size", None) or kind_of(pipe).default
    return int(places) * pipe.vae_scale_factor


def unpacked(pipe, latents: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w), whatever the pipeline makes of them. Pictures here are square."""
    if latents.ndim != 3 or not hasattr(pipe, "_unpack_latents"):
        return latents
    pixels = int(latents.shape[1] ** 0.5) * 2 * pipe.vae_scale_factor
    return pipe._unpack_latents(latents, pixels, pixels, pipe.vae_scale_factor)


def scaled(pipe, latents: torch.Tensor) -> torch.Tensor:
    """Latents as the autoencoder has them."""
    config = pipe.vae.config
    return latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0)
