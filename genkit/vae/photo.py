"""Stable Diffusion's autoencoder and its tiny twin, from diffusers folders: any photo, eight times smaller along each side, and back.

Rombach et al. 2021: https://arxiv.org/abs/2112.10752; TAESD: https://github.com/madebyollin/taesd.
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from genkit import core, folders, images
from genkit.core import Problem
from genkit.vae.pictures import photo

CLASSES = ("AutoencoderKL", "AutoencoderTiny")


def load_diffusers(folder: Path):
    """The autoencoder of a diffusers folder, in eval mode on core.device(). Raises Problem for another class and for a missing or damaged file."""
    name = core.pick(CLASSES, folders.config(folder)["_class_name"], "autoencoder", "自编码器")
    file = folder / "diffusion_pytorch_model.safetensors"
    if not file.is_file():
        raise Problem("{file} is missing; {remedy}", "缺少 {file}；{remedy}", file=file, remedy=DOWNLOAD)
    import diffusers

    try:
        model = getattr(diffusers, name).from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except Exception as error:  # diffusers, accelerate and safetensors each have their own
        first = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise Problem("{file} is damaged ({error}); {remedy}", "{file} 已损坏（{error}）；{remedy}", file=file, error=first, remedy=DOWNLOAD) from error
    return model.eval().to(core.device())


DOWNLOAD = ("delete the folder and download the model again", "请删除该文件夹并重新下载模型")


@torch.inference_mode()
def reconstruct_photo(model, picture: Image.Image) -> tuple[Image.Image, Image.Image, tuple[int, int, int], float]:
    """The photo as the model takes it, the photo drawn again, the shape (C, H, W) of its latent, and the PSNR in dB of their 8-bit pixels."""
    given = photo(picture)
    x = images.from_pil([given]).to(core.device(), model.dtype)  # (1, 3, H, W)
    code = model.encode(x)
    latents = code.latent_dist.mode() if hasattr(code, "latent_dist") else code.latents  # (1, 4, H / 8, W / 8)
    output = images.to_pil(model.decode(latents).sample)[0]
    return given, output, tuple(latents.shape[1:]), psnr(given, output)


def psnr(a: Image.Image, b: Image.Image) -> float:
    """Peak signal-to-noise ratio in dB of two RGB pictures of one size; at most 100, which stands for no difference."""
    mse = (images.from_pil([a]) - images.from_pil([b])).div(2).square().mean().item()
    return -10 * torch.tensor(max(mse, 1e-10)).log10().item()
