"""What the trainings of this tab say of themselves while they learn: the loss at each range of noise levels. HTML in both languages."""

from demos.i18n import both
from demos.pieces import note
from genkit import runs

NAMES = (  # the ranges of live.LEVELS, the clean end first
    ("a little noise", "一点噪声"),
    ("more", "较多"),
    ("half and half", "一半一半"),
    ("mostly noise", "大半是噪声"),
    ("almost pure noise", "几乎全是噪声"),
)
ENDS = ("keeps what it has learnt. Fewer steps come to an end.", "届时保留已学到的内容。减少步数即可走到终点。")  # of a run that is cut off
WIDTH, HEIGHT = 100, 24  # of a curve


def levels(exams) -> str:
    """A curve for each range of noise levels over the examinations so far, with the newest loss and the first in words."""
    seen = [exam.losses for exam in exams if exam.losses]
    if not seen:
        return ""
    top = max(max(losses) for losses in seen) or 1.0
    width = 1000 // len(seen[0])
    rows = "".join(_row(index, [losses[index] for losses in seen], top, width) for index in range(len(seen[0])))
    said = note(
        "Loss by noise level, always on the same examples: how wrong its guess is where little or much of the picture has drowned. The levels do not learn equally fast.",
        "按噪声强度分开的损失，总在同样的例子上测：图被淹没得少或多时，它猜得有多不准。各个强度学得快慢不同。",
    )
    return f'{said}<ul class="levels">{rows}</ul>'


def _row(index: int, losses: list[float], top: float, width: int) -> str:
    last = max(len(losses) - 1, 1)
    path = " ".join(f"{WIDTH * at / last:.1f},{(HEIGHT - 2) * (1 - loss / top) + 1:.1f}" for at, loss in enumerate(losses))
    curve = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" aria-hidden="true"><polyline points="{path}"/></svg>'
    first = both(f"at first {losses[0]:.2g}", f"起初 {losses[0]:.2g}")
    return f"<li><span>t {index * width}–{(index + 1) * width - 1}<small>{both(*NAMES[index])}</small></span>{curve}<b>{losses[-1]:.3f}</b><small>{first}</small></li>"


def until(run: str, exam) -> list:
    """The examinations of a run up to this one."""
    return [each for each in runs.snapshot(run).exams if exam and each.step <= exam.step]
