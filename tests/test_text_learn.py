"""The "Train it yourself" section of the text tab: what it makes of a visitor's text, what a run tells to whom, and writing on with one's own model."""

import re

import gradio as gr
import pytest

import demos.keep
from demos import training
from demos.pen import Pen
from demos.pieces import promise
from demos.text import learn, material
from genkit import runs, text
from genkit.core import Problem
from genkit.text import Config
from genkit.text import training as schooling
from genkit.text.learning import Exam

ALL = list(material.STEPS)
SECRET = "".join(f"The secret number {number} of the diary is {number * number}.\n" for number in range(40))


@pytest.fixture
def tiny(monkeypatch):
    """The GPT of the section, made so small that it learns in milliseconds."""
    monkeypatch.setitem(text.VARIANTS, "gpt-mini", Config("python", n_layer=1, n_head=1, n_embd=32, context_length=32, batch_size=4))
    monkeypatch.setattr(schooling, "SHOWN", 5)


def ended(run):
    *_, shot = runs.follow(run)
    assert shot.problem is None
    return shot


def start(owner="pupil", pasted=SECRET, steps=30, **changed):
    asked = {"source": "own", "pasted": pasted, "key": "", "cleaning": ALL, "kind": "gpt", "size": "medium", "steps": steps, "seed": 0, **changed}
    return learn.begin(owner, *asked.values())


# --- the text


def test_the_report_counts_before_and_after_and_says_why_the_parts_are_neighbours():
    said = material.report("own", SECRET + "\r\n\n\n" + SECRET[:900] + "\x07", "", ALL)
    for words in (
        "ontrol characters taken out: 1",
        "epeated lines taken out: ",
        "去掉的控制字符：1",
        "stretches of the text",
        "连续的一段",
        "to learn from",
        "Alphabet: ",
    ):
        assert words in said
    assert re.search(r"control characters</span>.*?<td>1</td><td>0</td>", said)
    assert "control characters taken out" not in material.report("own", SECRET + "\x07", "", [])


def test_a_file_is_read_once_deleted_told_and_kept_under_a_key(tmp_path):
    file = tmp_path / "diary.txt"
    file.write_bytes(("日记：今天天气很好，我们去了山上。" * 60).encode("gb18030"))
    key, name = material.take(str(file), "")
    assert name == "diary.txt" and not file.exists()
    assert "Read as GB18030." in material.report("own", "what is in the box does not count", key, ALL)
    other = tmp_path / "other.txt"
    other.write_bytes(SECRET.encode("utf-16"))
    newer, _ = material.take(str(other), key)
    assert "UTF-16, with its mark" in material.report("own", "", newer, ALL) and "no longer kept" in material.report("own", "", key, ALL)


def test_a_pdf_by_the_name_of_txt_is_refused_and_deleted(tmp_path):
    (tmp_path / "essay.txt").write_bytes(b"%PDF-1.4 ...")
    with pytest.raises(Problem, match="a PDF document"):
        material.take(str(tmp_path / "essay.txt"), "")
    assert list(tmp_path.iterdir()) == []


def test_of_a_class_that_uploads_one_file_everybody_gets_it(tmp_path):
    file = tmp_path / "handout.txt"
    file.write_text(SECRET)
    first, _ = material.take(str(file), "")
    second, _ = material.take(str(file), "")  # the first has deleted it, from the place where Gradio keeps equal files
    assert first != second and material.SHELF.get(first) is material.SHELF.get(second)
    with pytest.raises(Problem, match="no longer kept"):
        material.take(str(tmp_path / "other.txt"), "")


@pytest.mark.parametrize(
    "pasted, said",
    [
        ("", "Paste a text or choose a file"),
        (" \n", "Paste a text or choose a file"),
        ("too short", "9 characters are too few"),
        ("The same line again and again.\n" * 10_000, "Repeated lines taken out: 9,999"),
        ("😀" * 600, "600"),
        ("كان يا ما كان في قديم الزمان، سلطان عظيم له ثلاثة أبناء.\n" * 1 + "مرحبا " * 200, "Alphabet"),
        ("\ud83d and \udc00 " * 100, "200 halves of a character"),
        ("\x00\x01" * 400, "too few"),
        ("<img src=x onerror=alert(1)>" * 40, "&lt;"),
        ("x" * 5_000_001, "5,000,001 bytes"),
        ("a b c\n" * 120_000, "720,000"),
    ],
    ids=["nothing", "blank", "short", "one line", "emoji", "right to left", "surrogates", "controls", "markup", "5 MB + 1", "720,000"],
)
def test_whatever_is_pasted_gets_a_report_or_a_sentence(pasted, said):
    shown = material.report("own", pasted, "", ALL)
    assert said in shown and "<img" not in shown and shown.encode("utf-8")


def test_a_corpus_of_the_machine_is_divided_as_well(monkeypatch):
    monkeypatch.delenv("GENKIT_DATA_DIR", raising=False)
    said = material.report("python", "", "", ALL)
    assert "70%" in said and "before" not in said


# --- the run


def test_who_follows_a_run_sees_samples_and_numbers_but_never_the_text(tiny):
    run = start()
    shot = ended(run)
    assert shot.about["corpus"] == "own" and shot.about["characters"] == len(SECRET) and shot.about["cleaning"] == tuple(ALL)
    assert "secret number" not in repr(shot.about) and "secret number" not in repr(vars(runs._runs[run]))
    assert isinstance(shot.exam, Exam) and shot.exam.test is not None
    assert re.search("Test loss.*测试损失", learn.verdict(shot)) and "step" in learn.verdict(shot)


def test_the_same_text_and_seed_give_the_same_model(tiny):
    first, second = (ended(start(owner, steps=10)) for owner in ("one", "two"))
    assert first.preview == second.preview and first.exam.test == pytest.approx(second.exam.test, rel=1e-3)


@pytest.mark.parametrize(
    "changed, sentence",
    [
        ({"source": "war and peace"}, "choose one of"),
        ({"kind": "oracle"}, "choose one of"),
        ({"size": "huge"}, "choose one of"),
        ({"steps": "many"}, "must be a number"),
        ({"cleaning": ["spelling"]}, "unknown step"),
        ({"pasted": ""}, "no text yet"),
        ({"pasted": None}, "no text yet"),
        ({"pasted": "short"}, "too few"),
        ({"key": "guessed"}, "no longer kept"),
    ],
)
def test_what_cannot_be_learnt_is_a_problem_in_both_languages(changed, sentence):
    with pytest.raises(Problem, match=sentence) as told:
        start("nobody", **changed)
    assert re.search("[\u4e00-\u9fff]", told.value.zh) and not runs.mine("nobody", "text")


def test_over_fitting_is_named_in_both_languages():
    points = [(0, {}), *((step, {"loss": 3 - step / 50, "loss_val": 2 + abs(step - 50) / 100}) for step in range(10, 110, 10))]
    said = learn.by_heart(points)
    assert "since step 50 it learns by heart" in said and "from 2.00 to 2.50" in said and "从第 50 步起" in said
    assert learn.by_heart(points[:6]) == ""


@pytest.mark.parametrize(
    "times, said",
    [
        ({"seconds": 4}, "is being measured"),
        ({"seconds": 20, "promised": 90}, "about 90 s of training; 20 s have passed"),
        ({"seconds": 95, "promised": 90, "arrived": 95}, "promised after 90 s of training and came after 95 s"),
        ({"seconds": 3, "arrived": 3}, "too short for a promise"),
        ({"seconds": 30, "promised": 900}, "would take about 900 s here, but a training is stopped after 600 s"),
    ],
)
def test_the_promise_is_told_as_it_is(times, said):
    assert said in promise(Exam(10, 10, 2.0, **times), learn.ENDS)


def test_the_lowest_point_of_the_validation_loss_is_ringed_and_told():
    drawn = training.charts(((0, {}), (10, {"loss": 2.0, "loss_val": 2.5}), (20, {"loss": 1.5, "loss_val": 2.25}), (30, {"loss": 1.0, "loss_val": 2.75})))
    assert drawn.count("<circle") == 2 and "lowest validation loss: 2.25, step 20" in drawn and "验证损失最低点：2.25，第 20 步" in drawn
    assert "<circle" not in training.charts(((10, {"recon": 2.0}),))


# --- writing on with it


def test_one_writes_on_with_ones_own_model_and_nobody_elses(tiny):
    run = start("author", steps=5)
    shot = ended(run)
    *_, last = learn.write_on(Pen(), 1, {"owner": "author", "text": run}, "The secret", 0.8)
    assert "AI-generated" in last and 'class="yours">The secret<' in last and last.count("<li>") == learn.SHOWN and f"step {shot.exam.best}" in last
    stopped = Pen()
    stopped.stop(5)
    assert len(list(learn.write_on(stopped, 1, {"owner": "author", "text": run}, "", 0.8))) == 1
    for stranger in ({"owner": "reader", "text": run}, {"text": run}, {"owner": "author"}, None):
        with pytest.raises(gr.Error, match="trained no model yet"):
            next(learn.write_on(Pen(), 1, stranger, "", 0.8))
        with pytest.raises(Problem, match="trained no model yet"):
            demos.keep.own_run("text", stranger)
    with pytest.raises(gr.Error, match="10001 characters"):
        next(learn.write_on(Pen(), 1, {"owner": "author", "text": run}, "x" * 10_001, 0.8))


def test_a_visitor_brings_a_text_trains_reloads_and_writes_on(visit, tmp_path):
    from playwright.sync_api import expect

    def open_section():
        expect(page.locator("#text-result .made")).to_be_visible(timeout=120_000)
        page.get_by_role("button", name="Train it yourself").click()
        return page.locator("#text-learn .run [role=status]")

    page, patience = visit("/?tab=text"), {"timeout": 90_000, "use_inner_text": True}
    (tmp_path / "diary.txt").write_bytes(("日记：今天天气很好，我们去了山上。\n" + SECRET).encode("gb18030"))
    state = open_section()
    page.get_by_role("radio", name="My own text").check()
    page.locator("#text-paste textarea").fill("<img src=x onerror=\"document.title='broken'\">" * 30)
    expect(page.locator("#text-report")).to_contain_text("Alphabet", **patience)
    with page.expect_file_chooser() as choosing:
        page.get_by_role("button", name="Choose a .txt file").click()
    choosing.value.set_files(tmp_path / "diary.txt")
    expect(page.locator("#text-file")).to_contain_text("diary.txt", **patience)
    expect(page.locator("#text-report")).to_contain_text("Read as GB18030.", **patience)
    page.get_by_role("radio", name="small", exact=True).check()
    page.locator("#text-steps").get_by_label("number input").fill("3000")
    page.locator("#text-start").click()
    expect(state).to_contain_text(re.compile("training: step [1-9]"), **patience)
    page.reload()
    state = open_section()
    expect(page.locator("#text-verdict")).to_contain_text("Best moment", **patience)
    expect(page.locator("#text-learn .chart circle")).to_be_visible(timeout=60_000)
    page.locator("#text-stop").click()
    expect(state).to_contain_text("stopped", **patience)
    page.locator("#text-mine-prompt textarea").fill("The secret ")
    page.locator("#text-mine-go").click()
    expect(page.locator("#text-mine-result .chances li").first).to_be_visible(timeout=90_000)
    assert page.title() != "broken"
