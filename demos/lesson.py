"""A lesson, the same in every tab: a few steps that operate the tab's own controls, then questions whose answers wait until they are asked for.

A step is a card with one button. It opens what must be open, sets the controls, presses the section's own button and brings the place into view;
meanwhile the card stays at the lower edge of the window, so that the next step is at hand on a phone too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from demos.i18n import both

Said = tuple[str, str]  # the same in English and Chinese; HTML


@dataclass(frozen=True)
class Step:
    """One thing to do. Parts are named as in the tab's `parts`, "learn_break.collapse" being parts["learn_break"]["collapse"]."""

    title: Said
    text: Said
    look: Said  # at what
    button: Said
    shows: str  # the part that is brought into view
    opens: tuple[str, ...] = ()  # accordions
    sets: dict[str, Any] = field(default_factory=dict)  # part -> value
    press: str = ""  # the button that is pressed then


@dataclass(frozen=True)
class Question:
    """choices: (answer, whether it is right, what to say to it); without choices the answer alone waits."""

    ask: Said
    answer: Said
    choices: tuple[tuple[Said, bool, Said], ...] = ()


@dataclass(frozen=True)
class Lesson:
    title: Said
    minutes: int
    steps: tuple[Step, ...]
    questions: tuple[Question, ...]
    formula: str = ""  # HTML


def part(parts: dict, name: str):
    """The component of that name. Raises KeyError, at build time, for one that no section has put there."""
    found = parts
    for key in name.split("."):
        if not isinstance(found, dict) or key not in found:
            raise KeyError(f"the lesson names the part {name!r}, which no section has built; there are: {', '.join(sorted(map(str, parts)))}")
        found = found[key]
    return found


def targets(steps: tuple[Step, ...], parts: dict, prefix: str) -> list[dict[str, str]]:
    """The ids in the page of what each step shows and presses; a component without one gets one."""

    def id_of(name: str) -> str:
        if not name:
            return ""
        component = part(parts, name)
        component.elem_id = component.elem_id or f"{prefix}-part-{name.replace('.', '-')}"
        return component.elem_id

    return [{"shows": id_of(step.shows), "press": id_of(step.press)} for step in steps]


def changes(step: Step, parts: dict) -> dict:
    """What a step opens and sets, as an event handler returns it: component -> update."""
    opened = {part(parts, name): gr.update(open=True) for name in step.opens}  # gr.Accordion() would build one
    return opened | {part(parts, name): gr.update(value=value) for name, value in step.sets.items()}


def cards(lesson: Lesson, name: str) -> str:
    """The HTML of the steps: one card, of which one step is shown."""
    count, look = len(lesson.steps), both("Look:", "请看：", "b")
    each = "".join(
        f'<article data-step="{index}"{" hidden" if index else ""}><h3>{index + 1}. {both(*step.title)}</h3><p>{both(*step.text)}</p><p class="look">{look} {both(*step.look)}</p></article>'
        for index, step in enumerate(lesson.steps)
    )
    actions = "".join(
        f'<button type="button" class="do" data-step="{index}"{" hidden" if index else ""}>{both(*step.button)}</button>'
        for index, step in enumerate(lesson.steps)
    )
    return (
        f'<section class="lesson" id="{name}-steps" aria-label="{lesson.title[0]} {lesson.title[1]}">'
        f'<div class="far"><progress max="{count}" value="1" aria-hidden="true"></progress><span><b class="place">1</b>/{count}</span>'
        f'<button type="button" class="leave" hidden>{both("Back to the lesson", "回到课程")}</button></div>'
        f'<div class="card" aria-live="polite">{each}</div>'
        f'<div class="turns"><button type="button" class="back" disabled>{both("Back", "上一步")}</button>{actions}'
        f'<button type="button" class="next">{both("Next", "下一步")}</button></div></section>'
    )


TURN = """
const card = element.querySelector('.lesson'), key = 'genkit-' + card.id, find = (name) => card.querySelector(name);
const last = card.querySelectorAll('article').length - 1;
let place = 0;
const turn = (to) => {
  place = Math.min(Math.max(to, 0), last);
  card.querySelectorAll('[data-step]').forEach((part) => { part.hidden = +part.dataset.step !== place; });
  find('.place').textContent = place + 1; find('progress').value = place + 1; find('.back').disabled = place === 0;
  try { sessionStorage.setItem(key, place); } catch (e) {}
};
const dock = (on) => {
  if (card.classList.contains('docked') === on) return;
  card.classList.toggle('docked', on); find('.leave').hidden = !on;
  document.body.style.paddingBottom = on ? card.offsetHeight + 'px' : '';
  if (!on) card.scrollIntoView({block: 'center'});
};
find('.back').addEventListener('click', () => turn(place - 1));
find('.next').addEventListener('click', () => {
  if (place < last) return turn(place + 1);
  dock(false);
  const asked = document.getElementById(card.id.replace('steps', 'questions'));
  if (asked) { asked.scrollIntoView({block: 'start'}); asked.focus({preventScroll: true}); }
});
find('.leave').addEventListener('click', () => { dock(false); find('.next').focus({preventScroll: true}); });
card.addEventListener('keydown', (event) => { if (event.key === 'Escape') dock(false); });
card.querySelectorAll('.do').forEach((button) => button.addEventListener('click', () => { dock(true); props.value = place; trigger('submit'); }));
try { turn(+sessionStorage.getItem(key) || 0); } catch (e) {}
"""

ACT = """async (place) => {
  const target = __TARGETS__[place], there = (id) => { const found = document.getElementById(id); return found && found.offsetParent ? found : null; };
  const until = async (ready) => { for (let i = 0; i < 80 && !ready(); i++) await new Promise((go) => setTimeout(go, 50)); return ready(); };
  if (target.press && await until(() => there(target.press)) && await until(() => !there(target.press).disabled)) there(target.press).click();
  await until(() => there(target.shows) && there(target.shows).offsetHeight);
  const calm = matchMedia('(prefers-reduced-motion: reduce)').matches, shown = there(target.shows);
  if (shown) { shown.style.scrollMarginTop = '56px'; shown.scrollIntoView({block: 'start', behavior: calm ? 'auto' : 'smooth'}); }
}"""


def questions(lesson: Lesson, name: str) -> str:
    """The HTML of the questions. Choices and answers are folds, so that they work with the keyboard and without a script."""

    def choice(number: int, said: Said, right: bool, told: Said) -> str:
        verdict = both("Right.", "对。", "b") if right else both("Not quite.", "不太对。", "b")
        return (
            f'<details name="{name}-{number}" class="{"right" if right else "wrong"}"><summary>{both(*said)}</summary><p>{verdict} {both(*told)}</p></details>'
        )

    def item(number: int, question: Question) -> str:
        choices = "".join(choice(number, *given) for given in question.choices)
        answer = f'<details class="answer"><summary>{both("Show the answer", "看答案")}</summary><p>{both(*question.answer)}</p></details>'
        return f"<li><p><b>{both(*question.ask)}</b></p>{choices}{answer}</li>"

    asked = "".join(item(number, question) for number, question in enumerate(lesson.questions))
    title = both(f"{len(lesson.questions)} questions", f"{len(lesson.questions)} 个问题")
    return f'<section class="questions" id="{name}-questions" tabindex="-1"><h3>{title}</h3><ol>{asked}</ol></section>'


def panel(lesson: Lesson, name: str, parts: dict) -> None:
    """Build the lesson of the tab `name` on its parts. Raises KeyError for a part that is not there."""
    prefix = f"{name}-lesson"
    found = targets(lesson.steps, parts, prefix)
    outputs = list(dict.fromkeys(component for step in lesson.steps for component in changes(step, parts)))
    about = (
        f"{lesson.minutes} minutes, {len(lesson.steps)} steps. Each button works the controls above for you; everything stays yours to change.",
        f"{lesson.minutes} 分钟，{len(lesson.steps)} 步。每个按钮都会替您操作上面的控件；一切仍可随意改动。",
    )
    gr.HTML(f'<p class="note">{both(*about)}</p>')
    card = gr.HTML(0, html_template=cards(lesson, prefix), js_on_load=TURN, elem_id=f"{prefix}-card")
    if lesson.formula:
        gr.HTML(lesson.formula)
    gr.HTML(questions(lesson, prefix))

    def act(place):
        index = place if isinstance(place, int) and 0 <= place < len(lesson.steps) else 0
        return changes(lesson.steps[index], parts)

    acted = card.submit(act, card, outputs, queue=False, show_progress="hidden", api_visibility="private")
    acted.then(None, card, None, js=ACT.replace("__TARGETS__", json.dumps(found)), api_visibility="private")
