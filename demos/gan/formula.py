"""The game of the two networks as one formula, its terms explained; what belongs to a network is lit while that network learns."""

from demos.i18n import both

ALOUD = "min over G, max over D of E log D(x) + E log(1 − D(G(z)))"
REAL, FAKE = "𝔼[log D(x)]", '𝔼[log(1 − <span class="d{d}">D</span>(G(z)))]'
TERMS = (
    ("d", REAL, "how sure D is that real digits x are real. D pushes it up.", "D 有多确信真实数字 x 是真的。D 把它推高。"),
    (
        "g",
        FAKE.format(d=""),
        "how sure D is that digits G(z), made from noise z, are not. D pushes it up, G pushes it down: that is the fight.",
        "D 有多确信由噪声 z 生成的数字 G(z) 是假的。D 推高它，G 压低它：这就是较量。",
    ),
)


def equation(who: str = "") -> str:
    """Equation 1 of Goodfellow et al. 2014. who learns: d, g, both or nobody, ""."""
    d, g = (" lit" if who in ("both", player) else "" for player in ("d", "g"))
    return (
        f'<div class="formula" role="math" aria-label="{ALOUD}"><span class="g{g}">min<sub>G</sub></span> <span class="d{d}">max<sub>D</sub></span> '
        f'<span class="term d{d}">{REAL}</span> <span>+</span> <span class="term g{g}">{FAKE.format(d=d)}</span></div>'
    )


def terms() -> str:
    """What each term of it means."""
    return f'<ul class="terms">{"".join(f"<li><b class={player!r}>{term}</b> {both(en, zh)}</li>" for player, term, en, zh in TERMS)}</ul>'
