"""The failure doctor of the VAE: reads the examinations of a run and says in one sentence what is wrong, and which rules would mend it.

This file stays light: the page imports it before torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from genkit.doctor import Break, Diagnosis, Repair

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Exam:
    """What a VAE could do after so many steps, on 200 digits it learns and 200 test digits. Costs in nats per digit, one z ~ q(z|x) each."""

    step: int
    recon: float  # reconstruction of training digits
    kl: float
    test_recon: float
    test_kl: float
    active: int  # latent numbers whose mean KL over the test digits is above 0.01 nats; all of them in a plain autoencoder
    kept: float  # share of the test digits whose class the shipped classifier still sees after reconstruction from z = mu
    sharpness: float  # roughness of the reconstructions as a share of that of the test digits: 1 is as sharp
    metrics: dict[str, float]  # means of the training metrics since the event before: loss, recon, kl, beta
    seconds: float = 0.0  # of training so far, examinations and pauses not counted
    pictures: tuple[tuple[Image, Image], ...] = field(default=(), repr=False)  # a test digit of each kind, 0 to 9, before and after


REPAIRS: dict[str, Repair] = {
    "warm-up": Repair(("Warm up: let β grow from 0 to 1", "预热：让 β 从 0 慢慢升到 1"), {"beta": 1.0, "warmup": 200}),
    "free-bits": Repair(
        ("Free bits: the first quarter nat of every number costs nothing", "免费比特：每个数的前 0.25 纳特不收费"), {"beta": 1.0, "free_bits": 0.25}
    ),
    "beta-1": Repair(("Set β back to 1", "把 β 调回 1"), {"beta": 1.0, "warmup": 0}),
    "dearer-code": Repair(("Raise β to 4: a short code cannot hold 50 digits by heart", "把 β 升到 4：编码短了，就背不下 50 个数字"), {"beta": 4.0}),
}
ILLNESSES: dict[str, tuple[tuple[str, str], tuple[str, ...]]] = {  # what is said, and keys of REPAIRS, the best first
    "collapse": (
        (
            "Posterior collapse: the code says next to nothing, so the decoder draws the same average digit for everyone. The KL is too dear to be worth it.",
            "后验坍塌：编码里几乎什么都没有，解码器只好给每个人画同一个“平均数字”。KL 太贵，网络觉得不划算。",
        ),
        ("warm-up", "free-bits", "beta-1"),
    ),
    "blur": (
        (
            "Blur: the code is too short for the details, and where the decoder is unsure it paints grey, the mean of all that might be there.",
            "模糊：编码太短，装不下细节；解码器拿不准的地方就涂灰，也就是各种可能的平均。",
        ),
        ("beta-1", "free-bits"),
    ),
    "overfit": (
        (
            "Over-fitting: digits it learns by heart cost few nats, digits it has never seen cost far more, and more from look to look.",
            "过拟合：背下来的数字花很少的纳特，没见过的却贵得多，而且越来越贵。",
        ),
        ("dearer-code",),
    ),
}
_SMALL = {"variant": "conv", "steps": 600, "batch_size": 32, "channels": 16}  # half as wide, half the batch: it fails sooner
BREAKS: dict[str, Break] = {
    "collapse": Break(
        label=("Cause posterior collapse", "制造后验坍塌"),
        see=(
            "Every reconstruction becomes the same grey blot between 3, 8 and 9. The KL sinks to 0, and all bars of mu with it.",
            "所有重建都变成同一团灰影，介于 3、8、9 之间。KL 降到 0，mu 的条形也全部归零。",
        ),
        why=(
            "β is 60: each nat in the code costs as much as sixty in the picture. Sending nothing is cheaper, and once the decoder has stopped listening, "
            "the encoder has no reason to speak.",
            "β 是 60：编码里每一纳特，抵得上画面里的六十纳特。什么都不传更便宜；解码器一旦不再听，编码器也就没理由再说。",
        ),
        mend=(
            "Begin cheaply and raise the price slowly (warm-up), or give every number a free allowance (free bits), so that speaking pays from the start.",
            "先便宜、再慢慢涨价（预热），或给每个数一份免费额度（免费比特），让“说话”从一开始就划算。",
        ),
        options=_SMALL,
        rules={"beta": 60.0},
        illness="collapse",
    ),
    "blur": Break(
        label=("Make everything blurred", "让一切变模糊"),
        see=(
            "Digits, but soft as behind frosted glass; a 4 and a 9 begin to look the same.",
            "还是数字，却像隔着磨砂玻璃；4 和 9 越来越像。",
        ),
        why=(
            "β is 4: the network buys only the few nats that matter most - which digit, how slanted - and paints the average of all the rest.",
            "β 是 4：网络只买得起最要紧的几纳特——是哪个数字、斜不斜——其余都画成平均的样子。",
        ),
        mend=("Set β back to 1: then details are worth their price again.", "把 β 调回 1：细节就又值这个价了。"),
        options=_SMALL,
        rules={"beta": 4.0},
        illness="blur",
    ),
    "overfit": Break(
        label=("Let it learn 50 digits by heart", "让它背下 50 个数字"),
        see=(
            "The loss falls and falls, and yet your own drawing comes back as somebody else's digit: one of the fifty.",
            "损失一路下降，可你自己画的数字回来时却成了别人的：五十个里的某一个。",
        ),
        why=(
            "Fifty digits are too few to learn what writing is. It is easier to remember all fifty, and nobody asks about others while it trains.",
            "五十个数字太少，学不会“书写”是怎么回事。把五十个全记住更省事，训练时又没人考它别的。",
        ),
        mend=(
            "More examples are the true cure: train again with all of them. A dearer code (β = 4) slows the learning by heart.",
            "真正的良药是更多例子：用全部数字重新训练。编码贵一点（β = 4）能让死记硬背慢下来。",
        ),
        options={**_SMALL, "examples": 50},
        illness="overfit",
    ),
}
SURE = 3  # examinations in a row that must show the same illness
PATIENCE = 100  # steps before which nobody can tell an ill training from a young one
SPEECH = 4.0  # nats of KL; a healthy code has more than twenty, and to say which of ten digits it is alone takes log 10 = 2.3


def diagnose(exams: Sequence[Exam]) -> Diagnosis | None:
    """The illness of a run, read from its examinations so far, oldest first; None for a healthy one or while it is too early to tell."""
    last = [exam for exam in exams if exam.step >= PATIENCE and exam.metrics][-SURE:]
    if len(last) < SURE:
        return None
    for illness, shows in (("overfit", _overfit), ("collapse", _collapse), ("blur", _blur)):
        if all(map(shows, last)):
            return Diagnosis(illness, *ILLNESSES[illness])
    return None


def _collapse(exam: Exam) -> bool:
    """The code is paid for and says hardly which digit it is."""
    return exam.metrics.get("beta", 1) > 0 and exam.test_kl < SPEECH and exam.kept < 0.5


def _blur(exam: Exam) -> bool:
    """Something is said, and the drawings lack a good part of the edges that digits have."""
    return exam.test_kl >= SPEECH and exam.sharpness < 0.65 and exam.metrics.get("beta", 1) > 1


def _overfit(exam: Exam) -> bool:
    """A digit never seen costs half as much again as one that was learnt."""
    return exam.test_recon > 1.5 * exam.recon
