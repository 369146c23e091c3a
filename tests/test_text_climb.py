"""The section with the ladder: all rungs write at once, each is asked how well it foresees a text, and nothing that is typed breaks it."""

import re
from math import exp, log

import gradio as gr
import pytest
import torch

from demos.pen import Pen
from demos.text import ladder
from genkit import models, text
from genkit.core import Problem
from genkit.text.surprise import surprise
from genkit.text.training import encode

SETTINGS = (24, 0.8, 0, 1, 1, 7)  # length, temperature, top-k, top-p, repetition penalty, seed
RUNGS = ["ngram", "hmm", "lstm", "gpt"]


def climb(prompt="ROMEO:\n", corpus="shakespeare", chosen=RUNGS, pretrained=ladder.NONE, order=6, passage="To be, or not to be", pen=None, settings=SETTINGS):
    """What the handler sends: lists of the columns' HTML, "" for those that are not shown, and the summary at the end."""
    for *columns, summary in ladder.climb(pen or Pen(), 1, prompt, corpus, chosen, pretrained, order, passage, *settings):
        yield [column["value"] if isinstance(column, dict) else column.value for column in columns], summary


def words(html):
    return re.sub(r"<[^>]+>", " ", html)


# --- foreseeing


@pytest.mark.parametrize("name", ["ngram-shakespeare", "hmm-shakespeare", "lstm-shakespeare", "gpt-mini"])
def test_the_perplexity_is_what_the_chances_of_each_token_make(name):
    model, said = models.use("text", name), "To be, or not to be: that"
    ids = [model.generation_config.bos_token_id, *encode(model.tokenizer, said).tolist()]
    logs = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    nats = -sum(logs[i, token].item() for i, token in enumerate(ids[1:]))
    found = text.perplexity(model, said)
    assert found.perplexity == pytest.approx(exp(nats / len(said)), rel=1e-3) and found.bits_per_character == pytest.approx(nats / len(said) / log(2), rel=1e-3)
    assert (found.tokens, found.characters, found.cut, found.unknown) == (len(said), len(said), 0, 0)


def test_a_text_longer_than_the_context_is_read_to_its_end():
    model = models.use("text", "gpt-mini")
    ids = encode(model.tokenizer, ladder.PASSAGES["shakespeare"]).tolist()
    assert len(ids) > 3 * model.config.max_position_embeddings
    short = ids[:128]
    assert surprise(model, ids) > surprise(model, ids[:300]) > surprise(model, short)
    whole = text.perplexity(model, ladder.PASSAGES["shakespeare"])
    assert 3 < whole.perplexity < 8 and whole.characters == len(ids)
    # the state of an n-gram is as good as the whole text: in parts it foresees what it does at once
    counting = models.use("text", "ngram-shakespeare")
    logs = counting(input_ids=torch.tensor([ids[:-1]])).logits[0]
    at_once = torch.nn.functional.cross_entropy(logs, torch.tensor(ids[1:]), reduction="sum").item()
    assert surprise(counting, ids) == pytest.approx(at_once, rel=1e-4)


def test_what_is_not_read_and_not_known_is_counted():
    model = models.use("text", "ngram-shakespeare")
    found = text.perplexity(model, "你好 hello", most=4)
    assert (found.tokens, found.characters, found.cut, found.unknown) == (4, 4, 4, 2)
    assert text.perplexity(model, "\ud83d\x00x").characters == 3
    for wrong in ("", None, 7):
        with pytest.raises(Problem):
            text.perplexity(model, wrong)


def test_tokens_of_many_characters_count_as_many(monkeypatch):
    model = models.use("text", "gpt-mini")
    spelled = model.tokenizer("abab", add_special_tokens=False, return_offsets_mapping=True)

    class Pairs:
        unk_token_id, chat_template = None, None

        def __call__(self, said, **options):
            return type(spelled)({"input_ids": spelled["input_ids"][:2], "offset_mapping": [(0, 2), (2, 4)]})

    monkeypatch.setattr(model, "tokenizer", Pairs())
    found = text.perplexity(model, "abab")
    assert found.tokens == 2 and found.characters == 4
    monkeypatch.setattr(model.generation_config, "bos_token_id", None)  # then nothing foresees the first
    found = text.perplexity(model, "abab")
    assert found.tokens == 1 and found.characters == 2


# --- the columns


def test_all_rungs_write_side_by_side_from_the_beginning():
    made = list(climb(settings=(120, *SETTINGS[1:])))
    first = next(columns for columns, _ in made if "tokens a second" in words("".join(columns)))
    assert all("tokens a second" in words(column) for column in first[:4]) and first[4] == ""  # nobody waits until another is done
    last, summary = made[-1]
    for kind, column in zip(RUNGS, last, strict=False):
        said = re.search(r'<span class="">(.*?)</span></div>', column, re.S)[1]
        *_, alone = text.sample(models.use("text", f"{kind}-shakespeare"), "ROMEO:\n", max_new_tokens=120, temperature=0.8, seed=7)
        assert said == ladder.escape(alone) and "AI-generated" in column and "perplexity of the text below" in column
    assert summary.count("<li>") == 4 and "Best foreseen by" in summary


def test_stop_keeps_what_was_written_and_still_measures():
    pen = Pen()
    pen.stop(5)
    *_, (last, summary) = climb(pen=pen, settings=(1000, *SETTINGS[1:]))
    assert "cursor" not in "".join(last) and len(words(last[0])) < 900 and summary.count("<li>") == 4


def test_only_the_chosen_rungs_are_shown():
    *_, (last, summary) = climb(chosen=["hmm"])
    assert [bool(column) for column in last] == [False, True, False, False, False] and summary.count("<li>") == 1


def test_a_pretrained_model_that_is_not_here_says_so_in_its_column(monkeypatch):
    monkeypatch.setattr(models, "_found", lambda family, name: None)
    *_, (last, summary) = climb(chosen=["hmm"], pretrained="distilgpt2")
    assert "not on this machine" in last[4] and summary.count("<li>") == 1


def test_a_model_on_another_server_writes_along_and_is_not_measured(monkeypatch):
    elsewhere = text.Endpoint("http://127.0.0.1:1/v1", "far")
    monkeypatch.setitem(models._attached, ("text", elsewhere.name), elsewhere)
    monkeypatch.setattr(text.Endpoint, "pieces", lambda *_, **__: iter([("a word", None), (" more", None)]))
    *_, (last, summary) = climb(chosen=["hmm"], pretrained=elsewhere.name)
    assert "a word more" in last[4] and "parameters" not in last[4] and summary.count("<li>") == 1
    *_, (_, summary) = climb(chosen=[], pretrained=elsewhere.name)
    assert "sends its words only" in summary


def test_another_order_writes_another_column_and_leaves_the_shared_model_alone():
    shown = {}
    for order in (1, 3, 8):
        column = ladder.reorder("ROMEO:\n", "shakespeare", RUNGS, order, "To be, or not to be", *SETTINGS)
        shown[order] = words(column["value"] if isinstance(column, dict) else column.value)
        assert f"{order}-gram" in shown[order]
    counts = [int(re.search(r"counts.*?([\d,]+)", each, re.S)[1].replace(",", "")) for each in shown.values()]
    assert counts == sorted(counts) and len(set(counts)) == 3 and counts[0] < 100
    assert models.use("text", "ngram-shakespeare").config.order == 6


def test_the_chinese_ladder_brings_its_own_beginning_and_text_where_nothing_was_typed():
    prompt, passage, order = ladder.turned("tang", "ROMEO:\n", ladder.PASSAGES["shakespeare"])
    assert prompt.startswith("五律") and passage == ladder.PASSAGES["tang"] and order == 4
    assert ladder.turned("tang", "mine", "my own")[:2] == ("mine", "my own")


@pytest.mark.parametrize("prompt", ["", " ", "你好", "\ud83d", "<img src=x onerror=alert(1)>", "\x00\x07", "مرحبا", "🐱" * 50, "x" * 3_000])
def test_any_beginning_is_continued_and_shown_as_what_it_is(prompt):
    *_, (last, summary) = climb(prompt=prompt, passage=prompt, settings=(3, *SETTINGS[1:]))
    assert all(column and "<img" not in column for column in last[:4])
    assert summary.count("<li>") == 4 if prompt else "the text is empty" in summary


@pytest.mark.parametrize(
    "wrong",
    [
        {"chosen": []},
        {"chosen": None},
        {"chosen": ["../etc"]},
        {"corpus": "mars"},
        {"pretrained": "org/evil"},
        {"order": "many"},
        {"prompt": "x" * 10_001},
        {"prompt": None},
        {"passage": "x" * 100_000},
        {"settings": ("x", *SETTINGS[1:])},
    ],
)
def test_what_is_wrong_is_told(wrong):
    with pytest.raises(gr.Error):
        list(climb(**wrong))
