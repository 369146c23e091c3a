"""Take along what was trained in this tab, bring it back, push it: the digits, the points, the text-to-image model of one's own."""

import gradio as gr

from demos import keep as panel
from demos.diffusion import learn, points, teach
from demos.i18n import t
from demos.keep import call, literal
from demos.pieces import made_by, note, wall
from genkit import diffusion, keep, labels, models, runs

TITLE = ("Keep what you trained: download, load, share", "带走您训练的模型：下载、载入、分享")
FILES = ("its two files", "它的两个文件")  # a longer label would lie under the buttons on a phone
DIGITS = """from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained("the folder of this file")

# with the gallery, told which digits
from genkit import diffusion

*_, last = diffusion.sample(diffusion.load("the folder of this file"), "0123456789", num_inference_steps=20, guidance_scale=1.5)
last.image.save("digits.png")
"""
POINTS = """from genkit import folders
from genkit.diffusion import points

net = folders.read(points.Mover, "the folder of this file")
way = points.paths(net, 400)  # (steps + 1, 400, 2): from noise to the shape
"""
OWN = """from diffusers import StableDiffusionPipeline

pipe = StableDiffusionPipeline.from_pretrained("the folder of this file")
pipe({prompt}, num_inference_steps=14, guidance_scale=4.0).images[0].save("picture.png")
"""
TRAIN = {
    "digits": """from genkit import diffusion

for event in {train}:
    print(event.step, event.exam){stop}
diffusion.save(event.model, "my-digits")
*_, last = diffusion.sample(event.model, "0123456789", num_inference_steps=20, guidance_scale=1.5)
last.image.save("digits.png")
""",
    "points": """from PIL import Image

from genkit import folders
from genkit.diffusion import points

drawing = Image.open("my-drawing.png")  # dark on white; or points.shape("ring")
for event in {train}:
    print(event.step, event.exam){stop}
folders.write(event.model, "my-points")
""",
    "teach": """from PIL import Image

from genkit import diffusion
from genkit.diffusion import sprites, teach

things = [
{things}]
for event in {train}:
    print(event.step, event.exam.gap)
diffusion.save(event.model, "my-model")
""",
}
MNIST = "MNIST (LeCun et al. 1998; CC BY-SA 3.0, as commonly stated by its distributors)"


def forms():
    from genkit.diffusion import parcels  # brings torch, which the page must not wait for

    return parcels


def stop(run: runs.Snapshot) -> str:
    return panel.STOP.format(step=run.step) if run.step < run.steps else ""


def rows(run: runs.Snapshot, **more) -> dict:
    exam = run.exam
    found = {"seed": run.about["seed"], "steps": f"{run.step} of {run.steps}", **more}
    return found | ({"loss by noise level": ", ".join(f"{loss:.3f}" for loss in exam.losses)} if exam and exam.losses else {})


# --- digits


def digits_made(run: runs.Snapshot, model) -> panel.Made:
    read = {"read as asked for": f"{run.exam.right:.0%} of 100"} if run.exam else {}
    summary = (
        "A small class-conditional diffusion model that draws handwritten digits, 28 x 28 pixels, trained in front of everybody by a visitor of the gallery."
    )
    return panel.Made(f"my-digits-{run.step}", model, keep.Card("My diffusion of digits", summary, rows(run, **read), MNIST, DIGITS, ("diffusers", "mnist")))


def digits_shown(model) -> str:
    with models.guarded():
        *_, last = diffusion.sample(model, "0123456789", num_inference_steps=12, guidance_scale=1.5)
    return wall([labels.mark(last.image, model="diffusion/of a visitor", seed=0)], ["0123456789"]) + made_by("digits (zip)", seed=0)


def digits_code(run: runs.Snapshot) -> str:
    asked = {name: run.about[name] for name in ("steps", "every", "seed", "exams") if name in run.about}
    return TRAIN["digits"].format(train=call("diffusion.train", "digits", **asked), stop=stop(run))


# --- points


def points_made(run: runs.Snapshot, model) -> panel.Made:
    summary = "A small network that moves noise to where the points of a visitor's drawing lie, in two dimensions."
    on_it = {"samples on the drawing": f"{run.exam.right:.0%} of 400"} if run.exam else {}
    return panel.Made(f"my-points-{run.step}", model, keep.Card("My points", summary, rows(run, **on_it), "a drawing of a visitor's", POINTS, ("diffusion",)))


def points_save(model, path) -> None:
    from genkit import folders

    folders.write(model, path)


def points_code(run: runs.Snapshot) -> str:
    asked = ", ".join(f"{name}={run.about[name]}" for name in ("steps", "every", "seed"))
    return TRAIN["points"].format(train=f"points.train(points.from_picture(drawing, {run.about['seed']}), {asked})", stop=stop(run))


# --- one's own text-to-image model


def own_made(run: runs.Snapshot, model) -> panel.Made:
    things, exam = run.about["things"], run.exam
    gap = {"gap between captions": f"{exam.gap:.3f}"} if exam and exam.gap is not None else {}
    summary = f"A miniature Stable Diffusion, 64 x 64 pixels, taught by a visitor of the gallery to draw: {', '.join(things)}."
    code = OWN.format(prompt=literal(f"a {things[0].partition(' / ')[0]} on a blue background"))
    card = keep.Card(
        "My text-to-image model",
        summary,
        rows(run, things=", ".join(things), **gap),
        "pictures that the visitor chose or drew",
        code,
        ("diffusers", "text-to-image"),
    )
    return panel.Made(f"my-text-to-image-{run.step}", model, card)


def own_shown(model, prompt) -> str:
    prompt = str(prompt)[: teach.PROMPT]
    with models.guarded():
        *_, last = diffusion.sample(model, prompt, num_inference_steps=14, guidance_scale=4.0, n=teach.DRAWN)
    marked = [labels.mark(picture, model="diffusion/of a visitor", prompt=prompt, seed=index) for index, picture in enumerate(last.pictures)]
    return wall(marked, [f"{index + 1}" for index in range(len(marked))]) + made_by("mini-sd (zip)", seed=0)


def own_code(run: runs.Snapshot, _prompt) -> str:
    """The steps, not the minutes: a second run of them gives the same where the first was not cut off."""
    things = "".join(
        f"    sprites.named({literal(name)}, sprites.cut_out(Image.open({literal(f'{index}.png')}))),\n" for index, name in enumerate(run.about["things"])
    )
    return TRAIN["teach"].format(things=things, train=f"teach.train(things, steps={max(run.step, 1)}, seed={run.about['seed']})")


KEEPINGS = (
    (learn.TITLE, panel.Keeping("diffusion", lambda: forms().digits(), None, digits_made, digits_shown, None, digits_code, None)),
    (points.TITLE, panel.Keeping("diffusion", lambda: forms().drawn_points(), None, points_made, lambda model: points.plot(model, points.STEPS, 0, True), None, points_code, FILES, name=points.NAME, save=points_save)),
    (teach.TITLE, panel.Keeping("diffusion", lambda: forms().own_model(), None, own_made, own_shown, None, own_code, None, name=teach.NAME)),
)  # fmt: skip


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    gr.HTML(note("Each of the three trainings above has its own place here.", "上面的三种训练各有一处。"))
    for title, keeping in KEEPINGS:
        name = keeping.name or "diffusion-digits"
        with gr.Accordion(t(*title), open=False, elem_id=f"{name}-keep") as fold:
            prompt = []
            if keeping.name == teach.NAME:
                prompt = [gr.Textbox("a cat on a blue background", label=t("What a loaded model is to draw", "载入的模型要画什么"), max_length=teach.PROMPT)]
            panel.panel(keeping, kept, fold, prompt)
