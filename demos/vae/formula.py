"""The evidence lower bound as one line, its terms explained; the weight of the second one is shown as it is in force."""

from demos.i18n import both

ALOUD = "loss = minus the mean of log p(x given z), plus beta times KL of q(z given x) from p(z)"
FIT, ROOM = "−𝔼<sub>z∼q(z|x)</sub>[log p(x|z)]", "KL(q(z|x) ‖ p(z))"
TERMS = (
    (
        "d",
        FIT,
        "reconstruction: how badly the decoder p draws the digit x again from the numbers z that the encoder q gave it. Small: a good copy.",
        "重建：解码器 p 凭编码器 q 给出的数 z 重画数字 x，画得有多差。越小，画得越像。",
    ),
    (
        "g",
        ROOM,
        "KL: how far the code of this digit is from the plain bell curve p(z). Small: tidy numbers, so that chance can invent new digits.",
        "KL：这个数字的编码离普通钟形分布 p(z) 有多远。越小，编码越整齐，于是能凭随机数造出新数字。",
    ),
)


def equation(beta: float = 1.0, lit: bool = False) -> str:
    """Equation 3 of Kingma and Welling 2013 with its sign turned, and the weight of Higgins et al. 2017. lit: whether a training is minimising it."""
    shine = " lit" if lit else ""
    return (
        f'<div class="formula" role="math" aria-label="{ALOUD}"><span>ℒ =</span> <span class="term d{shine}">{FIT}</span> <span>+</span> '
        f'<b class="beta{shine}">{"β" if not lit else f"{beta:.3g}"}</b><span>·</span> <span class="term g{shine}">{ROOM}</span></div>'
    )


def terms() -> str:
    """What each term of it means."""
    return f'<ul class="terms">{"".join(f"<li><b class={kind!r}>{term}</b> {both(en, zh)}</li>" for kind, term, en, zh in TERMS)}</ul>'
