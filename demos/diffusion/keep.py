"""The code for what the tab shows: with this repository, and with diffusers alone."""

import gradio as gr

from demos.diffusion.make import checked
from demos.i18n import say, t
from demos.keep import literal
from demos.pieces import note
from genkit import diffusion, models
from genkit.core import Problem

TITLE = ("The code for this", "对应的代码")
OURS = """from genkit import diffusion

pipe = diffusion.load({model})
kept = diffusion.Trace()
*_, last = diffusion.sample(pipe, {prompt}{settings}, kept=kept)
for index, picture in enumerate(last.pictures):
    picture.save(f"{{index}}.png")
x_t, x0, noise = diffusion.look(pipe, kept, {middle})  # what step {step} saw, believed, and took for noise
"""
THEIRS = """
# the same picture with diffusers alone
{imports}

pipe = {kind}.from_pretrained({folder}){scheduler}
rngs = [torch.Generator().manual_seed({seed} + index) for index in range({n})]
pictures = pipe({prompt}{negative}, num_inference_steps={steps}, guidance_scale={guidance}, num_images_per_prompt={n}, generator=rngs).images
"""


def program(prompt, model, n, scheduler, num_inference_steps, guidance_scale, negative_prompt, seed) -> str:
    """Python that draws what the settings ask for."""
    try:
        settings = checked(prompt, negative_prompt, num_inference_steps, guidance_scale, seed, model, scheduler, n)
    except Problem as problem:
        return "# " + say(problem.en, problem.zh)
    usual = {"negative_prompt": "", "n": 1, "scheduler": ""}
    given = {name: value for name, value in settings.items() if name != "prompt" and usual.get(name) != value}
    middle = settings["num_inference_steps"] // 2
    ours = OURS.format(
        model=literal(model), prompt=literal(settings["prompt"]), settings="".join(f", {name}={literal(value)}" for name, value in given.items()),
        middle=middle, step=middle + 1,
    )  # fmt: skip
    return ours if model == "digits" else ours + alone(model, settings)


def alone(model: str, settings: dict) -> str:
    """With diffusers alone."""
    remote = models.catalogue("diffusion").get(model)
    kind = "AutoPipelineForText2Image" if remote else "StableDiffusionPipeline"
    name = diffusion.SCHEDULERS.get(settings["scheduler"], "")
    options = "".join(f", {key}={literal(value)}" for key, value in diffusion.OPTIONS.get(settings["scheduler"], {}).items())
    return THEIRS.format(
        imports=f"import torch\nfrom diffusers import {', '.join(sorted({kind, name} - {''}))}",
        kind=kind,
        folder=literal(remote.repo if remote else f"weights/diffusion/{model}"),
        scheduler=f"\npipe.scheduler = {name}.from_config(pipe.scheduler.config{options})" if name else "",
        prompt=literal(settings["prompt"]),
        negative=f", negative_prompt={literal(settings['negative_prompt'])}" if settings["negative_prompt"] else "",
        steps=settings["num_inference_steps"],
        guidance=literal(settings["guidance_scale"]),
        seed=settings["seed"],
        n=settings["n"],
    )


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    gr.HTML(
        note(
            "What stands in the controls above, as Python: once with this repository, once with diffusers alone. The same seed draws the same picture.",
            "上面控件里的设置写成 Python：一份用本仓库，一份只用 diffusers。同样的种子画出同样的图。",
        )
    )
    controls = [parts[name] for name in ("prompt", "model", "n", "scheduler", "count", "guidance", "negative", "seed")]
    code = gr.Code("", language="python", label=t("The code for this", "对应的代码"), interactive=False, lines=10, wrap_lines=True, elem_id="diffusion-code")
    light = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": 16}
    gr.on([parts["keep"].expand, *(control.change for control in controls)], program, controls, code, **light)
    parts |= {"code": code}
