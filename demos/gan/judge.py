"""Ask the discriminator: what it makes of generated digits, of real ones, and of what a visitor draws."""

import functools

import gradio as gr
from PIL import Image, ImageOps

from demos import pad
from demos.endpoints import opened
from demos.gan.make import choices, pictures
from demos.i18n import both, t, told
from demos.pieces import empty, histograms, made_by, note, plate, wall
from genkit import gan, models, vae
from genkit.core import pick
from genkit.together import together

TITLE = ("D's verdict: real or made?", "判别器的判决：真的还是假的？")
LESSON = (
    "D has seen two kinds of pictures only: handwritten digits, and what G made of noise. Draw a digit and watch its verdict change with every stroke.",
    "判别器（D）只见过两种图片：人手写的数字，和生成器（G）用噪声画出的数字。画一个数字，看它的判决随每一笔变化。",
)
TRY = (
    "D does not ask whether it is a good digit. It looks for what gives G away: the width of strokes, the grey of their edges. So a careful drawing can fail, and a cross, which is no "
    "digit at all, can pass for a real one. Try both. A small drawing is enlarged, and its strokes with it: what does D say of thick ones?",
    "D 并不关心数字写得好不好，它只找 G 露出的马脚：笔画的粗细、边缘的灰度。所以认真写的数字可能被判为假，而一个根本不是数字的叉，却可能被当成真的。两种都试试。画得小会被放大，笔画也跟着变粗：D 对粗笔画怎么说？",
)


def probable(variant: str) -> bool:
    """Whether D of a variant says probabilities; a Wasserstein critic gives scores."""
    return gan.VARIANTS[variant].rules.loss in ("minimax", "non-saturating")


@functools.cache
def jury(variant: str):
    """One function a variant that judges the drawings of many visitors in one pass."""
    return together(lambda drawn: gan.judge(models.use("gan", variant), drawn, loss=gan.VARIANTS[variant].rules.loss))


def seen(picture: Image.Image) -> Image.Image:
    """What D sees of any picture: one that already is 28 x 28 in white on black as it is; any other cropped, scaled and centred like MNIST's."""
    grey = picture.convert("L") if picture.size == (28, 28) else None
    if grey is not None and grey.getpixel((0, 0)) < 25 and grey.getextrema()[1] > 100:
        return grey
    return vae.digit_from(picture)


def verdict(picture: Image.Image, variant: str):
    """(what D sees, its Verdict). Raises Problem for an empty picture or an unknown variant."""
    pick(gan.VARIANTS, variant, "GAN variant", "GAN 变体")
    with models.guarded():
        shown = seen(picture)
        return shown, jury(variant)(shown)


def gan_verdict(image: dict, variant: str = "dcgan") -> dict:
    """What the discriminator of a variant makes of a picture of a digit (an uploaded file).

    score: its logit, higher is more real; probability: that it is real, null from the critic of wgan-gp, whose score is no probability;
    percentile_real, percentile_fake: the percentage of 500 real test digits, and of 500 generated ones, that it finds less real;
    believes: the ten probabilities (scores from a critic) that it is a real 0, 1, ... 9; digit: the one that counts, which the shipped classifier reads; null if D is not told digits.
    """
    _, made = verdict(opened(image), variant)
    return {name: getattr(made, name) for name in ("score", "probability", "percentile_real", "percentile_fake")} | {
        "believes": list(made.believes),
        "digit": made.digit,
    }


def signed(value: float) -> str:
    return f"{round(value, 1) + 0:+.1f}".replace("-", "−")  # + 0: no −0.0


def worth(value: float, variant: str) -> str:
    """A belief as D says it: a percentage, or the score of a critic."""
    return f"{100 * value:.0f}%" if probable(variant) else signed(value)


def strip(score: float, among) -> str:
    """One scale from what D finds made to what it finds real: real digits above it, generated ones below, the drawing's mark across."""
    low, high = min(among.real[5], among.fake[5]), max(among.real[-6], among.fake[-6])  # the outermost hundredth would squeeze the rest
    names = both("real test digits", "真实的测试数字"), both("made by G", "G 生成的")
    ends = both("← D: made", "← D 认为是假的"), both("D: real →", "D 认为是真的 →")
    return histograms(among.real, among.fake, names, (low, high), [(score, both("this one", "这一幅"))], ends)


def beliefs(made, variant: str) -> str:
    """How real D finds the picture as each of the ten digits."""
    if made.digit is None:
        return note("This D was never told which digit a picture is meant to be: it says only real or made.", "这个 D 从不知道图片应是哪个数字：它只说真或假。")
    low, high = (0, 1) if probable(variant) else (min(made.believes), max(made.believes))
    each = "".join(
        f'<li class="{"most" if digit == made.digit else ""}"><i style="--h:{100 * (value - low) / (high - low or 1):.0f}%"></i><b>{digit}</b>{worth(value, variant)}</li>'
        for digit, value in enumerate(made.believes)
    )
    asked = (
        f"A classifier reads a {made.digit}, so D is asked: is this a real {made.digit}? Below, how real D would find it as each of the ten. D is no reader: towards the end of its training it never meets a digit under a wrong name.",
        f"分类器读出的是 {made.digit}，于是问 D：这是真的 {made.digit} 吗？下面是它作为十个数字各自的可信程度。D 不会认字：训练后期它从没见过叫错名字的数字。",
    )
    return f'{note(*asked)}<ol class="believes">{each}</ol>'


def sentence(made, variant: str, among) -> str:
    """The verdict in words."""
    said = ("D takes it for a real one.", "D 认为它是真的。") if made.real else ("D takes it for a made one.", "D 认为它是假的（生成的）。")
    if made.probability is None:
        real, fake = (sum(scores) / len(scores) for scores in (among.real, among.fake))
        told = (
            f"Its score is {signed(made.score)}. The critic of WGAN-GP gives scores, not probabilities: {signed(real)} for real digits and {signed(fake)} for made ones, on average.",
            f"得分 {signed(made.score)}。WGAN-GP 的评判器只打分，不给概率：真实数字平均 {signed(real)}，生成的数字平均 {signed(fake)}。",
        )
    else:
        told = (f"The probability that it is real, says D: {worth(made.probability, variant)}.", f"D 说它是真的概率为 {worth(made.probability, variant)}。")
    rank = (
        f"It finds {made.percentile_real:.0f}% of 500 real test digits and {made.percentile_fake:.0f}% of 500 made ones less real than this.",
        f"在 500 个真实测试数字中，它觉得有 {made.percentile_real:.0f}% 不如这一幅真；在 500 个生成的数字中，有 {made.percentile_fake:.0f}%。",
    )
    return f'<p class="verdict" role="status"><b>{both(*said)}</b> {both(*told)} {both(*rank)}</p>'


def hung(shown: Image.Image, made, variant: str) -> str:
    """A verdict as the page shows it."""
    among = gan.reference(models.use("gan", variant))
    plated = plate(shown, both("What D sees", "D 看到的"), both("28 × 28, centred", "28 × 28，已居中"))
    return f'<div class="judged">{plated}<div>{sentence(made, variant, among)}{strip(made.score, among)}</div></div>{beliefs(made, variant)}'


@functools.cache
def real_digits() -> dict:
    """Twenty real test digits, 0 to 9 twice: the pad's value that shows one -> the digit itself."""
    from genkit.digits import digits  # brings torch, which the page must not wait for

    x, y = (part.numpy() for part in digits("test"))
    chosen = [Image.fromarray(x[(y == digit).nonzero()[0][nth]]) for nth in (2, 3) for digit in range(10)]
    return {pad.address(ImageOps.invert(picture)): picture for picture in chosen}


def pick_real(sheet) -> str:
    """The next real test digit for the pad."""
    sheets = list(real_digits())
    return sheets[(sheets.index(sheet) + 1) % len(sheets)] if sheet in sheets else sheets[3]


@told
def look(sheet, variant) -> str:
    """The verdict on what is on the pad. A test digit is judged as it is, not as the pad enlarged it."""
    picture = real_digits().get(sheet) or pad.picture(sheet)
    return hung(*verdict(picture, variant), variant)


def again(sheet, variant) -> str:
    """The verdict of another D on what is on the pad, if anything is."""
    return look(sheet, variant) if sheet else gr.skip()


def row(title: tuple[str, str], digits, verdicts, variant: str) -> str:
    """Pictures with D's belief under each, and their mean in words."""
    told = [made.score if made.probability is None else made.probability for made in verdicts]
    names = [f"{digit} · {worth(value, variant)}" for digit, value in enumerate(told)]
    mean = worth(sum(told) / len(told), variant)
    return f"<h4>{both(*title)}</h4>{wall(digits, names)}{note(f'On average: {mean}.', f'平均：{mean}。')}"


@told
def samples(variant, seed) -> str:
    """Ten generated digits and ten real ones, each with what D thinks of it as the digit that it is meant to be."""
    made, real = pictures(variant, "0123456789", 10, seed), list(real_digits().values())[:10]
    with models.guarded():
        verdicts = gan.judge(models.use("gan", variant), made + real, [*range(10)] * 2, loss=gan.VARIANTS[variant].rules.loss)
    kind = note(
        *(
            ("In percent: how sure D is that it is real.", "百分比：D 有多相信它是真的。")
            if probable(variant)
            else ("Scores: higher is more real.", "得分：越高越真。")
        )
    )
    rows = row(("Made by G", "G 生成的"), made, verdicts[:10], variant) + row(("Real test digits", "真实的测试数字"), real, verdicts[10:], variant)
    return f'<div class="jury">{kind}{rows}</div>{made_by(variant, seed=int(seed))}'


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    waiting = ("Draw a digit on the pad, or pick a real one.", "请在画板上画一个数字，或选一个真实的。")
    gr.HTML(note(*LESSON))
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            sheet = pad.pad(elem_id="judge-pad")
            real = gr.Button(t("Pick a real test digit", "选一个真实的测试数字"))
        with gr.Column(scale=2, min_width=280):
            result = gr.HTML(empty(*waiting), elem_id="judge-result")
            gr.HTML(note(*TRY))
    with gr.Row():
        variant = gr.Radio(choices(), value="dcgan", label=t("Whose D?", "谁的判别器？"), scale=3, min_width=280)
        seed = gr.Number(7, label=t("Seed of the made digits", "生成数字的种子"), precision=0, min_width=140)
    press = gr.Button(t("Ask D about ten made and ten real digits", "让 D 评判十个生成的和十个真实的数字"), variant="primary")
    rows = gr.HTML(elem_id="judge-rows")

    light = {"api_visibility": "private", "show_progress": "hidden"}
    shared = {"concurrency_id": "judge", "concurrency_limit": 32}
    sheet.input(look, [sheet, variant], result, trigger_mode="always_last", **shared, **light)
    variant.change(again, [sheet, variant], result, **shared, **light)
    sheet.clear(lambda: empty(*waiting), None, result, queue=False, **light)
    real.click(pick_real, sheet, sheet, concurrency_limit=16, **light).then(look, [sheet, variant], result, **shared, **light)
    gr.on([press.click, variant.change], samples, [variant, seed], rows, concurrency_limit=16, api_visibility="private")
    gr.api(told(gan_verdict), api_name="gan_verdict", **shared)
    parts |= {"judge_pad": sheet, "judge_variant": variant, "judge_real": real, "judge_seed": seed, "judge_samples": press, "judge_result": result}
