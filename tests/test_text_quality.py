"""How the small language models are trained and judged: dropout, bfloat16, the form and rhyme of verse, copying."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from genkit import core, corpora, text
from genkit.text import evaluate, quality, race
from genkit.text.half import _whole, half
from genkit.text.model import character_tokenizer, network
from genkit.text.training import drop, encode

TINY = text.Config(corpus="python", n_layer=2, n_head=2, n_embd=96, context_length=16, batch_size=4, dropout=0.25, bf16=True)


@pytest.fixture
def tiny():
    return core.build(lambda: network(TINY, character_tokenizer("abcdefghi\n", 100)), seed=0)


@pytest.fixture
def variant(monkeypatch):
    monkeypatch.setitem(text.VARIANTS, "tiny", TINY)
    monkeypatch.setattr("genkit.text.training.SHOWN", 2)
    return "tiny"


# --- training


def test_dropout_is_on_while_training_and_off_otherwise(tiny):
    ids = torch.randint(0, 11, (2, 16), generator=core.seeded(1))
    plain = tiny.eval()(input_ids=ids).logits
    rng = drop(tiny, 0.25, core.device())
    assert torch.equal(tiny.eval()(input_ids=ids).logits, plain)
    tiny.train()
    drawn = []
    for seed in (7, 8, 7):
        rng.manual_seed(seed)
        drawn.append(tiny(input_ids=ids).logits)
    assert not torch.allclose(drawn[0], plain) and not torch.allclose(drawn[0], drawn[1]) and torch.equal(drawn[0], drawn[2])


def test_dropout_leaves_out_its_share_and_keeps_the_mean(tiny):
    seen = []
    drop(tiny, 0.25, core.device()).manual_seed(3)
    tiny.model.embed_tokens.register_forward_hook(lambda module, inputs, output: seen.append(output))
    torch.nn.init.ones_(tiny.model.embed_tokens.weight)
    tiny.train()(input_ids=torch.zeros(32, 16, dtype=torch.long))
    assert (seen[0] == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert seen[0].mean().item() == pytest.approx(1, abs=0.02) and seen[0].unique().numel() == 2


def test_without_dropout_a_model_gets_no_hooks(tiny):
    drop(tiny, 0.0, core.device())
    assert not any(module._forward_hooks for module in tiny.modules())


def test_a_resumed_run_with_dropout_equals_an_unbroken_one(variant, tmp_path):
    settings = {"steps": 2, "every": 1, "seed": 3}
    *_, whole = text.train(variant, **settings)
    for event in text.train(variant, checkpoint=tmp_path, **settings):
        if event.step == 1:
            break
    *_, resumed = text.train(variant, checkpoint=tmp_path, **settings)
    weights = resumed.model.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in whole.model.state_dict().items())


def test_dropout_changes_what_is_learnt_from_the_first_step_on(variant, monkeypatch):
    *_, dropped = text.train(variant, steps=1)
    monkeypatch.setitem(text.VARIANTS, variant, dataclasses.replace(TINY, dropout=0.0))
    *_, kept = text.train(variant, steps=1)
    assert not torch.equal(dropped.model.lm_head.weight, kept.model.lm_head.weight)


def test_attention_over_the_whole_square_is_the_fused_one():
    q, k, v = torch.randn(3, 2, 3, 10, 8, generator=core.seeded(2))
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
    assert torch.allclose(_whole(None, q, k, v, None, scaling=8**-0.5)[0], expected, atol=1e-5)


@pytest.mark.parametrize("quick", [True, False])
def test_half_precision_is_near_full_precision_and_ends_with_the_block(tiny, monkeypatch, quick):
    monkeypatch.setattr("genkit.swift.quick", lambda device: quick)  # every CPU can, if slowly
    ids, before = torch.randint(0, 11, (2, 16), generator=core.seeded(1)), tiny.config._attn_implementation
    full = tiny(input_ids=ids, use_cache=False).logits
    with half(tiny, torch.device("cpu")):
        inside = tiny(input_ids=ids, use_cache=False).logits
    assert torch.allclose(inside.float(), full, atol=0.05) and (inside.dtype == torch.bfloat16) == quick
    assert tiny.config._attn_implementation == before and not torch.is_autocast_enabled("cpu")
    assert torch.equal(tiny(input_ids=ids, use_cache=False).logits, full)


# --- verse


QUATRAIN = "白日依山尽，黄河入海流。欲穷千里目，更上一层楼。"  # Wang Zhihuan: 流 and 楼 are of one group
SEVEN = "朝辞白帝彩云间，千里江陵一日还。两岸猿声啼不住，轻舟已过万重山。"  # Li Bai
EIGHT = "国破山河在，城春草木深。感时花溅泪，恨别鸟惊心。烽火连三月，家书抵万金。白头搔更短，浑欲不胜簪。"  # Du Fu


@pytest.mark.parametrize(
    "poem, form", [(QUATRAIN, "五绝"), (SEVEN, "七绝"), (EIGHT, "五律"), (SEVEN + SEVEN, "七律"), (f"五绝·登鹳雀楼：{QUATRAIN}\n", "五绝")]
)
def test_a_form_is_kept_by_lines_characters_and_punctuation(poem, form):
    assert [each for each in quality.SHAPES if quality.keeps(poem, each)] == [form]


@pytest.mark.parametrize(
    "poem",
    [
        "",
        QUATRAIN[:-1],  # no stop at the end
        QUATRAIN + "白",
        QUATRAIN.replace("尽，", "尽。").replace("流。", "流，"),  # a pause where a stop belongs
        QUATRAIN.replace("黄河入海流", "黄河海流"),
        QUATRAIN.replace("白日依", "白日依依"),
        QUATRAIN.replace("白", "a"),
        QUATRAIN.replace("，", ","),
        QUATRAIN.replace("。", "。\n"),
        QUATRAIN + QUATRAIN,
    ],
)
def test_what_is_no_quatrain_is_not_taken_for_one(poem):
    assert not quality.keeps(poem, "五绝")


def test_lines_rhyme_by_the_old_tables_not_by_todays_sounds():
    assert quality.rhyming(QUATRAIN) and quality.rhyming(SEVEN) and quality.rhyming(EIGHT)
    assert quality.rhyming(QUATRAIN.replace("楼", "台")) is False
    assert quality.rhyming(QUATRAIN.replace("流", "东").replace("楼", "冬")) is False  # one sound today, two groups then
    assert quality.rhyming(QUATRAIN.replace("楼", "㐀")) is None and quality.rhyming("") is None
    assert quality.rhymes()["东"] == quality.rhymes()["東"] and len(frozenset.union(*quality.rhymes().values())) == 106


def test_copied_spans_are_counted_across_lines_without_heading_and_punctuation():
    assert list(quality.spans("五绝·题：一二三四五，六七八九十。")) == ["一二三四五六七八", "二三四五六七八九", "三四五六七八九十"]
    corpus = f"五绝·登鹳雀楼：{QUATRAIN}\n{SEVEN}\n"
    assert quality.copied([QUATRAIN, SEVEN], corpus) == 1
    assert quality.copied(["白日依山尽，黄河入甲乙。丙丁"], corpus) == pytest.approx(1 / 5)  # 白日依山尽黄河入 alone
    assert quality.copied(["甲乙丙丁戊，己庚辛壬癸。"], corpus) == 0 == quality.copied(["短"], corpus)
    assert quality.copied([QUATRAIN[-6:] + SEVEN], corpus) < 1  # no span of the corpus crosses from poem to poem


def test_the_verdict_counts_every_form_alike_and_rhymes_only_where_the_form_is_kept():
    found = quality.judge({"五绝": [QUATRAIN, "春", "夏", "秋"], "七绝": [SEVEN, SEVEN.replace("山。", "水。")]}, QUATRAIN)
    assert found.kept == {"五绝": 0.25, "七绝": 1.0} and found.form == 0.625 and found.n == 6
    assert (found.rhymed, found.judged) == (pytest.approx(2 / 3), 3) and found.copied == pytest.approx(13 / (13 + 2 * 21))


def test_poems_are_asked_for_by_the_titles_of_others():
    corpus = f"五绝·登鹳雀楼：{QUATRAIN}\n{SEVEN}\n七绝：{SEVEN}\n五古·题：{QUATRAIN}\n"
    assert quality.titled(corpus) == {"五绝": [f"五绝·登鹳雀楼：{QUATRAIN}"], "七绝": [], "五律": [], "七律": []}
    poet = text.load("gpt-tang")
    made = quality.requested(poet, quality.titled(corpus), 0.5)
    assert made == quality.requested(poet, quality.titled(corpus), 0.5) and len(made["五绝"]) == 1 and not made["七绝"]
    assert quality.verses(made["五绝"][0]) and "登鹳雀楼" not in made["五绝"][0]


# --- the race


def test_both_runners_learn_by_the_clock_and_their_rates_rise_and_fall():
    corpus = corpora.corpus("python")[:20_000]
    tokenizer = character_tokenizer(corpus, 100)
    learn, held_out = (encode(tokenizer, part) for part in corpora.split(corpus))
    for runner in (race.ours(tokenizer), race.nano(tokenizer)):
        before = text.validation(runner.model.eval(), held_out)
        end = race.run(runner, learn, held_out, seconds=2)
        assert end.loss < before and end.steps >= 1 and end.seconds >= 2 and end.tokens == end.steps * runner.batch_size * runner.context
        rates = [runner.pace(1000, passed / 100) for passed in range(100)]
        assert max(rates) == pytest.approx(1, abs=0.02) and rates[-1] < 0.12 and runner.pace(0, 0.0) < 0.1


def test_nanogpts_settings_are_those_of_its_readme():
    runner = race.nano(character_tokenizer(corpora.corpus("python"), 65))
    shape = runner.model.config
    assert (shape.n_layer, shape.n_head, shape.n_embd, shape.n_positions, runner.batch_size, runner.context) == (4, 4, 128, 64, 12, 64)
    assert (shape.resid_pdrop, shape.embd_pdrop, shape.attn_pdrop) == (0, 0, 0)
    assert (
        runner.optimizers[0].defaults["betas"] == (0.9, 0.99)
        and runner.lr == 1e-3
        and runner.pace(99, 0.0) == 1
        and runner.pace(5000, 1.0) == pytest.approx(0.1)
    )


def test_without_a_corpus_the_report_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(evaluate, "VARIANTS", {"gpt-mini": text.VARIANTS["gpt-mini"], "gpt-tang": text.VARIANTS["gpt-tang"]})
    monkeypatch.delenv("GENKIT_DATA_DIR", raising=False)
    monkeypatch.setattr(corpora, "_hub", lambda name, download: None)
    monkeypatch.setattr(evaluate, "promises", lambda options: iter(()))  # it trains for minutes, on a text that is always here
    corpora._corpus.cache_clear()
    lines = list(evaluate.report(SimpleNamespace(train=True, download=False, n=1, seed=0)))
    assert len(lines) == 4 and sum("shakespeare is not here" in line for line in lines) == 2 and sum("tang is not here" in line for line in lines) == 2
    assert all("GENKIT_DATA_DIR" in line for line in lines)
