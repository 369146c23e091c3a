"""A picture to begin with: image to image (SDEdit, Meng et al. 2021, https://arxiv.org/abs/2108.01073), inpainting, and a film between two prompts.

Image to image drowns the picture in noise up to `strength` of the way and draws from there. Inpainting does so with all of it, but at every step puts the
picture back, as noisy as it would be by then, wherever the mask is black (RePaint's first idea, Lugmayr et al. 2022).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from diffusers import AutoPipelineForImage2Image, AutoPipelineForInpainting, DDIMPipeline, StableDiffusionPipeline
from PIL import Image, ImageFilter

from genkit import core
from genkit.core import Problem
from genkit.diffusion import drawing, schedulers, words
from genkit.diffusion.drawing import MOST, Step
from genkit.diffusion.forward import square
from genkit.diffusion.kinds import side as size
from genkit.diffusion.pipeline import defaults
from genkit.diffusion.remote import Endpoint

LEAST = 0.02  # part of a picture that a mask must cover, so that a place of the latents changes at all


def masked(mask: Image.Image, side: int) -> Image.Image:
    """A mask of any size as side x side, white where something new is to be drawn. Raises Problem if nothing is."""
    if "transparency" in mask.info or mask.mode in ("RGBA", "LA", "PA"):
        mask = mask.convert("RGBA")
        # a painted layer says by its alpha where it was painted; a flat picture, by its light
        alpha = mask.getchannel("A")
        mask = alpha if alpha.getextrema()[0] < 255 else mask.convert("L")
    mask = mask.convert("L").resize((side, side), Image.Resampling.BOX).point(lambda level: 255 if level > 127 else 0)
    if sum(mask.histogram()[128:]) < LEAST**2 * side * side:
        raise Problem("the mask is empty: paint white over what is to be drawn anew", "遮罩是空的：请把要重画的地方涂成白色")
    return mask


def edit(
    pipe, prompt: str, picture: Image.Image, *, mask: Image.Image | None = None, strength: float = 0.6, negative_prompt: str = "", num_inference_steps: int = 20,
    guidance_scale=None, seed: int = 0, n: int = 1, scheduler: str = "",
) -> Iterator[Step]:  # fmt: skip
    """Draw the picture anew: all of it, or where the mask (any size) is white. Yields previews; the last pictures are the result, outside the mask untouched.

    strength (0.05 to 1): how far back into the noise it goes; 1 keeps nothing. Closing the generator stops it. Raises Problem for an empty prompt or mask, and
    for a model that cannot edit.
    """
    if not words.legible(prompt):
        raise Problem("the prompt is empty; write what to draw", "提示词是空的；请写下想画什么")
    editable(pipe)
    side = size(pipe)
    given, where = square(picture, side), None if mask is None else masked(mask, side)
    settings = {"strength": strength, "negative_prompt": negative_prompt, "num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale}
    yield from redrawn(pipe, prompt, given, where, **settings, seed=seed, n=n, scheduler=scheduler)


def redrawn(
    pipe, prompt: str, given: Image.Image, where, *, strength, negative_prompt, num_inference_steps, guidance_scale, seed, n, scheduler
) -> Iterator[Step]:
    """edit() of a picture that has a size the model can draw: of all of it, or where the mask `where`, of that size, is white."""
    prompt, negative_prompt = words.legible(prompt), words.legible(negative_prompt or "")
    strength = core.number(strength, 0.05, 1, "strength")
    steps = core.number(num_inference_steps, 1, 100, "num_inference_steps", whole=True)
    settings = {
        "prompt": words.fit(pipe, prompt)[0],
        "negative_prompt": words.fit(pipe, negative_prompt)[0],
        "guidance_scale": defaults(pipe)["guidance_scale"] if guidance_scale is None else core.number(guidance_scale, 0, 30, "guidance_scale"),
    }
    seed, n = core.number(seed, 0, 2**63 - 1, "seed", whole=True), core.number(n, 1, MOST, "n", whole=True)
    mine = drawing.own(_editor(pipe, where is not None), scheduler)
    sizes = {} if where is None else {"mask_image": [where] * n, "width": given.width, "height": given.height}  # else it would make the picture square
    more = {"image": [given] * n, "strength": max(strength, 1 / steps)} | sizes
    call = drawing.arguments(
        mine, {**settings, "size": max(given.size), "prompt": [settings["prompt"]] * n, "negative_prompt": [settings["negative_prompt"]] * n}
    )
    if not negative_prompt:
        call.pop("negative_prompt", None)
    call |= {**more, "num_inference_steps": steps, "generator": [core.seeded(seed + index) for index in range(n)]}

    def draw(report):
        made = drawing.called(mine, call, max(1, round(steps * more["strength"])), report)
        report(Step([_over(given, each, where) for each in made.pictures], steps, steps, made.remarks))

    yield from drawing.background(draw)


def editable(pipe) -> None:
    """Raises Problem for a model that cannot begin with a picture."""
    if isinstance(pipe, Endpoint):
        raise pipe.only()
    if isinstance(pipe, DDIMPipeline) or hasattr(pipe, "turn"):
        raise Problem(
            "this model cannot edit pictures here; choose mini-sd or a Stable Diffusion", "这个模型在这里不能编辑图片；请选择 mini-sd 或 Stable Diffusion"
        )


def _editor(pipe, inpaints: bool):
    """The pipeline of the same networks that begins with a picture."""
    editable(pipe)
    kind = AutoPipelineForInpainting if inpaints else AutoPipelineForImage2Image
    try:
        made = kind.from_pipe(pipe)
    except ValueError as error:
        raise Problem(
            "this model cannot edit pictures here; choose mini-sd or a Stable Diffusion", "这个模型在这里不能编辑图片；请选择 mini-sd 或 Stable Diffusion"
        ) from error
    made.set_progress_bar_config(disable=True)
    return made


def _over(given: Image.Image, made: Image.Image, where: Image.Image | None) -> Image.Image:
    """The picture that was made inside the mask, the one that was given outside of it; a soft edge between them."""
    if where is None:
        return made
    edge = where.filter(ImageFilter.GaussianBlur(max(1, given.width // 64)))
    edge = Image.composite(edge, Image.new("L", where.size), where.filter(ImageFilter.MaxFilter(3)))  # nothing of it reaches further than a pixel
    return Image.composite(made.resize(given.size), given, edge)


# --- between two prompts


def between(
    pipe, prompt_a: str, prompt_b: str, *, n: int = 16, num_inference_steps: int = 20, guidance_scale=None, seed: int = 0
) -> Iterator[list[Image.Image]]:
    """n pictures (2 to 48) from one prompt to the other, on the same noise: what the text encoder says is mixed, a little more of B each time.

    Yields those that are there so far, up to eight more at a time. Raises Problem for an empty prompt or a model that is no Stable Diffusion.
    """
    if not isinstance(pipe, StableDiffusionPipeline) or hasattr(pipe, "turn"):
        raise Problem("this works with mini-sd and with Stable Diffusion only; choose one of them", "这里只支持 mini-sd 和 Stable Diffusion；请选择其中之一")
    ends = [words.fit(pipe, prompt)[0] for prompt in (prompt_a, prompt_b)]
    if not all(ends):
        raise Problem("the prompt is empty; write what to draw", "提示词是空的；请写下想画什么")
    n, steps = core.number(n, 2, 48, "n", whole=True), core.number(num_inference_steps, 1, 100, "num_inference_steps", whole=True)
    guidance = defaults(pipe)["guidance_scale"] if guidance_scale is None else core.number(guidance_scale, 0, 30, "guidance_scale")
    mine = drawing.own(pipe)
    said, nothing = _spoken(mine, ends)
    side = pipe.unet.config.sample_size
    noise = torch.randn((1, pipe.unet.config.in_channels, side, side), generator=core.seeded(seed)).to(pipe.device, pipe.unet.dtype)
    weights, made = torch.linspace(0, 1, n).to(said), []
    for part in weights.split(MOST):
        mixed = torch.stack([torch.lerp(said[0], said[1], weight) for weight in part])
        call = {"prompt_embeds": mixed, "negative_prompt_embeds": nothing.expand_as(mixed), "latents": noise.expand(len(part), -1, -1, -1).clone()}
        call |= {"num_inference_steps": steps, "guidance_scale": guidance}

        def draw(report, call=call):
            mine.scheduler = schedulers.make(pipe.scheduler)
            report(drawing.called(mine, call, steps, report, previews=False))

        for step in drawing.background(draw):
            made = made + step.pictures
        yield made


@torch.no_grad()
def _spoken(pipe, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """(2, T, E) of two prompts and (1, T, E) of none."""
    said, nothing = pipe.encode_prompt(prompts, pipe.device, 1, True)
    return said, nothing[:1]
