"""Beyond the edge: what lies around the picture that is being edited, drawn by the model. A part of the section `edit`."""

import gradio as gr

from demos.diffusion import edit
from demos.diffusion.make import PROMPT, checked
from demos.endpoints import file, opened
from demos.i18n import t, told
from demos.pen import ASKED, stopped_by
from demos.pieces import empty, heading
from genkit import diffusion, models
from genkit.core import number

SIDES = {"left": ("left", "左"), "right": ("right", "右"), "top": ("top", "上"), "bottom": ("bottom", "下")}
WAYS = {
    "wider": ("A larger canvas", "加大画布"),
    "smaller": ("Same frame, the picture made smaller", "画框不变，图片缩小"),
    "moved": ("Same frame, the picture moved", "画框不变，图片移开"),
}
ABOUT = (
    "The picture stays and the model draws what is around it: away from the sides you choose it has nothing but noise to begin with. Name all that is to be "
    "seen, what is there already included. On a larger canvas a model does what it never practised: it may repeat a thing, or cut one off at the old edge.",
    "图片保留，由模型画出周围：在所选的一边只有噪声可作起点。请写出最后能看到的全部内容，包括图里已有的。加大画布时，模型在做从没练过的事：它可能重复画同一样东西，或在原来的边缘把东西切断。",
)


def drawing(model: str, settings: dict, picture, way, sides, part):
    """(marked pictures, Step) of an extension."""
    part = number(part, 0.1, 1, "part")
    made = diffusion.extend(models.use("diffusion", model), picture=picture, way=way, sides=sides, part=part, **settings)
    yield from edit.signed(model, settings, made, way=way, sides=list(sides) if isinstance(sides, list | tuple) else sides, part=part)


def diffusion_outpaint(
    image: dict, prompt: str, way: str = "wider", sides: list[str] | None = None, part: float = 0.5, negative_prompt: str = "", num_inference_steps: int = 20,
    guidance_scale: float = 4.0, seed: int = 0, model: str = "mini-sd", n: int = 1,
) -> list[dict]:  # fmt: skip
    """Draw what lies beyond the edges of a picture (an uploaded file, its middle square is taken): n (1 to 8) PNG files.

    way: wider (a larger canvas), smaller (the picture shrinks within the frame) or moved. sides: of left, right, top, bottom; right if none is named.
    part: how far, 0.1 to 1 of the frame.
    """
    settings = checked(prompt, negative_prompt, num_inference_steps, guidance_scale, seed, model, "", n)
    *_, (made, _) = drawing(model, settings, opened(image), way, ["right"] if sides is None else sides, part)
    return [file(each) for each in made]


@told
def beyond(pen, asked, value, prompt, way, sides, part, n, model, num_inference_steps, guidance_scale, negative_prompt, seed):
    """The pictures as they come."""
    settings = checked(prompt, negative_prompt, num_inference_steps, guidance_scale, seed, model, "", n)
    drawn = drawing(model, settings, edit.begun(value), way, sides, part)
    for shown in edit.shown(pen, asked, drawn, prompt, model, settings, way=way, sides=", ".join(map(str, sides or [])), part=part):
        yield f'<div class="whole">{shown}</div>'


def build(parts: dict, further: dict) -> None:
    """Build it. further: the canvas with the picture, and how many pictures are asked for."""
    heading("Beyond the edge", "画到边缘之外", *ABOUT)
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            prompt = gr.Textbox(
                "a watermelon and a star on a purple background",
                label=t("All that is to be seen", "最后能看到的全部内容"),
                max_length=PROMPT,
                elem_id="diffusion-beyond",
            )
            way = gr.Radio([(t(*said), name) for name, said in WAYS.items()], value="wider", label=t("How", "方式"))
            sides = gr.CheckboxGroup([(t(*said), name) for name, said in SIDES.items()], value=["right"], label=t("On which sides", "在哪些边"))
            part = gr.Slider(
                0.1, 1, 0.5, step=0.05, label=t("How far", "多远"), info=t("As a part of the frame; within it at most 0.75.", "占画框的比例；画框内最多 0.75。")
            )
            with gr.Row():
                go = gr.Button(t("Draw what is outside", "画出外面"), variant="primary", min_width=140)
                stop = gr.Button(t("Stop", "停止"), min_width=70)
        with gr.Column(scale=2, min_width=280):
            result = gr.HTML(empty("The larger view appears here.", "扩展后的图片会显示在这里。"), elem_id="diffusion-outside")
    heavy = {"concurrency_id": "heavy", "concurrency_limit": 2, "api_visibility": "private"}
    top = [parts[name] for name in ("model", "count", "guidance", "negative", "seed")]
    inputs = [*stopped_by(stop), further["canvas"], prompt, way, sides, part, further["pictures"], *top]
    go.click(beyond, inputs, result, js=ASKED, **heavy)
    gr.api(told(diffusion_outpaint), api_name="diffusion_outpaint", concurrency_id="heavy", concurrency_limit=2)
    parts |= {"beyond": go, "outside": result}
