"""What the GAN lab says of a run: whose turn it is in the formula, what the examination found, what the doctor thinks. HTML in both languages."""

import math

from demos.clinic import Clinic
from demos.gan import formula
from demos.i18n import both
from demos.pieces import note
from genkit import gan
from genkit.gan import doctor

LOSSES = {  # the keys of losses.LOSSES, which the page cannot import before torch
    "non-saturating": ("Non-saturating (the usual one)", "非饱和（最常用）"),
    "minimax": ("Minimax (as in the formula)", "极小极大（即公式本身）"),
    "wasserstein": ("Wasserstein", "Wasserstein 距离"),
    "hinge": ("Hinge", "合页损失"),
    "least-squares": ("Least squares", "最小二乘"),
}
SETTINGS = {  # fields of gan.Rules that a repair may change
    "loss": ("loss", "损失"),
    "penalty": ("penalty on the slope of D", "对 D 坡度的惩罚"),
    "d_steps": ("steps of D for each step of G", "G 每走一步 D 走的步数"),
    "g_steps": ("steps of G at a time", "G 每次走的步数"),
    "d_rate": ("learning rate of D, times", "D 的学习率，乘以"),
    "g_rate": ("learning rate of G, times", "G 的学习率，乘以"),
    "smoothing": ("label smoothing", "标签平滑"),
    "crowd": ("D sees whole batches", "D 看到整批图片"),
}
WORDS = {
    **LOSSES,
    "gradient": ("on its gradient", "对梯度"),
    "r1": ("R1", "R1 式"),
    "": ("none", "无"),
    True: ("yes", "是"),
    False: ("no", "否"),
}  # values of them
PLAYERS = {"both": ("D and G, in turn", "D 和 G 轮流"), "d": ("D alone", "只有 D"), "g": ("G alone", "只有 G")}


def turn(shot) -> str:
    """Who is training, or has just been trained in a single step: both, d, g, or nobody: ""."""
    if shot is None or shot.settings is None or shot.ended or shot.step == 0:
        return ""
    rules = shot.settings
    if shot.state != "running" and not rules.single:
        return ""
    still = {"d" if rules.g_rate == 0 else "", "g" if rules.d_rate == 0 else ""} - {""}  # a player at rate 0 does not learn
    return still.pop() if rules.players == "both" and len(still) == 1 else rules.players


def game(shot=None) -> str:
    """The formula of the game, what belongs to a network lit while it trains, and its terms explained."""
    who = turn(shot)
    if not who:
        said = both("Nobody is training at the moment.", "此刻谁都没有在训练。")
    elif shot.settings.single:
        said = both(f"Trained last: {PLAYERS[who][0]}.", f"刚才训练的：{PLAYERS[who][1]}。")
    else:
        said = both(f"Training now: {PLAYERS[who][0]}.", f"正在训练：{PLAYERS[who][1]}。")
    return f'{formula.equation(who)}<p class="turn">{said}</p>{formula.terms()}'


def amount(value: float, digits: str = ".3g") -> str:
    return format(value, digits) if math.isfinite(value) else "–"


def promise(exam: doctor.Exam) -> str:
    """Whether digits became recognisable when it was promised. Nothing is promised before the calibration, or for settings that nobody has timed."""
    took, said, come = (None if value is None else max(1, round(value)) for value in (exam.seconds, exam.promised, exam.arrived))
    if come is not None and said is not None:
        return note(
            f"Recognisable digits: promised after {said} s of training, came after {come} s.", f"可辨认的数字：承诺训练 {said} 秒后出现，实际 {come} 秒。"
        )
    if come is not None:
        return note(f"Recognisable digits came after {come} s of training. Nothing was promised.", f"训练 {come} 秒后出现了可辨认的数字。事先没有承诺时间。")
    if said is None:
        return note(
            "No promise of when digits will be recognisable: this machine is still being timed, or the settings are not the usual ones.",
            "暂不承诺何时出现可辨认的数字：本机仍在测速，或设置不是常用的那一套。",
        )
    if took <= said:
        return note(f"Recognisable digits in about {said} s of training; {took} s have passed.", f"大约训练 {said} 秒后出现可辨认的数字；已过 {took} 秒。")
    return note(
        f"Recognisable digits were promised after {said} s of training; {took} s have passed and they are not there yet.",
        f"承诺训练 {said} 秒后出现可辨认的数字；已过 {took} 秒，还没有出现。",
        warn=True,
    )


def histogram(counts: tuple[int, ...]) -> str:
    """How often each digit was made, as bars and in words."""
    total, top = sum(counts) or 1, max(counts) or 1
    each = "".join(f'<li><i style="--h:{100 * count / top:.0f}%"></i><span>{count}</span><b>{digit}</b></li>' for digit, count in enumerate(counts))
    most, least = counts.index(max(counts)), counts.index(min(counts))
    covered = sum(count >= total / 100 for count in counts)
    words = note(
        f"The classifier reads most of them as {most} ({counts[most]} times), fewest as {least} ({counts[least]} times); even would be {total / 10:.0f} each. {covered} of 10 digits are covered.",
        f"分类器认出最多的是 {most}（{counts[most]} 次），最少的是 {least}（{counts[least]} 次）；均匀时各 {total / 10:.0f} 次。十个数字覆盖了 {covered} 个。",
    )
    return f'<ul class="tally" aria-hidden="true">{each}</ul>{words}'


def figures(exam: doctor.Exam, conditional: bool = True) -> str:
    """What the examination measured, each number with what it means."""
    rows = [
        (
            both("Distance to real digits (Fréchet)", "与真实数字的距离（Fréchet）"),
            f"{amount(exam.frechet)} <small>{both(f'as many real digits: {amount(exam.floor)}', f'同样多的真实数字：{amount(exam.floor)}')}</small>",
            both("the nearer to that of real digits, the better", "越接近真实数字之间的距离越好"),
        ),
        (both("Precision", "精确率"), amount(exam.precision, ".0%"), both("of the made digits look like real ones", "的生成数字看起来像真的")),
        (both("Recall", "召回率"), amount(exam.recall, ".0%"), both("of the real digits' variety is made as well", "的真实多样性也能生成出来")),
    ]
    if conditional:
        rows.insert(0, (both("As asked", "与要求相符"), amount(exam.right, ".0%"), both("are the digit that was asked for", "正是所要求的数字")))
    return f'<dl class="figures">{"".join(f"<div><dt>{name}</dt><dd>{value}</dd><dd>{meaning}</dd></div>" for name, value, meaning in rows)}</dl>'


def examination(exam: doctor.Exam | None, conditional: bool = True) -> str:
    """The newest examination: the promise, the digits made, the figures."""
    if exam is None:
        return ""
    said = note(f"Examined at step {exam.step}, on {sum(exam.counts)} digits made for it:", f"第 {exam.step} 步的检验，为此生成了 {sum(exam.counts)} 个数字：")
    return f'<div class="exam">{promise(exam) if conditional else ""}{said}{histogram(exam.counts)}{figures(exam, conditional)}</div>'


def told(value) -> tuple[str, str]:
    """The value of a rule in words."""
    return WORDS[value] if isinstance(value, str | bool) else (f"{value:g}", f"{value:g}")


CLINIC = Clinic("gan", doctor, SETTINGS, told)


def conditional(shot) -> bool:
    """Whether the run's generator is told which digit to make."""
    return gan.VARIANTS[shot.about.get("variant", "dcgan")].conditional
