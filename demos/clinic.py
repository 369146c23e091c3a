"""The failure doctor on the page, the same in every lab: what he says of a run, what mends it, and trainings that are broken on purpose."""

import dataclasses
from collections.abc import Callable
from types import ModuleType

import gradio as gr

import genkit
from demos.i18n import both, escape, t
from demos.pieces import note
from genkit import runs

HEADS = (("What you see", "看到什么"), ("Why", "为什么"), ("How to mend it", "如何修复"))


class Clinic:
    """doctor: the family's own, with ILLNESSES, REPAIRS, BREAKS, SURE and diagnose(). settings: the Rules that a repair may change, by name; word(value): one in words."""

    def __init__(self, family: str, doctor: ModuleType, settings: dict, word: Callable = lambda value: (f"{value:g}", f"{value:g}")):
        self.family, self.doctor, self.settings, self.word = family, doctor, settings, word

    def treatment(self, shot) -> tuple[int, str]:
        """The step of the newest change of the rules, -1 without one, and what has been changed since the run began."""
        since = {name: step for name, step in shot.changed.items() if name in self.settings}
        said = ""
        for step in sorted(set(since.values())):
            rows = [(self.settings[name], self.word(getattr(shot.settings, name))) for name in since if since[name] == step]
            en, zh = "; ".join(f"{name[0]}: {value[0]}" for name, value in rows), "；".join(f"{name[1]}：{value[1]}" for name, value in rows)
            said += note(f"Changed at step {step}: {en}.", f"第 {step} 步更改：{zh}。")
        return max(since.values(), default=-1), said

    def diagnosis(self, shot) -> tuple[str, tuple[str, ...]]:
        """What the doctor says of a run, from its examinations since the newest change, and the keys of the repairs that would change something."""
        since, changed = self.treatment(shot)
        exams = [exam for exam in shot.exams if exam.step > since]
        found = self.doctor.diagnose(exams) if exams else None
        if found is None:
            early = (
                both("The doctor waits to see whether it helps.", "医生在观察治疗是否见效。")
                if changed
                else both("Too early for the doctor to tell.", "现在下诊断还太早。")
            )
            quiet = both("The doctor raises no alarm.", "医生没有发现问题。") if len(exams) > self.doctor.SURE else early
            return f'<div class="doctor" role="status"><p>{quiet}</p>{changed}</div>', ()
        keys = tuple(key for key in found.repairs if any(getattr(shot.settings, name) != value for name, value in self.doctor.REPAIRS[key].changes.items()))
        if shot.ended:
            advice = both("This run has ended; start another one to try a repair on it.", "这次训练已结束；可以重新开始一次，再试着修复。")
        elif keys:
            advice = both("Repair it, the same run goes on:", "点一下即可修复，同一次训练会继续：")
        else:
            advice = both(
                "Every repair is in force already; stop it and start again with the usual settings.", "所有修复都已用上；请停止，并用常用设置重新开始。"
            )
        sentence = both(*map(escape, found.sentence), "strong")
        return f'<div class="doctor ill" role="status"><p>{sentence}</p><p>{advice}</p>{changed}</div>', keys

    def lesson(self, key: str) -> str:
        """What there is to learn from a run that was broken on purpose."""
        if key not in self.doctor.BREAKS:
            return ""
        broken = self.doctor.BREAKS[key]
        said = "".join(f"<dt>{both(*head)}</dt><dd>{both(*text)}</dd>" for head, text in zip(HEADS, (broken.see, broken.why, broken.mend), strict=True))
        return f'<div class="broken"><b>{both("Broken on purpose", "故意弄坏")}: {both(*broken.label)}</b><dl>{said}</dl></div>'

    def breaking(self, key: str, play: Callable) -> Callable:
        """The function that starts the run which is broken in this way, in place of the visitor's present one.

        play(owner, variant, rules, steps, seed, *more, options, about) starts a run; what it returns takes (owner, steps, seed, *more).
        """

        def start(owner: str, steps, seed, *more) -> str:
            broken, present = self.doctor.BREAKS[key], runs.mine(owner, self.family)
            if present and runs.snapshot(present).about.get("broken") == key:
                return present  # a double click
            if present:
                runs.stop(present, owner)
            options = {"steps": steps, **broken.options}
            variant, steps = options.pop("variant"), options.pop("steps")
            rules = dataclasses.replace(genkit.family(self.family).VARIANTS[variant].rules, **broken.rules)
            return play(owner, variant, rules, steps, seed, *more, options, {"broken": key})

        return start

    def mending(self, key: str) -> Callable:
        """The function that applies a repair to the run in view."""
        return lambda run, owner: runs.change(run, owner, **self.doctor.REPAIRS[key].changes)

    def breaks(self) -> dict[str, gr.Button]:
        """Build the buttons that break a training."""
        gr.HTML(note("Break it on purpose, then mend it:", "故意弄坏它，再修好："))
        return {key: gr.Button(t(*broken.label), size="sm", elem_id=f"{self.family}-break-{key}") for key, broken in self.doctor.BREAKS.items()}

    def ward(self, parts: dict) -> None:
        """Build what shows the doctor: learn_doctor, and learn_repair with a button for each repair."""
        parts["learn_doctor"] = gr.HTML(elem_id=f"{self.family}-doctor")
        with gr.Row():
            parts["learn_repair"] = {key: gr.Button(t(*cure.label), size="sm", visible=False, min_width=120) for key, cure in self.doctor.REPAIRS.items()}

    def findings(self, parts: dict, shot, own: bool, fresh: bool) -> dict:
        """What stands in the ward and in learn_lesson for a run: component -> value. own, fresh: as training.Panel tells more()."""
        said, cures = self.diagnosis(shot)
        cures = cures if own and not shot.ended else ()
        taught = {parts["learn_lesson"]: self.lesson(shot.about.get("broken", ""))} if fresh else {}
        repairs = {
            button: gr.Button(visible=key in cures, variant="primary" if key in cures[:1] else "secondary") for key, button in parts["learn_repair"].items()
        }
        return {parts["learn_doctor"]: said, **repairs, **taught}

    def empty(self, parts: dict) -> dict:
        """The same without a run."""
        hidden = {button: gr.Button(visible=False) for button in parts["learn_repair"].values()}
        return {parts["learn_doctor"]: "", parts["learn_lesson"]: "", **hidden}
