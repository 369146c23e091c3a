"""A picture to begin with: drawn anew by other words, mended where it is painted over, varied; and a film from one prompt to another."""

import gradio as gr

from demos import film
from demos.diffusion import drawn, outside, style
from demos.diffusion.make import MOST, PROMPT, checked, hung, lost, odd, text
from demos.diffusion.paint import painter, read
from demos.endpoints import file, opened
from demos.i18n import both, t, told
from demos.pen import ASKED, stopped_by
from demos.pieces import data_uri, empty, heading, made_by, note, wall
from genkit import diffusion, labels, models
from genkit.core import Problem, number
from genkit.diffusion import words

TITLE = ("Edit: begin with a picture", "编辑：从一张图开始")
LESSON = (
    "Drawing need not begin with pure noise. Cover a picture with some noise and draw from there: little strength keeps its shapes, much keeps only a hint. "
    "Paint over a part, and only that is drawn anew; the rest is put back at every step, as noisy as it would be by then.",
    "画图不一定从纯噪声开始。给一张图加一些噪声，再从那里画起：强度小，形状保留；强度大，只剩一点影子。涂抹一部分，就只重画那里；其余部分每一步都按当时的噪声放回去。",
)
FRAMES = 16
SIZE = 512  # the side of the largest picture that is kept in the page


# --- what is asked, checked


def drawing(model: str, settings: dict, picture, mask, strength):
    """(marked pictures, Step) of an edit."""
    strength = number(strength, 0.05, 1, "strength")
    made = diffusion.edit(models.use("diffusion", model), picture=picture, mask=mask, strength=strength, **settings)
    yield from signed(model, settings, made, strength=strength, inpainted=mask is not None)


def signed(model: str, settings: dict, made, **said):
    """(marked pictures, Step) of what is being made; `said` joins the settings in the mark, and what the text encoder could not read of the prompt."""
    read, cut = words.fit(models.use("diffusion", model), settings["prompt"])
    said = {**settings, "prompt": read, **said} | ({"cut": cut} if cut else {})
    seed = said.pop("seed")
    for step in models.guard(made):
        yield [labels.mark(each, model=f"diffusion/{model}", seed=seed + index, **said) for index, each in enumerate(step.pictures)], step


# --- endpoints


def diffusion_edit(
    image: dict, prompt: str, strength: float = 0.6, negative_prompt: str = "", num_inference_steps: int = 20, guidance_scale: float = 4.0, seed: int = 0,
    model: str = "mini-sd", n: int = 1,
) -> list[dict]:  # fmt: skip
    """Draw a picture (an uploaded file, its middle square is taken) anew by a prompt: n (1 to 8) PNG files. strength: 0.05 hardly changes it, 1 keeps nothing."""
    settings = checked(prompt, negative_prompt, num_inference_steps, guidance_scale, seed, model, "", n)
    *_, (made, _) = drawing(model, settings, opened(image), None, strength)
    return [file(each) for each in made]


def diffusion_inpaint(
    image: dict, mask: dict, prompt: str, strength: float = 1.0, negative_prompt: str = "", num_inference_steps: int = 20, guidance_scale: float = 4.0,
    seed: int = 0, model: str = "mini-sd", n: int = 1,
) -> list[dict]:  # fmt: skip
    """Draw a part of a picture anew: image and mask are uploaded files, the mask white (or, with transparency, opaque) where something new is to be drawn.

    A mask of another size is scaled to the picture. Outside of it the picture, its middle square, stays as it is. n (1 to 8) PNG files.
    """
    settings = checked(prompt, negative_prompt, num_inference_steps, guidance_scale, seed, model, "", n)
    *_, (made, _) = drawing(model, settings, opened(image), opened(mask), strength)
    return [file(each) for each in made]


# --- what the page does


def beneath(picture) -> dict:
    """The painter's value for a picture."""
    side = min(SIZE, max(64, min(picture.size)))
    return {"under": data_uri(diffusion.square(picture, side)), "mask": ""}


@told
def bring(path) -> dict:
    return beneath(opened(path))


@told
def mine(run, value) -> dict:
    """The drawing from above, unless there is a picture already."""
    if not run or (isinstance(value, dict) and value.get("under")):
        return value
    model, trace = drawn.get(run)
    return beneath(trace.pictures[0]) if model != "digits" and trace.pictures else value


def begun(value):
    """The picture to begin with. Raises Problem if there is none."""
    picture = read(value, "under")
    if picture is None:
        raise Problem("there is no picture to begin with; upload one, or draw one above", "还没有可编辑的图片；请上传一张，或先在上面画一张")
    return picture


def showing(pen, asked, value, mask, strength, prompt, model, settings):
    """The pictures of an edit as they come, and how they were made."""
    picture = begun(value)
    yield from shown(pen, asked, drawing(model, settings, picture, mask, strength), prompt, model, settings, strength=strength)


def shown(pen, asked, drawn, prompt, model, settings, **said):
    """HTML of pictures as they come, until they are done or the visitor stops them; then how they were made."""
    for pictures, step in drawn:
        done = step.step == step.steps
        title = "" if done else both(f"step {step.step} of {step.steps}", f"第 {step.step} 步，共 {step.steps} 步")
        yield hung(pictures, title, settings["seed"])
        if pen.rests(asked) and not done:
            return
    about = made_by(model, prompt=prompt, seed=settings["seed"], guidance=settings["guidance_scale"], **said)
    yield hung(pictures, "", settings["seed"]) + odd(step) + lost(model, prompt) + about


@told
def anew(pen, asked, value, prompt, strength, n, model, num_inference_steps, guidance_scale, negative_prompt, seed):
    settings = checked(prompt, negative_prompt, num_inference_steps, guidance_scale, seed, model, "", n)
    yield from showing(pen, asked, value, None, strength, prompt, model, settings)


@told
def inpaint(pen, asked, value, prompt, strength, n, model, num_inference_steps, guidance_scale, negative_prompt, seed):
    """Only what is painted over. There it begins with nothing but noise."""
    settings = checked(prompt, negative_prompt, num_inference_steps, guidance_scale, seed, model, "", n)
    mask = read(value, "mask")
    if mask is None:
        raise Problem("nothing is painted yet; paint over the part that is to be drawn anew", "还没有涂抹；请涂抹要重画的部分")
    yield from showing(pen, asked, value, mask, 1.0, prompt, model, settings)


@told
def vary(pen, asked, value, run, prompt, strength, n, model, num_inference_steps, guidance_scale, negative_prompt, seed):
    """Four variations: its own prompt where the picture is a drawing from above, other seeds."""
    said = prompt if str(prompt).strip() else (drawn.get(run)[1].settings["prompt"] if run else "")
    settings = checked(said, negative_prompt, num_inference_steps, guidance_scale, seed, model, "", 4)
    yield from showing(pen, asked, value, None, strength, said, model, settings)


@told
def between(prompt_a, prompt_b, frames, model, num_inference_steps, guidance_scale, seed):
    """(HTML, files): the pictures from one prompt to the other as they are drawn, then the film."""
    settings = checked(prompt_a, text(prompt_b), num_inference_steps, guidance_scale, seed, model)
    frames = number(frames, 2, 48, "frames", whole=True)
    steps, guidance = settings["num_inference_steps"], settings["guidance_scale"]
    way = diffusion.between(
        models.use("diffusion", model), prompt_a, prompt_b, n=frames, num_inference_steps=steps, guidance_scale=guidance, seed=settings["seed"]
    )
    for pictures in models.guard(way):
        shown = [
            labels.mark(each, model=f"diffusion/{model}", prompt=f"{prompt_a} → {prompt_b}", seed=settings["seed"], index=index)
            for index, each in enumerate(pictures)
        ]
        names = [f"{100 * index / (frames - 1):.0f} %" for index in range(len(shown))]
        yield f'<div class="smooth">{wall(shown, names)}</div>', gr.skip()
    player, files = film.cut("between", shown, [*shown, *shown[-2:0:-1]], fps=8, columns=8, scale=max(1, 320 // shown[0].width))
    about = made_by(model, prompt=f"{prompt_a} → {prompt_b}", seed=settings["seed"])
    yield f'<div class="smooth">{wall(shown, names)}</div>{player}{lost(model, prompt_a)}{lost(model, prompt_b)}{about}', files


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    gr.HTML(note(*LESSON))
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            canvas = painter(elem_id="diffusion-paint")
            with gr.Row():
                uploaded = gr.UploadButton(t("Upload a picture", "上传图片"), file_types=["image"], min_width=110)
                take = gr.Button(t("Take the drawing from above", "用上面画好的图"), min_width=110)
            prompt = gr.Textbox("a house on a green background", label=t("What it is to become", "要变成什么"), max_length=PROMPT, elem_id="diffusion-become")
            strength = gr.Slider(
                0.05,
                1,
                0.6,
                step=0.05,
                label=t("Strength", "强度"),
                info=t("How far back into the noise. Painted parts always go all the way.", "退回噪声多远。涂抹的部分总是退到底。"),
            )
            n = gr.Slider(1, MOST, 1, step=1, label=t("Pictures", "图片数"))
        with gr.Column(scale=2, min_width=280):
            with gr.Row():
                go = gr.Button(t("Draw it anew", "重画整张"), variant="primary", min_width=110)
                mend = gr.Button(t("Draw the painted part", "重画涂抹处"), variant="primary", min_width=110)
                four = gr.Button(t("Four variations", "四个变体"), min_width=110)
                stop = gr.Button(t("Stop", "停止"), min_width=70)
            result = gr.HTML(empty("The edited picture appears here.", "编辑后的图片会显示在这里。"), elem_id="diffusion-edited")
    further = {"canvas": canvas, "pictures": n}
    outside.build(parts, further)
    style.build(parts, further)
    heading(
        "A film from one prompt to another", "从一句话到另一句话的影片",
        "The same noise, and a mixture of what the text encoder says of both prompts: a little more of B in every picture.",
        "同一份噪声，把文本编码器对两句话的理解按比例混合：每一张里 B 都多一点。",
    )  # fmt: skip
    with gr.Row():
        a = gr.Textbox("a red apple", label=t("From A", "从 A"), max_length=PROMPT, min_width=200)
        b = gr.Textbox("a banana on a blue background", label=t("to B", "到 B"), max_length=PROMPT, min_width=200)
        frames = gr.Slider(2, 48, FRAMES, step=1, label=t("Pictures", "图片数"), min_width=180)
        shoot = gr.Button(t("Make the film", "制作影片"), variant="primary", min_width=140)
    shot = gr.HTML(elem_id="diffusion-between")
    saved = gr.File(label=t("Files to keep", "可保存的文件"), file_count="multiple", interactive=False, visible=False)

    heavy = {"concurrency_id": "heavy", "concurrency_limit": 2, "api_visibility": "private"}
    light = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": 8}
    top = [parts[name] for name in ("model", "count", "guidance", "negative", "seed")]
    asked = stopped_by(stop)
    go.click(anew, [*asked, canvas, prompt, strength, n, *top], result, js=ASKED, **heavy)
    mend.click(inpaint, [*asked, canvas, prompt, strength, n, *top], result, js=ASKED, **heavy)
    four.click(vary, [*asked, canvas, parts["run"], prompt, strength, n, *top], result, js=ASKED, **heavy)
    uploaded.upload(bring, uploaded, canvas, **light)
    take.click(lambda run, value: mine(run, None), [parts["run"], canvas], canvas, **light)
    parts["edit"].expand(mine, [parts["run"], canvas], canvas, **light)
    made = shoot.click(between, [a, b, frames, *[parts[name] for name in ("model", "count", "guidance", "seed")]], [shot, saved], **heavy)
    made.success(lambda: gr.File(visible=True), None, saved, queue=False, api_visibility="private")
    gr.api(told(diffusion_edit), api_name="diffusion_edit", concurrency_id="heavy", concurrency_limit=2)
    gr.api(told(diffusion_inpaint), api_name="diffusion_inpaint", concurrency_id="heavy", concurrency_limit=2)
    parts |= {"become": prompt, "strength": strength, "anew": go, "four": four, "edited": result, "between": shoot, "film_between": shot}
