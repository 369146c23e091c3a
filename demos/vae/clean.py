"""Denoising: spoil a digit, let three ways of cleaning it compete, with decibels."""

import functools

import gradio as gr

from demos.endpoints import file, opened
from demos.i18n import both, t, told
from demos.pieces import empty, in_place, made_by, note, plate
from demos.vae.make import digit_on, test_digits
from genkit import labels, models, vae
from genkit.core import number, pick

LESSON = (
    "A VAE that was shown spoilt digits and had to draw the clean ones has learnt what belongs to a digit and what does not. A median filter has learnt nothing: it replaces each pixel by the middle one of its nine neighbours. "
    "Who cleans better, and where does the learnt one begin to invent?",
    "有一个 VAE 看的是弄脏的数字，却必须画出干净的：它学会了什么属于数字、什么不属于。中值滤波器什么也没学：它把每个像素换成九个邻居的中间值。谁清理得更好？学过的那个从哪里开始编造？",
)
KINDS = {
    "gaussian": ("grain (Gaussian)", "颗粒（高斯）"),
    "salt-and-pepper": ("salt and pepper", "椒盐"),
    "blot": ("a piece missing", "缺一块"),
    "blur": ("out of focus", "失焦"),
}
CLEANERS = {"denoise": ("Denoising VAE", "去噪 VAE"), "ae": ("Plain autoencoder", "普通自编码器"), "median": ("Median filter", "中值滤波")}
LEARNT = ("denoise", "ae")


def spoilt(picture, kind, strength, seed):
    """The vae.Denoised of a digit. The strength is clamped to 0-1. Raises Problem for an unknown kind."""
    pick(KINDS, kind, "kind of noise", "噪声种类")
    strength, seed = number(strength, 0.0, 1.0, "strength"), number(seed, 0, 2**31 - 1, "seed", whole=True)
    with models.guarded():
        return vae.denoise({name: models.use("vae", name) for name in LEARNT}, picture, kind, strength, seed)


@functools.lru_cache(maxsize=256)
def average(kind: str, strength: float) -> dict[str, float]:
    """The mean decibels over twenty test digits: of the spoilt ones, "noisy", and of each answer."""
    made = [spoilt(picture, kind, strength, index).psnr for index, picture in enumerate(test_digits().values())]
    return {name: sum(each[name] for each in made) / len(made) for name in made[0]}


def vae_denoise(image: dict, kind: str = "gaussian", strength: float = 0.4, seed: int = 0) -> dict:
    """Spoil a picture of a digit (an uploaded file) and clean it in three ways.

    kind: gaussian, salt-and-pepper, blot or blur; strength: 0 to 1. noisy: the spoilt digit, a PNG file; answers: PNG files of denoise (the denoising VAE),
    ae (a plain autoencoder) and median (a filter); psnr: how near each of them, and noisy, is to the clean digit, in dB.
    """
    made = spoilt(vae.digit_from(opened(image)), kind, strength, seed)
    marked = {name: labels.mark(shown, model=f"vae/{name}") if name in LEARNT else shown for name, shown in made.answers.items()}
    return {"noisy": file(made.noisy), "answers": {name: file(shown) for name, shown in marked.items()}, "psnr": dict(made.psnr)}


@in_place
def clean(sheet, kind, strength, seed) -> str:
    """The competition on the digit of the pad."""
    made = spoilt(digit_on(sheet), kind, strength, seed)

    def decibels(name: str) -> str:
        gain = made.psnr[name] - made.psnr["noisy"]
        return f"{made.psnr[name]:.1f} dB ({gain:+.1f})".replace("-", "−")

    hung = [plate(made.clean, both("Clean", "干净的")), plate(made.noisy, both("Spoilt", "弄脏的"), f"{made.psnr['noisy']:.1f} dB")]
    for name, said in CLEANERS.items():
        shown = labels.mark(made.answers[name], model=f"vae/{name}") if name in LEARNT else made.answers[name]
        hung.append(plate(shown, both(*said), decibels(name)))
    return f'<div class="fitting">{"".join(hung)}</div>{verdict(average(kind, round(number(strength, 0.0, 1.0, "strength"), 2)))}{made_by("denoise, ae")}'


def verdict(mean: dict[str, float]) -> str:
    """Who cleans twenty test digits best, in words."""
    gains = {name: mean[name] - mean["noisy"] for name in CLEANERS}
    best = max(gains, key=gains.get)
    en = ", ".join(f"{CLEANERS[name][0]} {gain:+.1f} dB" for name, gain in gains.items()).replace("-", "−")
    zh = "，".join(f"{CLEANERS[name][1]} {gain:+.1f} dB" for name, gain in gains.items()).replace("-", "−")
    winner = (
        (f"The best of them here: {CLEANERS[best][0]}.", f"这里最好的是：{CLEANERS[best][1]}。")
        if gains[best] > 0
        else ("Here none of them helps: leaving the digit alone is best.", "这里谁都帮不上忙：不动它最好。")
    )
    return note(
        f"Mean over twenty test digits that no model has learnt from, spoilt the same way: {en}. {winner[0]}",
        f"对二十个没有模型学过的测试数字同样处理，平均：{zh}。{winner[1]}",
    ) + note(
        "PSNR in decibels (dB): how near to the clean digit. 3 dB more is half the squared error.",
        "PSNR（分贝，dB）：离干净数字有多近。多 3 dB，平方误差减半。",
    )


def build(parts: dict) -> None:
    gr.HTML(note(*LESSON))
    with gr.Row():
        kind = gr.Radio([(t(*said), name) for name, said in KINDS.items()], value="gaussian", label=t("How to spoil it", "怎样弄脏"), min_width=260, scale=2)
        strength = gr.Slider(0, 1, 0.4, step=0.05, label=t("How much", "多少"), min_width=180)
        seed = gr.Number(0, label=t("Seed", "随机种子"), precision=0, min_width=100)
        press = gr.Button(t("Spoil and clean my digit", "弄脏并清理我的数字"), variant="primary", min_width=180)
    result = gr.HTML(
        empty("Your digit from the pad at the top, spoilt and cleaned, appears here.", "上面画板里的数字弄脏并清理后会显示在这里。"), elem_id="vae-clean"
    )
    light = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": 8}
    gr.on([press.click, kind.change, strength.change, seed.change], clean, [parts["pad"], kind, strength, seed], result, trigger_mode="always_last", **light)
    gr.api(told(vae_denoise), api_name="vae_denoise", concurrency_limit=8)
    parts |= {"clean_kind": kind, "clean_strength": strength, "clean_button": press, "clean_result": result}
