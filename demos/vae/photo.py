"""Any photo through a pretrained autoencoder: before, after, and how much smaller the code between is."""

import gradio as gr

from demos import download
from demos.endpoints import opened
from demos.i18n import t, told
from demos.pieces import made_by, note
from genkit import labels, models, vae

TITLE = ("Any photo, through Stable Diffusion's own autoencoder", "用 Stable Diffusion 的自编码器重建照片")
LESSON = (
    "Stable Diffusion does not paint pixels. It paints in the small code of an autoencoder like this one, 48 times fewer numbers, and lets the decoder turn them into a picture. "
    "Look closely at faces, small letters and grass: what does the code lose?",
    "Stable Diffusion 并不直接画像素。它在这样一个自编码器的小编码里作画，数字少 48 倍，再由解码器变成图片。请仔细看人脸、小字和草地：编码丢掉了什么？",
)


@told
def photo(path, model):
    """The two pictures of the slider, and what to say of them."""
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


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    gr.HTML(note(*LESSON))
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            model = gr.Dropdown(list(models.catalogue("vae")), value="taesd", label=t("Pretrained autoencoder", "预训练自编码器"), filterable=False)
            download.panel("vae", model)
            source = gr.File(label=t("Your photo", "您的照片"), file_types=["image"], height=120)
            press = gr.Button(t("Reconstruct the photo", "重建照片"), variant="primary")
        with gr.Column(scale=2, min_width=280):
            slider = gr.ImageSlider(label=t("before | after", "原图 | 重建"), format="png", interactive=False)
            about = gr.HTML()
    press.click(photo, [source, model], [slider, about], concurrency_id="heavy", concurrency_limit=2, api_visibility="private")
    parts |= {"photo_model": model, "photo_source": source, "photo_button": press}
