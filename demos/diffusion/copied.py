"""Did it copy? The training pictures nearest to a drawing, and how near real pictures come that nobody has trained on."""

import gradio as gr
from PIL import Image

from demos.diffusion import drawn
from demos.endpoints import opened
from demos.gan import copies
from demos.i18n import both, t, told
from demos.pieces import empty, histograms, note, plate, wall
from genkit import diffusion, gan, models
from genkit.core import Problem, number

TITLE = ("Did it copy?", "它是抄来的吗？")
LESSON = (
    "mini-sd learnt from pictures composed of emoji, so it is bound to draw those emoji; did it learn whole pictures by heart? Every training picture is compared with "
    "the drawing, pixel by pixel. How near must one be to be suspicious? Nearer than real pictures come that were composed anew and never shown to it.",
    "mini-sd 学的是用表情符号拼成的图，画出这些符号理所当然；但它有没有把整张图背下来？这里把每一张训练图与画好的图逐像素比较。多近才可疑？比新拼成的、从没给它看过的真实图片更近。",
)
NEAREST = 5
DIGIT = 28  # pixels a side


def sentences(found) -> tuple[str, str]:
    """What the distance means, English and Chinese."""
    distance, held = found.distances[0], diffusion.share(found.distances[0], found.held_out)
    if found.exact:
        return (
            f"This is training picture number {found.indices[0]:,}, pixel by pixel: a true copy, at distance 0.",
            f"这就是第 {found.indices[0]:,} 张训练图，每个像素都一样：真正的抄袭，距离为 0。",
        )
    en = (
        f"The nearest training picture is {distance:.1f} levels of 255 away. Of {len(found.new)} new real pictures {found.percentile:.0f} % come closer to a training picture; "
        f"of {len(found.held_out)} with a thing on a background that it was never shown on, {held:.0f} %. "
    )
    zh = (
        f"最近的训练图与它平均相差 {distance:.1f} 级（共 255 级）。在 {len(found.new)} 张新的真实图片中，有 {found.percentile:.0f} % 离训练图更近；"
        f"在 {len(found.held_out)} 张“物体和背景从未一起出现”的真实图片中，有 {held:.0f} %。"
    )
    if found.suspicious:
        return (
            en + "This looks like a copy: fewer than 2 in 100 new real pictures come so close.",
            zh + "这看起来像是抄的：100 张新的真实图片里，这么近的不到 2 张。",
        )
    return en + "So it is no closer than a new real picture would be: not a copy.", zh + "所以它并不比一张新的真实图片更近：不是抄的。"


def hung(picture: Image.Image, found, own: tuple[str, str]) -> str:
    """A picture, the training pictures nearest to it, where its distance stands among those of real ones, and what to think of it."""
    names = [f"{distance:.1f}" for distance in found.distances]
    title = f"<h4>{both('The nearest training pictures, and their distance', '最近的训练图及其距离')}</h4>"
    said = both(f"Nearest: number {found.indices[0]:,}, “{found.captions[0][0]}”", f"最近的一张：第 {found.indices[0]:,} 张，“{found.captions[0][1]}”")
    top = 1.15 * max(found.distances[0], found.new[-1], found.held_out[-1])
    chart = histograms(
        found.new, found.held_out,
        (both("new real pictures", "新的真实图片"), both("real, thing and background never together", "真实图片，物体与背景从未同现")),
        (0, top), [(found.distances[0], both("this one", "这一张"))],
        (both("← 0: a copy", "← 0：抄袭"), both(f"{top:.0f} levels: unlike all training pictures →", f"{top:.0f} 级：与所有训练图都不像 →")),
    )  # fmt: skip
    searched = note(
        f"Looked through all {found.searched:,} training pictures. Distance: how far apart the levels of a pixel are, root mean square; 0 is the same picture.",
        f"查遍了全部 {found.searched:,} 张训练图。距离：各像素级数之差的均方根；0 就是同一张图。",
    )
    return (
        f'<div class="copied">{plate(picture, both(*own), smooth=True)}<div>{title}{wall(list(found.pictures), names)}<p class="note">{said}</p></div></div>'
        f'<div role="status">{note(*sentences(found), warn=found.suspicious)}</div>{chart}{searched}'
    )


def checked(picture: Image.Image, own: tuple[str, str]) -> str:
    with models.guarded():
        found = diffusion.nearest(picture, NEAREST)
    return hung(diffusion.square(picture, found.pictures[0].width), found, own)


@told
def check(run, which) -> str:
    """A picture of the drawing from above. Raises Problem for a model whose training pictures are not here."""
    if not run:
        raise Problem("nothing is drawn yet; press Draw above first", "还没有画图；请先在上面点“画图”")
    model, trace = drawn.get(run)
    if not trace.pictures:
        raise Problem("the drawing is not finished yet; wait for it", "图还没有画完；请等它画完")
    if model == "digits":
        line = trace.pictures[0]
        place = number(which, 1, line.width // DIGIT, "picture", whole=True) - 1
        digit = line.crop((place * DIGIT, 0, (place + 1) * DIGIT, DIGIT)).convert("L")
        with models.guarded():
            (found,) = gan.nearest([digit], NEAREST)
        return copies.hung(digit, found, ("The drawing", "画好的图"))
    if not diffusion.taught_here(model):
        raise Problem(
            "the pictures that {model} has learnt from are not on this machine; choose mini-sd or digits",
            "{model} 学过的图片不在本机；请选择 mini-sd 或 digits",
            model=model,
        )
    return checked(trace.pictures[number(which, 1, len(trace.pictures), "picture", whole=True) - 1], ("The drawing", "画好的图"))


@told
def brought(path) -> str:
    return checked(opened(path), ("Your picture", "您的图片"))


@told
def copy(which) -> str:
    """What a true copy looks like: a training picture itself."""
    return checked(diffusion.training_picture(number(which, 1, 8, "picture", whole=True)), ("A training picture", "一张训练图"))


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    gr.HTML(note(*LESSON))
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            which = gr.Slider(1, 8, 1, step=1, label=t("Which of the pictures above, or which digit of the line", "上面的第几张图，或一行里的第几个数字"))
            press = gr.Button(t("Find its nearest training pictures", "查找最近的训练图"), variant="primary")
            uploaded = gr.UploadButton(t("Compare a picture of yours", "比较您的图片"), file_types=["image"])
            true = gr.Button(t("Show me a true copy", "看看真正的抄袭是什么样"))
        with gr.Column(scale=2, min_width=280):
            result = gr.HTML(empty("The nearest training pictures appear here.", "最近的训练图会显示在这里。"), elem_id="diffusion-copied-result")
    shared = {"concurrency_id": "copies", "concurrency_limit": 16, "api_visibility": "private"}
    press.click(check, [parts["run"], which], result, **shared)
    uploaded.upload(brought, uploaded, result, **shared)
    true.click(copy, which, result, **shared)
    parts |= {"copied_button": press, "copied_true": true, "copied_result": result}
