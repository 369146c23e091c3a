"""Another style: the picture that is being edited, drawn anew in one of the styles that the model knows. A part of the section `edit`."""

import gradio as gr

from demos import download
from demos.diffusion import drawn, edit
from demos.diffusion.make import PROMPT, checked, text
from demos.i18n import t, told
from demos.pen import ASKED, stopped_by
from demos.pieces import empty, heading, note
from genkit import diffusion

ABOUT = (
    "Image to image with a prompt that names the style: the shapes of the picture stay as far as the strength lets them. A model can only draw in a style it has learnt a word for, "
    "so the list is its own; a tint counts as one.",
    "用写明风格的提示词做图生图：强度允许多少，图里的形状就保留多少。模型只能画它学过名字的风格，所以下面的列表因模型而异；整体换色也算一种。",
)


def choices(model: str) -> list:
    """The styles of a model, named in both languages."""
    return [(t(*named), style) for style, named in diffusion.styles(model).items()]


def offered(model: str):
    """(the control, what is said beside it) for a model."""
    there = choices(model)
    silent = note("This model knows no style: there is nothing to choose.", "这个模型不会任何风格：没有可选的。", warn=True)
    return gr.Dropdown(there, value=there[0][1] if there else None, interactive=bool(there)), "" if there else silent


@told
def restyle(pen, asked, value, run, prompt, style, strength, n, model, num_inference_steps, guidance_scale, negative_prompt, seed):
    """The pictures as they come. Without a prompt, that of the drawing from above."""
    said = prompt if str(text(prompt)).strip() else (drawn.get(run)[1].settings["prompt"] if run else "")
    checked(said, negative_prompt, num_inference_steps, guidance_scale, seed, model, "", n)
    asks = diffusion.styled(model, said, style)
    settings = checked(asks[:PROMPT], negative_prompt, num_inference_steps, guidance_scale, seed, model, "", n)
    yield from edit.showing(pen, asked, value, None, strength, asks, model, settings)


def build(parts: dict, further: dict) -> None:
    """Build it. further: the canvas with the picture, and how many pictures are asked for."""
    for model in download.choices("diffusion"):
        choices(model)  # their names must be known before the page is sent
    heading("Another style", "换一种风格", *ABOUT)
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            prompt = gr.Textbox(
                "",
                label=t("What the picture shows", "图里画的是什么"),
                info=t("Empty: the prompt of the drawing above.", "留空：用上面画图的提示词。"),
                max_length=PROMPT,
            )
            first = choices("mini-sd")
            style = gr.Dropdown(first, value=first[0][1], label=t("Style", "风格"), filterable=False, elem_id="diffusion-style")
            silent = gr.HTML("")
            strength = gr.Slider(0.05, 1, 0.7, step=0.05, label=t("Strength of the style", "风格强度"))
            with gr.Row():
                go = gr.Button(t("Draw it in this style", "用这种风格重画"), variant="primary", min_width=140)
                stop = gr.Button(t("Stop", "停止"), min_width=70)
        with gr.Column(scale=2, min_width=280):
            result = gr.HTML(empty("The picture in its new style appears here.", "换了风格的图片会显示在这里。"), elem_id="diffusion-styled")
    heavy = {"concurrency_id": "heavy", "concurrency_limit": 2, "api_visibility": "private"}
    top = [parts[name] for name in ("model", "count", "guidance", "negative", "seed")]
    inputs = [*stopped_by(stop), further["canvas"], parts["run"], prompt, style, strength, further["pictures"], *top]
    go.click(restyle, inputs, result, js=ASKED, **heavy)
    parts["model"].change(offered, parts["model"], [style, silent], queue=False, api_visibility="private", show_progress="hidden")
    parts |= {"restyle": go, "styled": result}
