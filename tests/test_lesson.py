"""A lesson names only what is there, says everything in both languages, and each of its six steps does what it says in a real browser."""

import importlib
import importlib.util
import re

import gradio as gr
import pytest
from playwright.sync_api import expect

from demos import TABS, i18n, lesson, training
from demos.gan import formula
from demos.gan import lesson as gan_lesson
from demos.lesson import Lesson, Question, Step

CJK = re.compile("[\u4e00-\u9fff]")
LONG = 120_000  # ms: two slow cores that also wake up torch


LESSONS = {name: importlib.import_module(f"demos.{name}.lesson") for name in TABS if importlib.util.find_spec(f"demos.{name}.lesson")}
STEPS = [pytest.param(name, step, id=f"{name}-{step.title[0]}") for name, told in LESSONS.items() for step in told.STEPS]


@pytest.fixture(scope="module")
def parts():
    """The components of every tab that has a lesson, by its name."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, told in LESSONS.items():
            patch.setattr(told, "build", lambda page, kept, parts, name=name: found.update({name: parts}))
            with gr.Blocks() as page:
                importlib.import_module(f"demos.{name}").build(page, training.remembered())
    return found


def texts(given) -> list[tuple[str, str]]:
    """Every (English, Chinese) pair in a lesson."""
    if isinstance(given, tuple) and len(given) == 2 and all(isinstance(part, str) for part in given):
        return [given]
    if isinstance(given, (Lesson, Step, Question)):
        given = [value for name, value in vars(given).items() if name not in ("opens", "sets", "shows", "press")]
    return [pair for part in given for pair in texts(part)] if isinstance(given, (tuple, list)) else []


def test_every_tab_has_a_lesson():
    assert LESSONS.keys() == set(TABS)


@pytest.mark.parametrize("name", LESSONS)
def test_the_lesson_has_its_steps_and_questions_in_both_languages(name):
    told = LESSONS[name].LESSON
    assert (told.minutes, len(told.steps), len(told.questions)) == ((8, 7, 5) if name == "diffusion" else (5, 6, 3))
    pairs = texts(told)
    assert len(pairs) == 1 + 4 * len(told.steps) + sum(2 + 2 * len(question.choices) for question in told.questions)
    for en, zh in pairs:
        assert en and not CJK.search(en) and CJK.search(zh), (en, zh)


@pytest.mark.parametrize("name, step", STEPS)
def test_a_step_names_parts_of_the_tab_and_values_that_they_take(name, step, parts):
    for fold in step.opens:
        assert isinstance(lesson.part(parts[name], fold), gr.Accordion), fold
    for control, value in step.sets.items():
        component = lesson.part(parts[name], control)
        choices = [choice[1] for choice in getattr(component, "choices", None) or [("", value)]]
        assert value in choices and component.preprocess(value) == value, control
    assert lesson.part(parts[name], step.shows)
    assert not step.press or isinstance(lesson.part(parts[name], step.press), gr.Button)
    assert step.press or step.opens


@pytest.mark.parametrize("name, step", STEPS)
def test_what_a_step_presses_and_shows_lies_in_what_it_opens(name, step, parts):
    for thing in filter(None, (step.press, step.shows)):
        around, component = [], lesson.part(parts[name], thing)
        while component is not None:
            around, component = [*around, component], component.parent
        folds = [fold for fold in around if isinstance(fold, gr.Accordion) and fold.open is False]
        assert [fold for fold in folds if fold not in [lesson.part(parts[name], opened) for opened in step.opens]] == [], thing


@pytest.mark.parametrize("name", LESSONS)
def test_the_questions_have_one_right_choice_each_with_something_to_say_to_every_choice(name):
    for question in LESSONS[name].QUESTIONS:
        assert [right for _, right, _ in question.choices].count(True) == bool(question.choices)  # without choices the answer alone waits
        assert all(told[0] and told[1] for _, _, told in question.choices)
    html = lesson.questions(LESSONS[name].LESSON, "x")
    assert html.count("<summary>") == sum(len(question.choices) + 1 for question in LESSONS[name].QUESTIONS) and " open" not in html


@pytest.mark.parametrize("field", ["shows", "press", "opens", "sets"])
def test_a_part_that_is_not_there_is_an_error_when_the_page_is_built(field):
    missing = {"shows": {"shows": "gone"}, "press": {"shows": "here", "press": "more.gone"}, "opens": {"shows": "here", "opens": ("gone",)}}
    missing["sets"] = {"shows": "here", "sets": {"gone": 1}}
    step = Step(("a", "甲"), ("b", "乙"), ("c", "丙"), ("d", "丁"), **missing[field])
    with gr.Blocks():
        there = {"here": gr.HTML(), "more": {}}
        with pytest.raises(KeyError, match="gone.*which no section has built; there are: here, more"):
            lesson.panel(Lesson(("t", "题"), 1, (step,), ()), "x", there)


def test_a_step_changes_only_what_it_names_and_an_unknown_one_is_the_first():
    with gr.Blocks() as page:
        parts = {"fold": gr.Accordion(), "n": gr.Number(1), "go": gr.Button()}
        first = Step(("a", "甲"), ("b", "乙"), ("c", "丙"), ("d", "丁"), "n", ("fold",), {"n": 5}, "go")
        second = Step(("a", "甲"), ("b", "乙"), ("c", "丙"), ("d", "丁"), "n")
        lesson.panel(Lesson(("t", "题"), 1, (first, second), ()), "x", parts)
    act = next(fn.fn for fn in page.fns.values() if fn.fn and fn.fn.__name__ == "act")
    opened = {parts["fold"]: gr.update(open=True), parts["n"]: gr.update(value=5)}
    assert act(0) == opened and act(1) == {}
    assert [act(place) for place in (None, -1, 2, "1", 10**30)] == [opened] * 5
    assert parts["go"].elem_id == "x-lesson-part-go"


@pytest.mark.parametrize("who, d, g", [("", 0, 0), ("d", 3, 0), ("g", 0, 2), ("both", 3, 2)])
def test_the_terms_of_the_formula_are_lit_for_who_learns(who, d, g):
    """D stands in three places: max D, its own term, and inside G's; G in two: min G and its term."""
    html = formula.equation(who)
    assert html.count(" d lit") + html.count('"d lit') == d and html.count(" g lit") + html.count('"g lit') == g
    terms = formula.terms()
    assert terms.count("<li>") == 2 and CJK.search(terms) and "{" not in terms + html


def test_the_lesson_drives_the_real_controls_step_by_step(visit):
    page = visit("/?tab=gan&lang=en", width=390, height=844)
    expect(page.locator("#gan-result .made")).to_be_visible(timeout=LONG)
    page.locator("#gan-lesson").get_by_role("button", name=re.compile("^Lesson")).click()
    card = page.locator(".lesson")

    def do(name: str, place: int):
        expect(card.locator(".place")).to_have_text(str(place))
        card.get_by_role("button", name=name).press("Enter")  # by keyboard

    def next_step():
        card.get_by_role("button", name="Next").press("Enter")

    do("Make twenty digits", 1)
    expect(card).to_have_class(re.compile("docked"))
    expect(page.locator("#gan-result .made")).to_contain_text("seed 7", timeout=LONG)
    next_step()
    do("Take seed 2014", 2)
    expect(page.locator("#gan-result .made")).to_contain_text("seed 2014", timeout=LONG)
    expect(page.locator("#gan-result")).to_be_in_viewport()
    next_step()
    do("Let D judge", 3)
    expect(page.locator("#judge-rows .wall").nth(1)).to_be_visible(timeout=LONG)
    expect(page.locator("#judge-rows")).to_be_in_viewport()
    next_step()
    do("Start the training", 4)
    expect(page.locator("#gan-learn .run [role=status]")).to_contain_text("training", timeout=LONG)
    next_step()
    do("Walk from 3 to 8", 5)
    expect(page.locator("#gan-morph .wall img")).not_to_have_count(0, timeout=LONG)
    expect(page.locator("#gan-plane")).to_be_in_viewport()
    next_step()
    do("Make it collapse", 6)
    expect(page.locator("#gan-learn .broken")).to_be_visible(timeout=LONG)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    next_step()
    expect(card).not_to_have_class(re.compile("docked"))
    expect(page.locator(".questions[tabindex]")).to_be_focused()
    page.get_by_text("Because it can no longer tell them apart").click()
    expect(page.get_by_text("One half is the honest answer")).to_be_visible()
    page.locator("#gan-stop").press("Enter")


def test_the_words_of_the_card_are_in_the_language_of_the_page():
    html = lesson.cards(gan_lesson.LESSON, "x")
    english = re.findall(r'<\w+ lang="en">(.*?)</\w+>', html)
    chinese = re.findall(r'<\w+ lang="zh">(.*?)</\w+>', html)
    assert len(english) == len(chinese) > 24 and not any(map(CJK.search, english)) and all(map(CJK.search, chinese))
    assert i18n.both("a", "甲") in '<span lang="en">a</span><span lang="zh">甲</span>'


def test_the_lesson_of_the_text_tab_writes_climbs_and_looks_back(visit):
    page = visit("/?tab=text&lang=en", width=390, height=844)
    expect(page.locator("#text-result .made")).to_be_visible(timeout=LONG)
    page.locator("#text-lesson").get_by_role("button", name=re.compile("^Lesson")).click()
    card = page.locator("#text-lesson-steps")

    def do(name: str):
        card.get_by_role("button", name=name).press("Enter")

    def next_step():
        card.get_by_role("button", name="Next").press("Enter")

    next_step()
    do("Write at temperature 1.6")
    expect(page.locator("#text-result .made")).to_contain_text("temperature 1.6", timeout=LONG)
    expect(page.locator("#text-result")).to_be_in_viewport()
    next_step()
    do("Let them all write")
    expect(page.locator("#text-rung-ngram")).to_contain_text("ROMEO", timeout=LONG)
    next_step()
    do("Show where it looked")
    expect(page.locator("#text-why-result")).to_contain_text("wherefore", timeout=LONG)
    next_step()
    next_step()
    do("Open the chat")
    expect(page.locator("#text-chat-message")).to_be_visible(timeout=LONG)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
