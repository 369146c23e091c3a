"""How the small language models are trained and judged: dropout, bfloat16, the form and rhyme of verse, copying."""

import dataclasses

import pytest
import torch

from genkit import core, text
from genkit.text.half import _whole, half
from genkit.text.model import character_tokenizer, network
from genkit.text.training import drop

TINY = text.Config(corpus="python", n_layer=2, n_head=2, n_embd=96, context_length=16, batch_size=4, dropout=0.25, bf16=True)


@pytest.fixture
def tiny():
    return core.build(lambda: network(TINY, character_tokenizer("abcdefghi\n", 100)), seed=0)


@pytest.fixture
def variant(monkeypatch):
    monkeypatch.setitem(text.VARIANTS, "tiny", TINY)
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
    settings = {"steps": 4, "every": 2, "seed": 3}
    *_, whole = text.train(variant, **settings)
    for event in text.train(variant, checkpoint=tmp_path, **settings):
        if event.step == 2:
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
    monkeypatch.setattr("genkit.text.half.quick_at_it", lambda device: quick)  # every CPU can, if slowly
    ids, before = torch.randint(0, 11, (2, 16), generator=core.seeded(1)), tiny.config._attn_implementation
    full = tiny(input_ids=ids, use_cache=False).logits
    with half(tiny, torch.device("cpu")):
        inside = tiny(input_ids=ids, use_cache=False).logits
    assert torch.allclose(inside.float(), full, atol=0.05) and (inside.dtype == torch.bfloat16) == quick
    assert tiny.config._attn_implementation == before and not torch.is_autocast_enabled("cpu")
    assert torch.equal(tiny(input_ids=ids, use_cache=False).logits, full)
