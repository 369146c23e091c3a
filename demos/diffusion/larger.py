"""Larger: a picture with 2 or 4 times as many pixels a side, drawn by a small network, beside what interpolation makes of it."""

import gradio as gr
from PIL import Image

from demos.diffusion import drawn
from demos.endpoints import file, opened, stored
from demos.i18n import both, t, told
from demos.pieces import empty, made_by, note, plate
from genkit import diffusion, labels, models
from genkit.core import Problem, number

TITLE = ("Larger: 2 or 4 times the pixels", "放大：2 倍或 4 倍")
LESSON = (
    "Interpolation can only blend the pixels that are there, so edges grow soft. A network that has seen many small pictures beside their large originals knows what a sharp edge "
    "looks like, and draws one. It has learnt from flat pictures: what it adds to a photo is a guess in that style.",
    "插值只能混合已有的像素，所以边缘会变软。一个看过许多小图及其大图原件的网络知道清晰的边缘是什么样，就把它画出来。它只学过扁平图画：给照片添上的细节，是按那种风格猜的。",
)
SHOWN = 1024  # the longest side that is shown in the page; the file is whole
NAME = "upscaler/emoji"


def enlarged(picture: Image.Image, factor) -> tuple[Image.Image, Image.Image, Image.Image]:
    """(what is enlarged, its bicubic enlargement, the network's); the last one marked."""
    factor = number(factor, 2, 4, "factor", whole=True)
    if factor not in diffusion.FACTORS:
        raise Problem("factor must be 2 or 4, got '{factor}'", "放大倍数只能是 2 或 4，收到的是“{factor}”", factor=factor)
    with models.guarded():
        given = diffusion.ready(picture)
        made = diffusion.upscale(given, factor)
    before = labels.read(picture) or {}
    mark = {"prompt": before.get("prompt") or "", "seed": before.get("seed"), "factor": factor}
    return given, diffusion.bicubic(given, factor), labels.mark(made, model=NAME, **mark)


def diffusion_upscale(picture: dict, factor: int = 4) -> dict:
    """Draw a picture (an uploaded file) with 2 or 4 times as many pixels a side: a PNG file.

    One with a side over 512 pixels is made smaller first, so that the result has at most 2048; transparent parts become white; of an animation the first
    picture is taken.
    """
    return file(enlarged(opened(picture), factor)[2])


def hung(picture: Image.Image, factor, origin: tuple[str, str]):
    """(HTML, file): both enlargements side by side, and what was done."""
    given, plain, made = enlarged(picture, factor)
    size = "{} × {}".format
    both_ways = (
        plate(shrunk(plain), both("Bicubic interpolation", "双三次插值"), size(*plain.size), smooth=True),
        plate(shrunk(made), both("Drawn by the network", "网络画出"), size(*made.size), smooth=True),
    )
    small = plate(given, both(*origin), size(*given.size))
    html = f'<div class="whole enlarged"><div class="before">{small}</div><div class="ways">{"".join(both_ways)}</div></div>'
    html += told_of(picture, given, made) + made_by(NAME, factor=made.width // given.width)
    return html, gr.File(stored(labels.png(made), "larger.png"), visible=True)


def shrunk(picture: Image.Image) -> Image.Image:
    """A picture to be shown: its mark goes along."""
    if max(picture.size) <= SHOWN:
        return picture
    shown = picture.copy()
    shown.thumbnail((SHOWN, SHOWN), Image.Resampling.LANCZOS)
    return shown


def told_of(picture: Image.Image, given: Image.Image, made: Image.Image) -> str:
    """What was done to the picture on the way, if anything."""
    said = ""
    if given.size != picture.size:
        before, after = ("{} × {}".format(*each.size) for each in (picture, given))
        said += note(f"Your picture has {before} pixels; it was made smaller to {after} first.", f"您的图片有 {before} 像素；先缩小到了 {after}。")
    if max(given.size) > diffusion.TILE:
        across, down = (-(-side // diffusion.TILE) for side in given.size)
        said += note(f"Drawn in {across * down} tiles that overlap, so that no seam is seen.", f"分成 {across * down} 块画出，块与块重叠，看不出接缝。")
    if max(made.size) > SHOWN:
        said += note("Shown smaller here; the file below is whole.", "这里缩小显示；下面的文件是完整的。")
    return said


@told
def above(run, which, factor):
    """A picture of the drawing from above."""
    if not run:
        raise Problem("nothing is drawn yet; press Draw above first", "还没有画图；请先在上面点“画图”")
    _, trace = drawn.get(run)
    if not trace.pictures:
        raise Problem("the drawing is not finished yet; wait for it", "图还没有画完；请等它画完")
    place = number(which, 1, len(trace.pictures), "picture", whole=True) - 1
    return hung(trace.pictures[place], factor, ("The drawing", "画好的图"))


@told
def brought(path, factor):
    """An uploaded picture."""
    return hung(opened(path), factor, ("Your picture", "您的图片"))


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    gr.HTML(note(*LESSON))
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            factor = gr.Radio([(t("2 times", "2 倍"), 2), (t("4 times", "4 倍"), 4)], value=4, label=t("How much larger", "放大多少"))
            which = gr.Slider(1, 8, 1, step=1, label=t("Which of the pictures above", "上面的第几张"))
            go = gr.Button(t("Enlarge the drawing from above", "放大上面画好的图"), variant="primary")
            uploaded = gr.UploadButton(t("Enlarge a picture of yours", "放大您的图片"), file_types=["image"])
        with gr.Column(scale=2, min_width=280):
            result = gr.HTML(empty("Both enlargements appear here.", "两种放大结果会显示在这里。"), elem_id="diffusion-larger-result")
            saved = gr.File(label=t("The enlarged picture", "放大后的图片"), interactive=False, visible=False)
    heavy = {"concurrency_id": "heavy", "concurrency_limit": 2, "api_visibility": "private"}
    outputs = [result, saved]
    go.click(above, [parts["run"], which, factor], outputs, **heavy)
    uploaded.upload(brought, [uploaded, factor], outputs, **heavy)
    gr.api(told(diffusion_upscale), api_name="diffusion_upscale", concurrency_id="heavy", concurrency_limit=2)
    parts |= {"enlarge": go, "enlarged": result}
