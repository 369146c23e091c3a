"""A text of one's own: read without a silent guess, cleaned with counts, split, learnt with the best model kept, and what is said of it."""

import random
import re
import weakref
from types import SimpleNamespace

import pytest
import torch

from genkit import text
from genkit.core import Problem
from genkit.text import Config, evaluate, learning, own, training
from genkit.text.learning import overfit
from genkit.text.own import Parts

CHINESE = "今天下午，老师让我们写一篇作文，题目是《我的家乡》。我的家乡在南方的一个小城市，那里有一条河，河边种着许多柳树。\n"
TRADITIONAL = "從前有一個國王，他有三個女兒。最小的女兒非常美麗，連太陽都為她的美麗感到驚訝。這個故事說的是她和青蛙的故事。\n"
FRENCH = "L'été dernier, nous avons mangé des crêpes; c'était très agréable.\n"
RUSSIAN = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему.\n"
KOREAN = "옛날 옛적에 호랑이가 담배 피우던 시절에 한 마을에 가난한 나무꾼이 살았습니다. 그는 매일 산에 올라갔습니다.\n"
JAPANESE = "むかしむかし、あるところに、おじいさんとおばあさんがありました。おじいさんは山へしば刈りに行きました。\n"
ARABIC = "كان يا ما كان في قديم الزمان، سلطان عظيم له ثلاثة أبناء.\n"


# --- reading


@pytest.mark.parametrize(
    "codec, told",
    [
        ("utf-8", "UTF-8"),
        ("utf-8-sig", "UTF-8, with its mark"),
        ("utf-16", "UTF-16, with its mark"),
        ("utf-16-le", "UTF-16, without a mark"),
        ("utf-16-be", "UTF-16, without a mark"),
        ("utf-32", "UTF-32, with its mark"),
        ("gb18030", "GB18030"),
    ],
)
@pytest.mark.parametrize("written", [CHINESE, TRADITIONAL, CHINESE + "One line of English.\r\n😀\n"], ids=["simplified", "traditional", "mixed"])
def test_an_encoding_is_found_and_told(codec, told, written):
    found = own.read(written.encode(codec))
    assert (found.text, found.encoding, found.replaced) == (written, told, 0)


@pytest.mark.parametrize(
    "written, codec",
    [(TRADITIONAL, "big5"), (FRENCH, "latin-1"), (FRENCH, "cp1252"), (RUSSIAN, "cp1251"), (RUSSIAN, "koi8-r"), (KOREAN, "euc-kr"), (JAPANESE, "shift-jis"), (JAPANESE, "euc-jp")],
    ids=["big5", "latin-1", "cp1252", "cp1251", "koi8-r", "euc-kr", "shift-jis", "euc-jp"],
)  # fmt: skip
@pytest.mark.parametrize("times", [1, 20], ids=["a line", "a page"])
def test_what_would_be_read_wrong_is_refused_with_the_remedy(written, codec, times):
    with pytest.raises(Problem, match="save it as UTF-8") as told:
        own.read((written * times).encode(codec))
    assert "UTF-8" in told.value.zh


@pytest.mark.parametrize(
    "data, sentence",
    [
        (b"", "empty"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj", "a PDF document"),
        (b"PK\x03\x04\x14\0\6\0", "a zip or an Office document"),
        (b"{\\rtf1\\ansi Hello}", "an RTF document"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "a picture"),
        (b"\x89PNG\r\n\x1a\n", "a picture"),
        (b"\x7fELF\2\1\1\0", "a program"),
        (bytes(range(256)) * 8, "not plain text"),
        (b"\0" * 1000, "not plain text"),
        (bytes([1, 2, 3, 65] * 100), "not plain text"),
        (b"\xff\xfe\0\xd8\0\xd8", "no UTF-16 text"),
        (b"a" * (own.MOST + 1), "5,000,001 bytes; at most 5,000,000"),
    ],
)
def test_what_is_no_text_is_refused_whatever_its_name(data, sentence):
    with pytest.raises(Problem, match=sentence):
        own.read(data)


def test_five_megabytes_are_read():
    assert len(own.read(b"word \n" * (own.MOST // 6)).text) > 4_999_000
    with pytest.raises(Problem, match="at most"):
        own.pasted("字" * (own.MOST // 3 + 1))


@pytest.mark.parametrize("nothing", ["", " \n\t ", None, 7])
def test_nothing_pasted_is_a_problem(nothing):
    with pytest.raises(Problem):
        own.pasted(nothing)


def test_halves_of_a_pair_are_joined_or_become_a_sign_that_is_counted():
    assert own.pasted("a\ud83d\ude00b\ud83dc\ude00\ufffd") == own.Read("a😀b\ufffdc\ufffd\ufffd", "", 2)


# --- cleaning


MESSY = "\ufeffA line of twenty letters.\r\nROMEO:\r\rROMEO:\n\n\nA line of twenty letters.\x07\nROMEO:\ncafe\u0301\x00\u2028JULIET:\nROMEO:\n \n\n"


def test_every_step_of_the_cleaning_counts_what_it_did():
    cleaned = own.clean(MESSY)
    # the second ROMEO comes after empty lines, the third after a line that went
    assert cleaned.text == "A line of twenty letters.\nROMEO:\n\ncafé\nJULIET:\nROMEO:\n"
    assert cleaned.changed == {"ends": 4, "controls": 3, "unicode": 1, "repeated": 3, "empty": 4}
    assert (cleaned.before.controls, cleaned.after.controls) == (3, 0)
    assert cleaned.before == own.Counts(len(MESSY), 13, 5, 3, 3, len(set(MESSY)))
    assert cleaned.after == own.Counts(len(cleaned.text), 6, 1, 1, 0, len(set(cleaned.text)))


def test_a_step_that_is_switched_off_changes_nothing():
    assert own.clean(MESSY, ()) == own.Cleaned(MESSY, own.counts(MESSY), own.counts(MESSY), {})
    assert own.clean("a\r\nb\r\n", ["ends"]).text == "a\nb\n" and "\r" in own.clean("a\r\nb", ["empty", "repeated"]).text
    with pytest.raises(Problem, match="unknown step 'spelling'"):
        own.clean("a", ["spelling"])


def test_a_clean_text_stays_as_it_is():
    once = own.clean(MESSY + CHINESE + ARABIC + "👩‍👩‍👧‍👦 🇨🇳\n").text
    again = own.clean(once)
    assert again.text == once and set(again.changed.values()) == {0}


def test_the_short_lines_of_a_play_stay_and_a_line_that_only_repeats_itself_goes():
    play = "".join(f"ROMEO:\nThis is line number {number} of the play.\n" for number in range(50))
    assert own.clean(play).text == play
    assert own.clean("All work and no play makes Jack a dull boy.\n" * 10_000).after.lines == 1
    assert own.clean("ha\n\n" * 10_000).text == "ha\n"


# --- three parts


def test_the_parts_are_neighbours_of_70_15_and_15_percent_cut_at_line_ends():
    lines = "".join(f"line {number}\n" for number in range(1000))
    parts = own.split(lines)
    assert parts.learn + parts.validate + parts.test == lines
    assert [len(part) / len(lines) for part in (parts.learn, parts.validate, parts.test)] == pytest.approx([0.7, 0.15, 0.15], abs=0.01)
    assert parts.learn.endswith("\n") and parts.validate.endswith("\n")
    assert own.split("x" * 1000) == Parts("x" * 700, "x" * 150, "x" * 150)  # no line end is near


def test_too_little_text_is_refused_and_how_much_is_missing_is_told():
    own.split("x" * own.LEAST)
    with pytest.raises(Problem, match="499 characters are too few.*500 are needed, 1 more"):
        own.split("x" * (own.LEAST - 1))
    with pytest.raises(Problem, match="few"):
        own.split(own.clean("The same line again and again.\n" * 10_000).text)


def test_characters_that_no_model_can_foresee_are_counted():
    assert Parts("abcabc", "abd", "e").strange == 0.5 and Parts("ab", "ab", "").strange == 0


# --- learning


@pytest.fixture
def tiny(monkeypatch):
    """A variant that learns in milliseconds, and short samples."""
    monkeypatch.setitem(text.VARIANTS, "tiny", Config("python", n_layer=1, n_head=1, n_embd=32, context_length=16, batch_size=8, lr=0.02))
    monkeypatch.setattr(training, "SHOWN", 5)


def noise(seed, letters="abcdefgh"):
    return "".join(random.Random(seed).choices(letters, k=600))


def test_the_model_that_is_handed_out_is_the_one_of_the_lowest_validation_loss(tiny):
    parts = own.split(noise(1))  # nothing to understand in it, so from some step on it is learnt by heart
    events = list(text.learn("tiny", parts, steps=120, every=10))
    losses = {event.step: event.metrics["loss_val"] for event in events[1:]}
    best = min(losses, key=losses.get)
    last, exam = events[-1], events[-1].exam
    assert best < 120 and exam.best == best and exam.loss_val == losses[best]
    held_out, test = (training.encode(last.model.tokenizer, part) for part in (parts.validate, parts.test))
    assert text.validation(last.model, held_out) == pytest.approx(losses[best], abs=1e-4)
    assert exam.test == pytest.approx(text.validation(last.model, test), abs=1e-4) and not last.model.training
    *_, preview = text.sample(last.model, "", max_new_tokens=5, seed=0)
    assert last.preview == preview
    assert [event.exam.test for event in events[1:-1]] == [None] * 11 and events[0].exam is None
    assert text.overfit([(event.step, event.metrics) for event in events]) == best
    mine = {event.step: event.model for event in events}
    assert mine[best] is mine[120] and mine[120] is not mine[0]  # whoever stops at a report has the best one so far


def test_the_alphabet_comes_from_what_is_learnt_alone(tiny):
    parts = Parts(noise(2), noise(3) + "Q", noise(4))
    (event, *_) = text.learn("tiny", parts, steps=1, every=1)
    assert set(event.model.tokenizer.get_vocab()) == {"<unk>", "\n", *"abcdefgh"}


def test_the_text_is_forgotten_when_the_training_is_left(tiny):
    class Watched(str):
        __slots__ = ("__weakref__",)

    learnt = Watched(noise(5))
    gone = weakref.ref(learnt)
    events = text.learn("tiny", Parts(learnt, noise(6), noise(7)), steps=50, every=1)
    event = next(events)
    del learnt
    assert gone() is not None
    events.close()
    del events
    assert gone() is None and event.preview


def test_the_end_is_promised_after_a_calibration_and_pauses_do_not_count(tiny, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(learning.Stopwatch.go.__globals__["time"], "perf_counter", lambda: now[0])
    step = training._step
    monkeypatch.setattr(training, "_step", lambda *args: now.__setitem__(0, now[0] + 0.5) or step(*args))
    exams = []
    for event in text.learn("tiny", own.split(noise(8)), steps=40, every=5):
        exams.append(event.exam)
        now[0] += 1000  # a pause
    assert [exam.promised for exam in exams[1:4]] == [None, None, 20] and exams[-1].arrived == exams[-1].seconds == 20


def test_the_evaluation_tells_the_promise_and_what_came_of_it(tiny, monkeypatch):
    monkeypatch.setitem(text.VARIANTS, "gpt-mini", text.VARIANTS["tiny"])
    (line,) = evaluate.promises(SimpleNamespace(seed=4, n=1), steps=8, every=2)
    assert re.search(r"seed 4: end promised after [0-9.]+ s, came after [0-9.]+ s \([+-]\d+%\); lowest validation loss \d", line)


def curve(losses, held_out):
    return [(0, {}), *((10 * (index + 1), {"loss": a, "loss_val": b}) for index, (a, b) in enumerate(zip(losses, held_out, strict=True)))]


@pytest.mark.parametrize(
    "losses, held_out, since",
    [
        ([3, 2, 1.5, 1.0, 0.8, 0.6], [3, 2.2, 2.0, 2.2, 2.4, 2.6], 30),
        ([3, 2, 1.5, 1.2, 1.0, 0.9], [3, 2.5, 2.2, 2.0, 1.9, 1.8], None),  # still learning
        ([3, 2, 1.5, 1.2, 1.1, 1.0], [3, 2.2, 2.0, 2.01, 2.02, 2.01], None),  # level
        ([3, 2, 1.5, 1.7, 1.8, 1.9], [3, 2.2, 2.0, 2.4, 2.5, 2.6], None),  # both rise: that is no learning by heart
        ([3, 2, 1.0, 0.8], [3, 2.0, 2.4, 2.6], None),  # two reports may be chance
        ([3, 2, 1.5, 1.0, 0.8, 0.6], [3, 2.2, 2.0, 2.4, 2.01, 2.6], None),  # so may be a single peak
        ([3, float("nan"), 1.5, 1.0, 0.9, 0.8], [2.0, float("nan"), 2.1, 2.2, 2.3, 2.4], 10),
        ([], [], None),
    ],
)
def test_over_fitting_is_a_rise_of_the_validation_loss_while_the_training_loss_falls(losses, held_out, since):
    assert overfit(curve(losses, held_out)) == since


@pytest.mark.parametrize(
    "written",
    [ARABIC * 20, "😀🎉🚀" * 200, CHINESE * 12, "a" * 600, "\n" * 300 + "b" * 300],
    ids=["right to left", "emoji", "Chinese", "one letter", "empty lines"],
)
def test_any_script_can_be_learnt(tiny, written):
    *_, event = text.learn("tiny", own.split(written), steps=2, every=1)
    assert torch.isfinite(torch.tensor([*event.metrics.values(), event.exam.test])).all() and event.preview
