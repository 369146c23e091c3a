"""Stop ends what was asked for before it, and nothing that is asked for after it."""

import pytest

from demos.diffusion import make
from demos.pen import Pen
from demos.text import write
from demos.vae import scarce
from genkit.core import Problem


@pytest.fixture
def pen():
    """A visitor's who pressed Stop at 5."""
    pen = Pen()
    pen.stop(5)
    return pen


def test_a_text_that_is_stopped_stands_as_it_is_and_a_later_one_is_whole(pen):
    stopped, whole = (list(write.write(pen, asked, "ROMEO:", "gpt-mini", 20, 0.8, 0, 1, 1, 7)) for asked in (3, 6))
    assert len(stopped) == 1 and len(whole[-1]) > len(stopped[0]) and not any("cursor" in shown[-1] for shown in (stopped, whole))


def test_a_picture_that_is_stopped_says_how_far_it_came_and_a_later_one_is_done(pen):
    stopped, done = (list(make.draw(pen, asked, "a cat", "mini-sd", 1, "", 3, 4, "", 7)) for asked in (3, 6))
    (shown, key), (last, kept) = stopped[-1], done[-1]
    assert len(stopped) == 1 and "step 1 of 3" in shown and "AI-generated" in shown and not isinstance(key, str)
    assert len(done) == 4 and "step 2 of 3" in done[1][0] and "step" not in last.split("made")[0] and isinstance(kept, str)


def test_an_experiment_that_is_stopped_ends_and_a_later_one_tells_its_trouble(pen, monkeypatch):
    closed = []

    def training(*values):
        try:
            yield 0.5
            raise Problem("tired", "累了")
        finally:
            closed.append(values)

    monkeypatch.setattr(scarce, "begin", training)
    stopped, later = (list(scarce.run(pen, asked, "8", 20, [], 0)) for asked in (3, 6))
    assert len(stopped) == 1 and "Stopped." in stopped[0] and len(closed) == 2
    assert "training: 50%" in later[0] and "tired" in later[-1]
