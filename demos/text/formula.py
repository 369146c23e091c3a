"""The chain rule of language models, the loss and what temperature does, each as one line, explained."""

from demos.i18n import both

LINES = (
    (
        "p(x₁ … x<sub>T</sub>) = ∏<sub>t</sub> p(x<sub>t</sub> | x<sub>&lt;t</sub>)",
        "the chance of a text is the product, over all t, of the chance of token t given the tokens before it",
        "The chance of a whole text is the product of the chances of its tokens, each given those before it. So who can guess the next token can write.",
        "整段文本的概率，等于其中每个词元在前文之下的概率的乘积。所以会猜下一个词元，就会写作。",
    ),
    (
        "ℒ = −<sup>1</sup>⁄<sub>T</sub> ∑<sub>t</sub> log p(x<sub>t</sub> | x<sub>&lt;t</sub>)",
        "the loss is minus the mean, over all t, of the logarithm of the chance of token t given the tokens before it",
        "The loss: the mean surprise, in nats; divided by log 2 it is in bits. Its exponential is the perplexity: the model is as undecided as between so many equal choices.",
        "损失：平均意外程度，单位是纳特；除以 log 2 就是比特。它的指数叫困惑度：模型的犹豫程度，相当于在那么多个均等的选择之间挑一个。",
    ),
    (
        "p = softmax(z ⁄ τ)",
        "the chances are the softmax of the scores z divided by the temperature tau",
        "The network gives every token a score z; the temperature τ divides all of them before they become chances. τ → 0: always the likeliest. Large τ: all alike.",
        "网络给每个词元一个分数 z；在变成概率之前，所有分数都除以温度 τ。τ → 0：总选最可能的；τ 很大：机会均等。",
    ),
)


def equations() -> str:
    """Every line, read aloud by a screen reader in words, with what it means below it."""
    return "".join(
        f'<div class="formula" role="math" aria-label="{aloud}"><span class="term d">{line}</span></div><p class="note">{both(en, zh)}</p>'
        for line, aloud, en, zh in LINES
    )
