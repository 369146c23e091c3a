"""Diffusion: pictures out of noise (Ho et al. 2020, https://arxiv.org/abs/2006.11239).

Three variants, all saved as folders of the diffusers library:
- `mini-sd`: a miniature Stable Diffusion (Rombach et al. 2021, https://arxiv.org/abs/2112.10752): an autoencoder to 4 x 16 x 16 latents,
  a CLIP text encoder for English and Chinese, a U-Net that is told the caption by cross-attention. 64 x 64 pictures of emoji.
- `mini-sd-turbo`: the same, its U-Net distilled to draw in four steps without guidance.
- `digits`: a small class-conditional U-Net on the pixels of MNIST.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from genkit import core
from genkit.core import Remote


@dataclass(frozen=True)
class Config:
    """How a variant is trained. A learning rate is the peak of its schedule; steps are optimizer steps."""

    arch: str  # "latent", "pixel" or "turbo"
    steps: int
    batch_size: int
    lr: float
    every: int  # steps between events
    # only for "latent": steps, batch size and lr of the stages before the U-Net; they are part of `steps`
    autoencoder: dict = field(default_factory=dict)
    decoder: dict = field(default_factory=dict)
    text_encoder: dict = field(default_factory=dict)
    pictures: int = 0  # latents kept for the U-Net
    defaults: dict = field(default_factory=dict)  # settings that suit it, where they are not those of most


VARIANTS = {
    "mini-sd": Config(
        arch="latent",
        steps=9900,
        batch_size=32,
        lr=1.5e-3,
        every=200,
        autoencoder={"steps": 2600, "batch_size": 8, "lr": 2e-3},
        decoder={"steps": 1500, "batch_size": 8, "lr": 1.5e-3},
        text_encoder={"steps": 600, "batch_size": 48, "lr": 1.5e-3},
        pictures=32_000,
    ),
    "mini-sd-turbo": Config(
        arch="turbo", steps=560, batch_size=48, lr=5e-4, every=50, pictures=12_000, defaults={"num_inference_steps": 4, "guidance_scale": 0.0}
    ),
    "digits": Config(arch="pixel", steps=700, batch_size=32, lr=2e-3, every=50),
}
LIVE = 400  # steps of digits that suffice in front of a class
# a second set of weights in float16 halves the download of those that have one
_FP16 = ("*/*.fp16.safetensors", "*.json", "*/*.txt")
_OPEN_RAIL, _STABILITY = "CreativeML Open RAIL-M", "Stability AI Community License"
# parameters of the parts, from their weight files; the best settings from the model cards. guidance_scale 0: distilled to need few steps and no guidance
PRETRAINED: dict[str, Remote] = {
    "sd-1.5": Remote(
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        2_750_000_000,
        _OPEN_RAIL,
        {"num_inference_steps": 25, "guidance_scale": 7.5, "size": 512},
        _FP16,
        3_300_000_000,
        {"unet": 860_000_000, "text_encoder": 123_000_000, "vae": 84_000_000, "safety_checker": 304_000_000},
    ),
    "sd-turbo": Remote(
        "stabilityai/sd-turbo",
        2_600_000_000,
        _STABILITY,
        {"num_inference_steps": 2, "guidance_scale": 0.0, "size": 512},
        _FP16,
        3_100_000_000,
        {"unet": 866_000_000, "text_encoder": 340_000_000, "vae": 84_000_000},
    ),
    "sdxl-turbo": Remote(
        "stabilityai/sdxl-turbo",
        6_950_000_000,
        _STABILITY,
        {"num_inference_steps": 2, "guidance_scale": 0.0, "size": 512},
        _FP16,
        7_500_000_000,
        {"unet": 2_567_000_000, "text_encoder": 123_000_000, "text_encoder_2": 695_000_000, "vae": 84_000_000},
    ),
    "flux.1-schnell": Remote(
        "black-forest-labs/FLUX.1-schnell",
        33_700_000_000,
        "Apache-2.0",
        {"num_inference_steps": 4, "guidance_scale": 0.0, "size": 1024, "max_sequence_length": 256},
        memory=34_300_000_000,
        parts={"transformer": 11_891_000_000, "text_encoder_2": 4_762_000_000, "text_encoder": 123_000_000, "vae": 84_000_000},
    ),
    "z-image-turbo": Remote(
        "Tongyi-MAI/Z-Image-Turbo",
        33_000_000_000,
        "Apache-2.0",
        {"num_inference_steps": 9, "guidance_scale": 0.0, "size": 1024},
        memory=21_100_000_000,
        parts={"transformer": 6_155_000_000, "text_encoder": 4_022_000_000, "vae": 84_000_000},
    ),
}
OWN_WAY = ("mini-sd-turbo", "flux.1-schnell", "z-image-turbo")  # trained for jumps or straight paths (flow matching): they draw with their own scheduler only

SCHEDULERS = {  # name -> its class in diffusers
    "dpm++": "DPMSolverMultistepScheduler",  # DPM-Solver++ of second order (Lu et al. 2022, https://arxiv.org/abs/2211.01095)
    "unipc": "UniPCMultistepScheduler",  # Zhao et al. 2023, https://arxiv.org/abs/2302.04867
    "euler": "EulerDiscreteScheduler",  # Karras et al. 2022, algorithm 2 without churn, https://arxiv.org/abs/2206.00364
    "ddim": "DDIMScheduler",  # Song et al. 2020, https://arxiv.org/abs/2010.02502
    "ddpm": "DDPMScheduler",  # Ho et al. 2020: new noise at every step
}
# what differs from the model's own settings: latents are not pictures, so nothing is clipped to [-1, 1]
OPTIONS = {
    "dpm++": {"algorithm_type": "dpmsolver++", "solver_order": 2, "final_sigmas_type": "zero"},
    "unipc": {"solver_order": 2, "final_sigmas_type": "zero", "predict_x0": True},
    "euler": {},
    "ddim": {"clip_sample": False, "set_alpha_to_one": True},
    "ddpm": {"clip_sample": False, "variance_type": "fixed_small"},
}


def taught_here(model: str) -> bool:
    """Whether a model has learnt to read from the captions of emoji.py, and from nothing else."""
    return model in VARIANTS and VARIANTS[model].arch != "pixel"


_HOMES = {
    "pipeline": ("load", "save", "planned"),
    "drawing": ("sample", "Step"),
    "training": ("train",),
    "trace": ("Trace", "look", "film", "quick"),
    "heat": ("of_words", "painted"),
    "words": ("fit", "split"),
    "forward": ("drown", "left", "square"),
    "paths": ("project",),
    "editing": ("edit", "between"),
    "placing": ("plan",),
    "kinds": ("kind_of",),
    "remote": ("Endpoint",),
    "outside": ("extend",),
    "styling": ("styles", "styled"),
    "upscaling": ("upscale", "bicubic", "ready", "FACTORS", "TILE"),
    "copied": ("nearest", "share", "training_picture"),
}
__getattr__ = core.lazily(__name__, {name: home for home, names in _HOMES.items() for name in names})
