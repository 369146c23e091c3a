"""What the VAE lab says of a run: the loss in force, what the examination found, what the doctor thinks. HTML in both languages."""

import math

from demos.clinic import Clinic
from demos.i18n import both
from demos.pieces import note, wall
from demos.vae import formula
from genkit import labels, vae
from genkit.vae import doctor

SETTINGS = {  # fields of vae.Rules that may be changed
    "beta": ("β, the weight of KL", "β（KL 的权重）"),
    "free_bits": ("free nats for each latent number", "每个潜在数免费的纳特"),
    "warmup": ("steps over which β grows", "β 逐渐增大的步数"),
}
CLINIC = Clinic("vae", doctor, SETTINGS)


def game(shot=None) -> str:
    """The loss, its weight as it is in force while a training goes on, and its terms explained."""
    training = shot is not None and shot.settings is not None and shot.state == "running"
    weight = shot.metrics[-1][1].get("beta", shot.settings.beta) if training and shot.metrics else 1.0
    if not training:
        said = both("Nothing is training at the moment.", "此刻没有训练。")
    elif weight < shot.settings.beta:
        said = both(f"β is growing: {weight:.3g} now, {shot.settings.beta:.3g} in the end.", f"β 正在增大：现在 {weight:.3g}，最终 {shot.settings.beta:.3g}。")
    else:
        said = both(f"β = {weight:.3g} at the moment. Move the slider: the next step obeys.", f"此刻 β = {weight:.3g}。移动滑块，下一步就会照办。")
    return f'{formula.equation(weight, training)}<p class="turn">{said}</p>{formula.terms()}'


def amount(value: float, digits: str = ".1f") -> str:
    return format(value, digits) if math.isfinite(value) else "–"


def pairs(exam) -> str:
    """Ten test digits, and under each what the model of that step makes of it."""
    if not exam.pictures:
        return ""
    before, after = zip(*exam.pictures, strict=True)
    drawn = [labels.mark(picture, model="genkit, in training", step=exam.step) for picture in after]
    numbers = [str(index) for index in range(len(before))]
    return f"<h4>{both('Test digits', '测试数字')}</h4>{wall(list(before), numbers)}<h4>{both('Drawn again', '重新画出')}</h4>{wall(drawn, numbers)}"


def figures(exam, latent_dim: int) -> str:
    """What the examination measured, each number with what it means."""
    rows = (
        (
            both("Class kept", "类别保持"),
            amount(exam.kept, ".0%"),
            both("of 200 test digits are still read as the same digit", "的测试数字重画后仍被认作原来的数字"),
        ),
        (
            both("Test digits cost", "测试数字的代价"),
            f"{amount(exam.test_recon + exam.test_kl)} <small>{both('nats', '纳特')}</small>",
            both(f"reconstruction {amount(exam.test_recon)} + KL {amount(exam.test_kl)}", f"重建 {amount(exam.test_recon)}＋KL {amount(exam.test_kl)}"),
        ),
        (
            both("Training digits cost", "训练数字的代价"),
            f"{amount(exam.recon + exam.kl)} <small>{both('nats', '纳特')}</small>",
            both("much less than test digits: it learns by heart", "若远低于测试数字：它在死记硬背"),
        ),
        (
            both("Numbers in use", "用上的数"),
            f"{exam.active} <small>{both(f'of {latent_dim}', f'共 {latent_dim}')}</small>",
            both("say something about the digit; 0 is a collapse", "个数携带信息；0 就是坍塌"),
        ),
        (both("Sharpness", "清晰度"), amount(exam.sharpness, ".0%"), both("of that of real digits; low is blurred", "（与真实数字相比）；低就是模糊")),
    )
    return f'<dl class="figures">{"".join(f"<div><dt>{name}</dt><dd>{value}</dd><dd>{meaning}</dd></div>" for name, value, meaning in rows)}</dl>'


def examination(exam, latent_dim: int) -> str:
    """The newest examination: digits drawn again, and the figures."""
    if exam is None:
        return ""
    said = note(f"Examined at step {exam.step}, on digits that it does not learn from:", f"第 {exam.step} 步的检验，用的是它没有学过的数字：")
    return f'<div class="exam">{said}{pairs(exam)}{figures(exam, latent_dim)}</div>'


def latent_dim(shot) -> int:
    """How many numbers the code of a run has."""
    return shot.about.get("latent_dim") or vae.VARIANTS[shot.about.get("variant", "conv")].latent_dim
