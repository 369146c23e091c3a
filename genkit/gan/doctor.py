"""The failure doctor: reads the examinations of a run and says in one sentence what is wrong, and which rules of the game would mend it.

This file stays light: the page imports it before torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from genkit.doctor import Break, Diagnosis, Repair


@dataclass(frozen=True)
class Exam:
    """What a generator could do after so many steps, on a few hundred samples that cycle through the ten digits."""

    step: int
    right: float  # share of samples that are the digit asked for
    counts: tuple[int, ...]  # how often each digit came, (10,)
    frechet: float  # distance to real digits, biased upwards by the small number of samples: compare it with `floor`
    floor: float  # the same distance of as many real digits
    precision: float
    recall: float
    variety: float  # mean distance between two samples of the same digit, as a share of what it is for real ones
    roughness: float  # mean difference between neighbouring pixels, as a share of what it is for real digits: 1, noise far above
    metrics: dict[str, float]  # means of the training metrics since the event before: loss_d, loss_g, d_real, d_fake, d_right, grad_g
    seconds: float = 0.0  # of training so far, pauses not counted
    promised: float | None = None  # seconds after which digits were promised to be recognisable; None before the calibration, or where nothing is promised
    arrived: float | None = None  # seconds after which they were: at the first examination with 90 % right and ten digits covered

    @property
    def covered(self) -> int:
        """How many of the ten digits were made at least once in a hundred samples."""
        return sum(count >= sum(self.counts) / 100 for count in self.counts)

    @property
    def entropy(self) -> float:
        """Of the histogram of digits, in nats: log 10 = 2.303 where ten are equally frequent, 0 where one is all there is."""
        return -sum(count / sum(self.counts) * math.log(count / sum(self.counts)) for count in self.counts if count)


REPAIRS: dict[str, Repair] = {
    "slower-d": Repair(("Let D learn more slowly", "让判别器学得慢一些"), {"d_rate": 0.5, "d_steps": 1, "loss": "non-saturating"}),
    "wgan-gp": Repair(("Switch to WGAN-GP", "改用 WGAN-GP"), {"loss": "wasserstein", "penalty": "gradient", "d_steps": 2, "g_steps": 1, "d_rate": 1.0}),
    "smoothing": Repair(("Smooth D's labels", "平滑判别器的标签"), {"smoothing": 0.1, "loss": "non-saturating", "d_steps": 1, "d_rate": 1.0}),
    "crowd": Repair(("Let D see whole batches", "让判别器看到整批图片"), {"crowd": True, "g_steps": 1, "d_rate": 1.0}),
    "even": Repair(("Let both learn equally fast", "让双方学得一样快"), {"d_steps": 1, "g_steps": 1, "d_rate": 1.0, "g_rate": 1.0}),
    "teach-d": Repair(("Let D learn again", "让判别器重新学习"), {"d_rate": 1.0, "g_rate": 1.0}),
    "calmer": Repair(("Let both learn more slowly", "让双方都学得慢一些"), {"d_rate": 0.25, "g_rate": 0.25}),
}
ILLNESSES: dict[str, tuple[tuple[str, str], tuple[str, ...]]] = {  # what is said, and keys of REPAIRS, the best first
    "noise": (
        (
            "Only noise: G paints patterns that fool D but look like nothing, because D has not learnt what a digit is.",
            "只有噪声：生成器画出的图案能骗过判别器，却什么都不像，因为判别器还没学会数字是什么样子。",
        ),
        ("teach-d", "wgan-gp"),
    ),
    "d-wins": (
        (
            "D has won: it is sure about every picture, so the gradient that reaches G has nearly vanished and G no longer learns.",
            "判别器赢了：它对每张图都十拿九稳，传到生成器的梯度几乎消失，生成器学不动了。",
        ),
        ("slower-d", "smoothing", "wgan-gp"),
    ),
    "collapse": (
        (
            "Mode collapse: whatever the noise, G paints nearly the same few pictures, the ones that fool D at this moment.",
            "模式坍塌：不管噪声怎么变，生成器都只画那几张此刻能骗过判别器的图。",
        ),
        ("wgan-gp", "even", "crowd"),
    ),
    "oscillation": (
        (
            "Oscillation: G jumps from one kind of digit to another and D runs after it; neither comes to rest.",
            "振荡：生成器从一种数字跳到另一种，判别器在后面追，谁都停不下来。",
        ),
        ("calmer", "wgan-gp"),
    ),
}
_SMALL = {"steps": 600, "batch_size": 32, "channels": 16}  # half as wide, half the batch: it fails sooner
BREAKS: dict[str, Break] = {
    "collapse": Break(
        label=("Cause mode collapse", "制造模式坍塌"),
        see=(
            "All twenty pictures become one and the same, perhaps a fine 1; a little later all of them are another one.",
            "二十张图都变成同一张，也许是个漂亮的 1；过一会儿又一起变成另一个数字。",
        ),
        why=(
            "G learns five times for each slow step of D. It finds the one picture that D believes most at this moment and paints nothing else; "
            "by the time D has noticed, G has moved on to the next.",
            "判别器慢慢走一步，生成器已学了五步。它找到判别器此刻最相信的那张图，就只画这一张；等判别器发觉，它已换成下一张。",
        ),
        mend=(
            "Let D keep pace. The critic of WGAN-GP says how far each picture is from real ones, not just yes or no, and so drives G out of its corner; "
            "a D that sees whole batches notices twenty equal pictures.",
            "让判别器跟上步伐。WGAN-GP 的评判者说的不是“是”或“否”，而是每张图离真图有多远，因此能把生成器赶出死角；能看到整批图片的判别器会发觉二十张图一模一样。",
        ),
        options={"variant": "unconditional", "ema": 0.0, **_SMALL},
        rules={"g_steps": 5, "d_rate": 0.25},
        illness="collapse",
    ),
    "d-wins": Break(
        label=("Let D win", "让判别器获胜"),
        see=(
            "D is right about every picture, and the pictures stay grey blots: the size of G's gradient sinks towards 0.",
            "判别器每张图都判对，而图片一直是灰蒙蒙的一团：生成器的梯度越来越接近 0。",
        ),
        why=(
            "D learns sixteen times as fast as G, and G plays by the first loss of 2014, log(1 - D(G(z))): where D is certain, that curve is flat, "
            "and a flat curve tells nobody which way to go.",
            "判别器学得比生成器快十六倍，而生成器用的是 2014 年最初的损失 log(1 - D(G(z)))：判别器十分肯定时，这条曲线是平的，平的曲线不会告诉任何人该往哪走。",
        ),
        mend=(
            "Slow D down and let G maximise log D(G(z)) instead, which is steep exactly where G loses.",
            "让判别器慢下来，并让生成器改为最大化 log D(G(z))：它恰恰在生成器落败处最陡。",
        ),
        options={"variant": "dcgan", **_SMALL},
        rules={"loss": "minimax", "penalty": "", "d_steps": 4, "d_rate": 4.0},
        illness="d-wins",
    ),
    "noise": Break(
        label=("Make nothing but noise", "只产生噪声"),
        see=(
            "Wild patterns of black and white, and yet G's loss falls: by its own measure it is doing well.",
            "满是黑白乱纹，可生成器的损失却在下降：按它自己的尺度，它做得很好。",
        ),
        why=(
            "D does not learn here. G fools a judge who has never looked at a digit, and learns only that judge's odd taste.",
            "这里判别器不学习。生成器只是在讨好一个从没看过数字的裁判，学到的也只是他古怪的口味。",
        ),
        mend=("Let D learn again: a forger is only as good as the judge.", "让判别器重新学习：裁判有多好，造假者才能有多好。"),
        options={"variant": "dcgan", **_SMALL},
        rules={"d_rate": 0.0},
        illness="noise",
    ),
}
SURE = 3  # examinations in a row that must show the same illness
PATIENCE = 60  # steps before which nobody can tell an ill game from a young one


def diagnose(exams: Sequence[Exam]) -> Diagnosis | None:
    """The illness of a run, read from its examinations so far, oldest first; None for a healthy one or while it is too early to tell.

    The thresholds were set on runs of other seeds than those of the test: see `python -m genkit.evaluate gan`.
    """
    last = [exam for exam in exams if exam.step >= PATIENCE and exam.metrics][-SURE:]
    if len(last) < SURE:
        return None
    for illness, shows in (("noise", _noise), ("d-wins", _d_wins), ("collapse", _collapse)):
        if all(map(shows, last)):
            return Diagnosis(illness, *ILLNESSES[illness])
    return Diagnosis("oscillation", *ILLNESSES["oscillation"]) if _oscillation(exams) else None


def _noise(exam: Exam) -> bool:
    """Neighbouring pixels differ far more than in any digit."""
    return exam.roughness > 4 and exam.precision < 0.05


def _d_wins(exam: Exam) -> bool:
    """D is never wrong, the pictures are bad, and yet G is told next to nothing."""
    return exam.metrics.get("d_right", 0) > 0.97 and exam.metrics.get("grad_g", 1) < 0.8 and exam.frechet > 10 * exam.floor


def _collapse(exam: Exam) -> bool:
    """The pictures are all alike, and D cannot tell them from real ones: early in a healthy game they are alike as well, but D can."""
    return (exam.entropy < 1.5 or exam.variety < 0.45) and exam.metrics.get("d_right", 1) < 0.75


def _oscillation(exams: Sequence[Exam]) -> bool:
    """From examination to examination nearly half of the histogram moves to other digits."""
    last = [exam for exam in exams if exam.step >= PATIENCE][-2 * SURE :]
    moved = [sum(abs(a - b) for a, b in zip(one.counts, two.counts, strict=True)) / 2 / sum(one.counts) for one, two in zip(last, last[1:], strict=False)]
    return len(moved) == 2 * SURE - 1 and sum(moved) / len(moved) > 0.35
