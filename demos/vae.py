"""The VAE tab: draw a digit, see it squeezed into a few numbers and drawn again from them."""

import functools

import gradio as gr
from PIL import Image, ImageOps

from demos import download, pad, training
from demos.endpoints import file, opened
from demos.i18n import both, escape, t, told
from demos.pieces import bars, empty, made_by, note, plate, plates, wall
from genkit import labels, models, vae
from genkit.core import Problem, number, pick
from genkit.together import together

TITLE = ("VAE", "VAE 重建")
SENTENCE = (
    "An encoder squeezes a digit into a handful of numbers, a decoder draws it again from them alone; what survives is what the model has understood.",
    "编码器把数字压缩成寥寥几个数，解码器只凭这些数把它重新画出来；留下来的，就是模型学懂的东西。",
)
HOW = (("your digit", "您的数字"), ("encoder", "编码器"), ("a few numbers z", "几个数 z"), ("decoder", "解码器"), ("drawn again", "重新画出"))
EVERY = 10  # training steps between two looks at the samples
LESSON = (
    "The loss has two terms: redraw the digit well (reconstruction), and keep the numbers close to a plain bell curve (KL), so that new ones can be drawn from it.",
    "损失有两项：把数字画准（重建），并让这些数接近普通的钟形分布（KL），这样才能从中抽出新的数字。",
)


@functools.cache
def mirror(variant: str):
    """One function a variant that reconstructs the digits of many visitors in one forward pass."""
    return together(lambda pictures: vae.reconstruct_many(models.use("vae", variant), pictures))


def reconstruct(picture, variant: str):
    """The Reconstruction of any drawing or photo of a digit. Raises Problem for an empty picture or an unknown variant."""
    pick(vae.VARIANTS, variant, "VAE variant", "VAE 变体")
    with models.guarded():
        return mirror(variant)(vae.digit_from(picture))


def drawn(variant: str, n, seed) -> list:
    """n marked digits from the prior, 28 x 28. n is clamped to 1-64."""
    pick(vae.VARIANTS, variant, "VAE variant", "VAE 变体")
    n, seed = number(n, 1, 64, "n", whole=True), number(seed, 0, 2**31 - 1, "seed", whole=True)
    with models.guarded():
        (made,) = vae.sample(models.use("vae", variant), n=n, seed=seed)
    return [labels.mark(picture, model=f"vae/{variant}", seed=seed, index=index) for index, picture in enumerate(made)]


def vae_reconstruct(image: dict, variant: str = "conv") -> tuple[dict, dict]:
    """Reconstruct a picture of a digit (an uploaded file): the 28 x 28 PNG, and {"recon", "kl"} in nats with "mu" and "logvar"."""
    made = reconstruct(opened(image), variant)
    return file(labels.mark(made.output, model=f"vae/{variant}")), {"recon": made.recon, "kl": made.kl, "mu": list(made.mu), "logvar": list(made.logvar)}


def vae_sample(variant: str = "conv", n: int = 10, seed: int = 0) -> list[dict]:
    """Decode n draws of z from the prior N(0, I): digits that nobody wrote, 28 x 28 PNG files."""
    return [file(picture) for picture in drawn(variant, n, seed)]


def redraw(sheet, variant):
    """The pad's picture, what the model makes of it, where they differ, and the numbers between. It runs while one draws: no toasts."""
    try:
        made = reconstruct(pad.picture(sheet), variant)
    except Problem as problem:
        return note(escape(problem.en), escape(problem.zh), warn=True)
    shown = [
        plate(made.input, both("Seen by the model", "模型看到的"), both("28 × 28, centred", "28 × 28，已居中")),
        plate(
            labels.mark(made.output, model=f"vae/{variant}"), both("Drawn again", "重新画出"), both(f"from {len(made.mu)} numbers", f"只凭 {len(made.mu)} 个数")
        ),
        plate(made.error, both("Difference", "差别"), both("bright: wrong", "越亮差得越多")),
    ]
    total = note(
        f"Reconstruction {made.recon:.1f} nats + KL {made.kl:.1f} nats = {made.recon + made.kl:.1f}. Fewer is better: a typical test digit needs about 100.",
        f"重建 {made.recon:.1f} 纳特 ＋ KL {made.kl:.1f} 纳特 ＝ {made.recon + made.kl:.1f}。越少越好：普通的测试数字约需 100。",
    )
    code = bars(list(made.mu), f"The latent code: the mean of each of the {len(made.mu)} numbers.", f"潜在编码：{len(made.mu)} 个数各自的均值。")
    return plates(*shown) + total + code + made_by(variant)


@told
def dream(variant, n, seed):
    made = drawn(variant, n, seed)
    return wall(made, [f"z{index + 1}" for index in range(len(made))]) + made_by(variant, seed=int(seed))


@functools.cache
def test_digits() -> list:
    """Twenty handwritten test digits as the pad shows them, ink on paper: 0 to 9, twice."""
    from genkit.digits import digits  # brings torch, which the page must not wait for

    x, y = (part.numpy() for part in digits("test"))
    chosen = [int((y == digit).nonzero()[0][nth]) for nth in (0, 1) for digit in range(10)]
    return [pad.address(ImageOps.invert(Image.fromarray(x[index]))) for index in chosen]


def pick_digit(shown: str) -> str:
    """The next test digit for the pad."""
    sheets = test_digits()
    return sheets[(sheets.index(shown) + 1) % len(sheets)] if shown in sheets else sheets[6]


@told
def upload(path) -> str:
    return pad.address(opened(path).convert("RGB"))


@told
def photo(path, model):
    """Any photo through a pretrained autoencoder: before, after, and how much smaller the code between is."""
    picture = opened(path)
    with models.guarded():
        before, after, latent, psnr = vae.reconstruct_photo(models.use("vae", model), picture)
    squeezed = before.width * before.height * 3 / (latent[0] * latent[1] * latent[2])
    shape = " × ".join(str(size) for size in latent)
    said = note(
        f"{before.width} × {before.height} pixels became {shape} numbers, {squeezed:.0f} times fewer. The copy is {psnr:.1f} dB close.",
        f"{before.width} × {before.height} 像素变成了 {shape} 个数，少了 {squeezed:.0f} 倍。还原质量 {psnr:.1f} dB。",
    )
    return (before, labels.mark(after, model=model)), said + made_by(model)


def first() -> tuple[str, str]:
    """What the tab shows when it opens: a test digit on the pad, and its reconstruction."""
    sheet = pick_digit("")
    return sheet, redraw(sheet, "conv")


def build(page: gr.Blocks, kept: gr.BrowserState) -> list:
    """Build the tab; the components that show first()."""
    models_here = [(t("Convolutions", "卷积"), "conv"), (t("MLP (the classic)", "MLP（经典）"), "mlp")]
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            sheet = pad.pad(elem_id="vae-pad")
            with gr.Row():
                another = gr.Button(t("Pick a test digit", "选一个测试数字"), min_width=110)
                uploaded = gr.UploadButton(t("Upload a picture", "上传图片"), file_types=["image"], min_width=110)
            variant = gr.Radio(models_here, value="conv", label=t("Model", "模型"))
            go = gr.Button(t("Reconstruct", "重建"), variant="primary")
        with gr.Column(scale=2, min_width=280):
            result = gr.HTML(empty("The model is waking up…", "模型正在启动……"), elem_id="vae-result")
    with gr.Accordion(t("New digits from pure chance", "从随机数生成新数字"), open=False):
        gr.HTML(note("Draw the numbers from the bell curve instead of from a digit, and decode them.", "不从数字、而从钟形分布里抽出这些数，再解码。"))
        with gr.Row():
            n = gr.Slider(1, 64, 20, step=1, label=t("How many", "数量"))
            seed = gr.Number(7, label=t("Seed", "随机种子"), precision=0)
            chance = gr.Button(t("Draw from the prior", "从先验采样"), variant="primary")
        dreams = gr.HTML(elem_id="vae-dreams")
    with gr.Accordion(t("Any photo, through Stable Diffusion's own autoencoder", "用 Stable Diffusion 的自编码器重建照片"), open=False), gr.Row():
        with gr.Column(scale=1, min_width=260):
            model = gr.Dropdown(list(models.catalogue("vae")), value=None, label=t("Pretrained autoencoder", "预训练自编码器"), filterable=False)
            download.panel("vae", model)
            source = gr.File(label=t("Your photo", "您的照片"), file_types=["image"], height=120)
            press = gr.Button(t("Reconstruct the photo", "重建照片"), variant="primary")
        with gr.Column(scale=2, min_width=280):
            slider = gr.ImageSlider(label=t("before | after", "原图 | 重建"), format="png", interactive=False)
            about = gr.HTML()
    with gr.Accordion(t("Train it yourself", "自己训练"), open=False):
        training.panel(page, kept, "vae", {name: (label, {"variant": name}) for label, name in models_here}, LESSON, steps=600)

    light = {"api_visibility": "private", "show_progress": "hidden"}
    shared = {"concurrency_id": "redraw", "concurrency_limit": 32}
    sheet.input(redraw, [sheet, variant], result, trigger_mode="always_last", **shared, **light)
    gr.on([go.click, variant.change], redraw, [sheet, variant], result, **shared, **light)
    sheet.clear(lambda: empty("Draw a digit on the pad.", "请在画板上画一个数字。"), None, result, queue=False, **light)
    another.click(pick_digit, sheet, sheet, concurrency_limit=16, **light).then(redraw, [sheet, variant], result, **shared, **light)
    uploaded.upload(upload, uploaded, sheet, concurrency_limit=4, **light).success(redraw, [sheet, variant], result, **shared, **light)
    chance.click(dream, [variant, n, seed], dreams, concurrency_limit=16, api_visibility="private")
    press.click(photo, [source, model], [slider, about], concurrency_id="heavy", concurrency_limit=2, api_visibility="private")
    gr.api(told(vae_reconstruct), api_name="vae_reconstruct", **shared)
    gr.api(told(vae_sample), api_name="vae_sample", concurrency_limit=16)
    return [sheet, result]
