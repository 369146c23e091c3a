"""Networks are made and loaded one at a time, whoever asks for them meanwhile."""

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

from transformers import initialization

from genkit import core, text


def test_models_that_are_made_at_the_same_time_all_have_their_weights_tied(monkeypatch):
    """While it loads, transformers takes the tying of weights from every thread."""
    usual = initialization.no_tie_weights

    @contextlib.contextmanager
    def slowly():
        with usual():
            time.sleep(0.2)  # long enough for the other threads to come in between
            yield

    monkeypatch.setattr(initialization, "no_tie_weights", slowly)
    mine = text.load("gpt-mini")
    makers = [lambda: text.load("gpt-mini"), lambda: text.load("gpt-mini"), lambda: core.build(lambda: type(mine)(mine.config), 0)]
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda make: make(), makers))
    assert all(model.lm_head.weight is model.model.embed_tokens.weight for model in made)
