"""What the discriminator makes of any picture: how real it finds it, as which digit, and where that lies among real and generated digits.

Dimensions: B batch, H = W = 28. Pictures (B, 1, 28, 28) in [-1, 1].
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL.Image import Image

from genkit import classifier, images
from genkit.gan import quality
from genkit.gan.model import GAN
from genkit.together import once_each

PROBABLE = ("minimax", "non-saturating")  # losses under which the sigmoid of D's logit is a probability: Goodfellow et al. 2014, equation 1
AMONG = 500  # real test digits, and as many generated ones, that a verdict is compared with


@dataclass(frozen=True)
class Verdict:
    score: float  # D's logit, or the score of a critic; higher is more real
    probability: float | None  # that the picture is real, in [0, 1]; None from a critic, whose score is no probability
    percentile_real: float  # the share, in percent, of 500 real test digits that D finds less real
    percentile_fake: float  # the same of 500 generated digits
    scores: tuple[float, ...]  # the score as each of the ten digits, (10,)
    believes: tuple[float, ...]  # the probability as each of the ten digits; the scores from a critic
    digit: int | None  # whose score counts: the one that was named, else what the shipped classifier reads; None from a D that is not told digits

    @property
    def real(self) -> bool:
        """Whether it lies deeper among the real digits than among the generated ones."""
        return self.percentile_real + self.percentile_fake >= 100


@dataclass(frozen=True)
class Reference:
    """Scores of 500 digits of a kind, each as the digit that it is meant to be, in rising order."""

    real: tuple[float, ...]
    fake: tuple[float, ...]


def judge(model: GAN, pictures: Sequence[Image], digits: Sequence[int] | None = None, *, loss: str = PROBABLE[1]) -> list[Verdict]:
    """D's verdict on pictures 28 x 28, white ink on black, each alone. digits: what they are meant to be; loss: what D was trained with.

    D is no reader: it has learnt to tell real sevens from made ones, and at the end of its training never meets a 7 that is called a 1.
    """
    if not pictures:
        return []
    x = images.from_pil(list(pictures), "L")
    scores = scores_of(model, x)
    believes = scores.sigmoid() if loss in PROBABLE else scores
    named = classifier.classify(x).argmax(dim=1).tolist() if digits is None else digits
    among = reference(model)
    return [
        _verdict(each, belief, digit, among, loss, model.conditional) for each, belief, digit in zip(scores.tolist(), believes.tolist(), named, strict=True)
    ]


def _verdict(scores: list[float], believes: list[float], digit: int, among: Reference, loss: str, told: bool) -> Verdict:
    score, probability = scores[digit], believes[digit] if loss in PROBABLE else None
    return Verdict(
        score, probability, percentile(score, among.real), percentile(score, among.fake), tuple(scores), tuple(believes), int(digit) if told else None
    )


@torch.inference_mode()
def scores_of(model: GAN, x: torch.Tensor) -> torch.Tensor:
    """D's scores (B, 10), on the CPU, of pictures x (B, 1, 28, 28) as each of the ten digits: one pass over the picture serves them all."""
    at = next(model.discriminator.parameters()).device
    return torch.cat([model.discriminator(part.to(at), torch.arange(10, device=at).repeat(len(part), 1)).cpu() for part in x.split(500)])


@once_each
def reference(model: GAN) -> Reference:
    """What D says of 500 real test digits and of 500 that its own G makes, each as the digit it is meant to be."""
    x, y, _ = quality.real("test", 1000)
    dealt = (x[:AMONG], y[:AMONG]), quality.draw(model, AMONG)
    return Reference(*(tuple(scores_of(model, x).gather(1, y[:, None]).flatten().sort().values.tolist()) for x, y in dealt))


def percentile(value: float, among: Sequence[float]) -> float:
    """The share, in percent, of numbers in rising order that are below `value`."""
    return 100 * bisect_left(among, value) / len(among)
