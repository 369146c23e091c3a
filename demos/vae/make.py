"""Draw a digit, or bring one, and see it redrawn from a few numbers. The part of the tab that opens first."""

import asyncio
import functools
import json

import gradio as gr
from PIL import Image, ImageOps

from demos import pad
from demos.answer import answer, asking
from demos.endpoints import file, opened
from demos.i18n import both, escape, t, told
from demos.pieces import bars, empty, made_by, note, plate, plates, refused, wall
from genkit import labels, models, vae
from genkit.core import Problem, number, pick
from genkit.together import together
from genkit.vae import pictures

NAMES = {
    "conv": ("Convolutions, 32 numbers", "卷积，32 个数"),
    "conv2d": ("Convolutions, 2 numbers only", "卷积，只有 2 个数"),
    "mlp": ("MLP (the classic), 64 numbers", "MLP（经典），64 个数"),
    "ae": ("Plain autoencoder, no bell curve", "普通自编码器，没有钟形分布"),
    "conditional": ("Conditional (told which digit)", "条件式（告知数字）"),
    "beta-0.1": ("β = 0.1 (sharp, untidy code)", "β = 0.1（清晰，编码杂乱）"),
    "beta-4": ("β = 4 (tidy code, soft)", "β = 4（编码整齐，模糊）"),
    "beta-16": ("β = 16 (very tidy, very soft)", "β = 16（非常整齐，非常模糊）"),
}
WAITING = ("Draw a digit on the pad.", "请在画板上画一个数字。")
MOST = 12  # files that are looked at together


def choices(names=tuple(NAMES)) -> list[tuple]:
    """(label, variant) of these variants, for a menu."""
    return [(t(*NAMES[name]), name) for name in names]


# --- what is asked, checked


@functools.cache
def mirror(variant: str):
    """One function a variant that reconstructs the digits of many visitors in one forward pass."""
    return together(lambda digits: vae.reconstruct_many(models.use("vae", variant), digits))


def reconstruct(picture: Image.Image, variant: str):
    """The Reconstruction of any drawing or photo of a digit. Raises Problem for an empty picture or an unknown variant."""
    pick(vae.VARIANTS, variant, "VAE variant", "VAE 变体")
    with models.guarded():
        return mirror(variant)(vae.digit_from(picture))


@functools.cache
def test_digits() -> dict[str, Image.Image]:
    """Twenty handwritten test digits, 0 to 9 twice: the pad's value that shows one, ink on paper -> the digit itself."""
    from genkit.digits import digits  # brings torch, which the page must not wait for

    x, y = (part.numpy() for part in digits("test"))
    chosen = [Image.fromarray(x[(y == digit).nonzero()[0][nth]]) for nth in (0, 1) for digit in range(10)]
    return {pad.address(ImageOps.invert(picture)): picture for picture in chosen}


def digit_on(sheet) -> Image.Image:
    """The 28 x 28 digit on a pad: a test digit as it is, anything else cropped, scaled and centred. Raises Problem if there is none."""
    return test_digits().get(str(sheet)) or vae.digit_from(pad.picture(sheet))


def drawn(variant: str, n, seed) -> list:
    """n marked digits from the prior, 28 x 28. n is clamped to 1-64."""
    pick(vae.VARIANTS, variant, "VAE variant", "VAE 变体")
    n, seed = number(n, 1, 64, "n", whole=True), number(seed, 0, 2**31 - 1, "seed", whole=True)
    with models.guarded():
        (made,) = vae.sample(models.use("vae", variant), n=n, seed=seed)
    return [labels.mark(picture, model=f"vae/{variant}", seed=seed, index=index) for index, picture in enumerate(made)]


# --- endpoints


def vae_reconstruct(image: dict, variant: str = "conv") -> tuple[dict, dict]:
    """Reconstruct a picture of a digit (an uploaded file): the 28 x 28 PNG, and {"recon", "kl"} in nats with "mu" and "logvar"."""
    made = reconstruct(opened(image), variant)
    return file(labels.mark(made.output, model=f"vae/{variant}")), {"recon": made.recon, "kl": made.kl, "mu": list(made.mu), "logvar": list(made.logvar)}


def vae_encode(image: dict, variant: str = "conv", digit: int | None = None) -> dict:
    """Squeeze a picture of a digit (an uploaded file) into its code: {"mu", "logvar"}, lists of as many numbers as the variant has; logvar is empty for a plain autoencoder.

    digit: which digit it is, for the variant "conditional"; null lets a classifier read it.
    """
    pick(vae.VARIANTS, variant, "VAE variant", "VAE 变体")
    with models.guarded():
        (found,) = vae.encode_many(models.use("vae", variant), [vae.digit_from(opened(image))], [asked_digit(digit)])
    return {"mu": list(found.mu), "logvar": list(found.logvar)}


def vae_decode(z: list[float], variant: str = "conv", digit: int | None = None) -> dict:
    """Draw the digit of a code z, a list of as many numbers as the variant has: a 28 x 28 PNG file. digit: what to draw, for the variant "conditional"."""
    z = codes_of(z)
    pick(vae.VARIANTS, variant, "VAE variant", "VAE 变体")
    with models.guarded():
        (picture,) = vae.decode_many(models.use("vae", variant), [(z, asked_digit(digit))])
    return file(labels.mark(picture, model=f"vae/{variant}", z=z))


def codes_of(z) -> list[float]:
    """A code that a client sent: its numbers, each clamped to ±100. Raises Problem for anything else."""
    if not isinstance(z, list) or len(z) > 1024:
        raise Problem("z must be a list of numbers", "z 必须是一个数字列表")
    return [number(value, -100.0, 100.0, "z") for value in z]


def asked_digit(digit) -> int | None:
    """0 to 9, or None for nothing. Raises Problem for anything else."""
    return None if digit in (None, "") else int(pick(tuple("0123456789"), str(digit), "digit", "数字"))


def vae_sample(variant: str = "conv", n: int = 10, seed: int = 0) -> list[dict]:
    """Decode n draws of z from the prior N(0, I): digits that nobody wrote, 28 x 28 PNG files."""
    return [file(picture) for picture in drawn(variant, n, seed)]


# --- what the page shows


async def redraw(sheet, variant) -> str:
    """What stands beside the pad. Who waits for the model holds no thread; it runs while one draws, several times a second."""
    try:
        pick(vae.VARIANTS, variant, "VAE variant", "VAE 变体")
        with models.guarded():
            digit = await asyncio.to_thread(digit_on, sheet)
            made = await asyncio.wrap_future(mirror(variant).soon(digit))
    except Problem as problem:
        return refused(problem)
    return hung(made, variant)


def again(made, variant: str) -> Image.Image:
    """The reconstruction with its mark."""
    return labels.mark(made.output, model=f"vae/{variant}")


def hung(made, variant: str) -> str:
    """A reconstruction as the page shows it: the pictures, the cost in nats, the code."""
    shown = (
        plate(made.input, both("Seen by the model", "模型看到的"), both("28 × 28, centred", "28 × 28，已居中")),
        plate(again(made, variant), both("Drawn again", "重新画出"), both(f"from {len(made.mu)} numbers", f"只凭 {len(made.mu)} 个数")),
        plate(made.error, both("Difference", "差别"), both("bright: wrong", "越亮差得越多")),
    )
    return plates(*shown) + cost(made) + code(made) + made_by(variant)


def cost(made) -> str:
    """What the classifier reads before and after, and the two terms of the ELBO in words."""
    before, after = made.seen
    kept = (
        (f"A classifier reads a {before} before and after: the digit has survived.", f"分类器前后读出的都是 {before}：数字保住了。")
        if before == after
        else (
            f"A classifier reads a {before} before and a {after} after: the digit got lost on the way.",
            f"分类器之前读出 {before}，之后读出 {after}：数字在途中走了样。",
        )
    )
    if not made.logvar:
        return note(*kept) + note(
            f"Reconstruction {made.recon:.1f} nats. A plain autoencoder pays no KL: nothing keeps its numbers tidy.",
            f"重建 {made.recon:.1f} 纳特。普通自编码器没有 KL 这一项：没有什么让它的数保持整齐。",
        )
    return note(*kept) + note(
        f"Reconstruction {made.recon:.1f} nats + KL {made.kl:.1f} nats = {made.recon + made.kl:.1f}. Fewer is better: a typical test digit needs about 100.",
        f"重建 {made.recon:.1f} 纳特 ＋ KL {made.kl:.1f} 纳特 ＝ {made.recon + made.kl:.1f}。越少越好：普通的测试数字约需 100。",
    )


def code(made) -> str:
    """mu and logvar as bars."""
    z = len(made.mu)
    drawn = bars(list(made.mu), f"μ: the mean of each of the {z} numbers. Up is positive.", f"μ：{z} 个数各自的均值，向上为正。")
    if made.logvar:
        said = (
            "log σ²: how precisely each is known. Far down: exactly. At the line: the digit says nothing about it.",
            "log σ²：每个数有多确定。越往下越确定；贴着中线：这个数字与它无关。",
        )
        drawn = f"<div>{drawn}</div><div>{bars(list(made.logvar), *said)}</div>"
    return f'<div class="code">{drawn}</div>'


@told
def dream(variant, n, seed):
    made = drawn(variant, n, seed)
    return wall(made, [f"z{index + 1}" for index in range(len(made))]) + made_by(variant, seed=int(seed))


def next_digit(sheet) -> str:
    """The next test digit for a pad."""
    sheets = list(test_digits())
    return sheets[(sheets.index(sheet) + 1) % len(sheets)] if sheet in sheets else sheets[6]


def inked(stages) -> str:
    """The pad's value that shows the ink of a photo, dark on white, in few enough levels to travel with every stroke."""
    return pad.address(ImageOps.posterize(ImageOps.invert(stages.ink), 4).point(lambda level: level * 255 // 240))


def fitting(picture: Image.Image, stages) -> str:
    """A photo on its way to what the model takes, step by step."""
    small = picture.convert("RGB")
    small.thumbnail((280, 280))
    steps = (
        (small, ("1. Your picture", "1. 您的图片"), ("turned upright", "已转正")),
        (stages.ink, ("2. The ink", "2. 找出墨迹"), ("whatever differs from the paper", "与纸不同的都算")),
        (stages.cropped, ("3. Cropped", "3. 裁剪"), ("to the ink alone", "只留墨迹")),
        (stages.fitted, ("4. Made small", "4. 缩小"), ("into 20 × 20 pixels", "放进 20 × 20 像素")),
        (stages.digit, ("5. Centred", "5. 居中"), ("by its weight, on 28 × 28", "按重心放到 28 × 28")),
    )
    return f'<div class="fitting">{"".join(plate(shown, both(*name), both(*about)) for shown, name, about in steps)}</div>'


def alone(path) -> tuple[str, str]:
    """One file: what the pad shows of it, and its steps."""
    picture = opened(path)
    stages = pictures.stages(picture)
    return inked(stages), fitting(picture, stages)


def several(paths: list, variant: str) -> str:
    """Each of some files before and after; a file that cannot be read says so in its place."""

    def row(path) -> str:
        name = str(path).replace("\\", "/").rpartition("/")[2]
        try:
            made = reconstruct(opened(path), variant)
        except Problem as problem:
            return f"<li><b>{escape(name)}</b>{refused(problem)}</li>"
        pair = plate(made.input, both("before", "之前")) + plate(again(made, variant), both("after", "之后"))
        return f"<li><b>{escape(name)}</b>{pair}{told_short(made)}</li>"

    more = note(f"Only the first {MOST} files are shown.", f"只显示前 {MOST} 个文件。", warn=True) if len(paths) > MOST else ""
    return f'<ul class="files">{"".join(map(row, paths[:MOST]))}</ul>{more}{made_by(variant)}'


def told_short(made) -> str:
    before, after = made.seen
    total = made.recon + made.kl
    return note(f"{before} → {after} · {total:.0f} nats", f"{before} → {after} · {total:.0f} 纳特", warn=before != after)


@told
def upload(paths, variant, sheet):
    """(pad, steps, batch) for one file or several."""
    paths = paths if isinstance(paths, list) else [paths]
    if len(paths) == 1:
        return *alone(paths[0]), ""
    return sheet, "", several(paths, variant)


def first() -> tuple[str, str]:
    """A test digit on the pad, and its reconstruction."""
    sheet = next_digit("")
    return sheet, asyncio.run(redraw(sheet, "conv"))


def build(parts: dict) -> None:
    """Build the pad and the result; what the lesson operates goes into `parts`."""
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            sheet = pad.pad(elem_id="vae-pad")
            with gr.Row():
                another = gr.Button(t("Pick a test digit", "选一个测试数字"), min_width=110)
                uploaded = gr.UploadButton(t("Upload pictures", "上传图片"), file_types=["image"], file_count="multiple", min_width=110)
            variant = gr.Dropdown(choices(), value="conv", label=t("Model", "模型"), filterable=False)
            go = gr.Button(t("Reconstruct", "重建"), variant="primary")
        with gr.Column(scale=2, min_width=280):
            result = answer("vae", redraw, empty("The model is waking up…", "模型正在启动……"), elem_id="vae-result")
            steps, batch = gr.HTML(elem_id="vae-fitting"), gr.HTML(elem_id="vae-batch")
    with gr.Accordion(t("New digits from pure chance", "从随机数生成新数字"), open=False) as chance:
        n, seed, press, dreams = prior()

    redrawing = asking(result, sheet=sheet, variant=variant)
    light = {"api_visibility": "private", "show_progress": "hidden"}
    gr.on([sheet.input, go.click, variant.change], **redrawing)
    sheet.clear(None, None, [result, steps], js=f"() => [{json.dumps(empty(*WAITING))}, '']", queue=False, **light)
    another.click(next_digit, sheet, sheet, concurrency_limit=16, **light).success(**redrawing)
    another.click(None, None, [steps, batch], js="() => ['', '']", queue=False, **light)
    brought = uploaded.upload(upload, [uploaded, variant, sheet], [sheet, steps, batch], concurrency_limit=4, **light)
    brought.success(**redrawing)
    press.click(dream, [variant, n, seed], dreams, concurrency_limit=16, api_visibility="private")
    gr.api(told(vae_reconstruct), api_name="vae_reconstruct", concurrency_id="redraw", concurrency_limit=32)
    gr.api(told(vae_encode), api_name="vae_encode", concurrency_limit=16)
    gr.api(told(vae_decode), api_name="vae_decode", concurrency_limit=16)
    gr.api(told(vae_sample), api_name="vae_sample", concurrency_limit=16)
    parts |= {"pad": sheet, "another": another, "variant": variant, "go": go, "result": result}
    parts |= {"chance": chance, "n": n, "seed": seed, "dream": press, "dreams": dreams}


def prior() -> tuple:
    """Build what asks for digits from the prior."""
    gr.HTML(note("Draw the numbers from the bell curve instead of from a digit, and decode them.", "不从数字、而从钟形分布里抽出这些数，再解码。"))
    with gr.Row():
        n = gr.Slider(1, 64, 20, step=1, label=t("How many", "数量"))
        seed = gr.Number(7, label=t("Seed", "随机种子"), precision=0)
        press = gr.Button(t("Draw from the prior", "从先验采样"), variant="primary")
    return n, seed, press, gr.HTML(elem_id="vae-dreams")
