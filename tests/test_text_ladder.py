"""The rungs of the ladder: counting, a hidden Markov model, an LSTM - what they learn, and that all that writes with a transformer writes with them."""

import json
from math import log

import numpy as np
import pytest
import torch
from transformers import pipeline

from genkit import core, text
from genkit.core import Problem
from genkit.text import Config, hmm, ngram, rung, sampling
from genkit.text.model import character_tokenizer
from genkit.text.own import Parts
from genkit.text.training import encode

WORDS = "abracadabra, abracadabra! a cab ran a crab.\n"
SMALL = Parts(WORDS * 6, WORDS, WORDS)
RUNGS = {arch: Config("python", arch, n_layer=1, n_embd=48, n_states=12, context_length=32, lr=0.02) for arch in ("ngram", "hmm", "lstm")}


@pytest.fixture(scope="module", autouse=True)
def small():
    """Small ones of each that train() knows by the name of their kind."""
    with pytest.MonkeyPatch.context() as patch:
        for arch, config in RUNGS.items():
            patch.setitem(text.VARIANTS, arch, config)
        yield


@pytest.fixture(scope="module")
def runs(small):
    """Three steps of each on a few words."""
    return {variant: list(text.train(variant, steps=3, every=1, batch_size=4, corpus=SMALL, seed=1)) for variant in RUNGS}


@pytest.fixture(params=RUNGS)
def model(request, runs):
    return runs[request.param][-1].model


def counted(letters: str, order: int = 6):
    """An n-gram that has learnt these letters."""
    tokenizer = character_tokenizer(letters + "\n", 100)
    model = ngram.Ngram(ngram.NgramConfig(vocab_size=len(tokenizer), order=order))
    model.tokenizer = tokenizer
    ngram.count(model, encode(tokenizer, letters))
    return model, lambda characters: encode(tokenizer, characters).tolist()


# --- one interface


def test_a_text_read_token_by_token_or_at_once_gives_the_same(model):
    ids, memory = encode(model.tokenizer, WORDS)[None], None
    whole = model(input_ids=ids).logits
    for i in range(ids.shape[1]):
        out = model(input_ids=ids[:, i : i + 1], past_key_values=memory, use_cache=True, logits_to_keep=1)
        memory = out.past_key_values
        assert memory.get_seq_length() == i + 1 and torch.allclose(out.logits[:, 0], whole[:, i], atol=1e-4)
    assert whole.shape == (1, len(WORDS), len(model.tokenizer))
    assert torch.allclose(model(input_ids=ids, logits_to_keep=3).logits, whole[:, -3:], atol=1e-5)


def test_rows_of_a_batch_do_not_know_of_one_another(model):
    ids = encode(model.tokenizer, WORDS)[:40].view(4, 10)
    together = model(input_ids=ids)
    alone = [model(input_ids=row[None]) for row in ids]
    assert torch.allclose(together.logits, torch.cat([each.logits for each in alone]), atol=1e-4)
    turned = together.past_key_values.reorder_cache(torch.tensor([2, 0]))
    after = model(input_ids=torch.tensor([[3], [3]]), past_key_values=turned).logits
    assert torch.allclose(after[0], model(input_ids=torch.tensor([[3]]), past_key_values=alone[2].past_key_values).logits[0], atol=1e-4)


def test_a_batch_with_padding_is_refused(model):
    with pytest.raises(ValueError, match="one length"):
        model(input_ids=torch.tensor([[0, 1]]), attention_mask=torch.tensor([[0, 1]]))


def test_the_chances_sum_to_1_after_anything(model):
    for prompt in ("", "abra", "zzz\U0001f600", WORDS * 9):
        logits, _ = sampling.step(model, text.fit(model, prompt)[0])
        assert logits.softmax(-1).sum().item() == pytest.approx(1) and len(logits) == len(model.tokenizer)
    assert len(list(text.next_tokens(model, "abr", k=5).candidates)) == 5


def test_learning_lowers_the_loss_and_leaves_a_preview(runs):
    for events in runs.values():
        assert [event.step for event in events] == [0, 1, 2, 3] and events[0].metrics == {} and all(event.preview for event in events)
        assert events[-1].metrics["loss"] < events[1].metrics["loss"] and events[-1].metrics["loss_val"] < log(20)


def test_a_saved_rung_writes_the_same_and_transformers_opens_it(model, tmp_path):
    text.save(model, tmp_path / "saved")
    again, settings = text.load(tmp_path / "saved"), {"max_new_tokens": 30, "temperature": 0}
    (*_, first), (*_, second) = (text.sample(each, "a c", **settings) for each in (model, again))
    assert first == second and len(first) == 30 and not again.training and again.num_parameters() == model.num_parameters()
    answer = pipeline("text-generation", str(tmp_path / "saved"))("\na c", max_new_tokens=30, do_sample=False)
    assert answer[0]["generated_text"] == "\na c" + first


@pytest.mark.parametrize("change", [{"vocab_size": 7}, {"order": 99}, {"n_tokens": 3}, {"n_states": 5}, {"hidden_size": 8}, {"num_hidden_layers": 2}])
def test_a_folder_whose_numbers_do_not_fit_its_weights_is_refused(model, tmp_path, change):
    text.save(model, tmp_path / "saved")
    file = tmp_path / "saved" / "config.json"
    config = json.loads(file.read_text())
    if not change.keys() <= config.keys():
        assert text.load(tmp_path / "saved").config.model_type == config["model_type"]
        return
    file.write_text(json.dumps({**config, **change}))
    with pytest.raises(Problem, match="damaged"):
        text.load(tmp_path / "saved")


def test_the_memory_of_a_reader_is_replaced_and_never_changed(model):
    before = model(input_ids=torch.tensor([[1, 2, 3]])).past_key_values
    kept = [tensor.clone() for tensor in before.tensors]
    model(input_ids=torch.tensor([[2]]), past_key_values=before)
    assert isinstance(before, rung.Memory) and all(torch.equal(a, b) for a, b in zip(kept, before.tensors, strict=True))


# --- counting


def test_the_chances_of_a_toy_text_are_those_worked_out_by_hand():
    model, ids = counted("abcabd", order=2)  # V: <unk>, \n, a, b, c, d
    assert len(model.tokenizer) == 6
    # too few counts to estimate discounts: 0.5 off a count of 1, 0.75 off a count of 2
    # order 1, after how many different tokens: a 1 (c; the first has none before it), b 1, c 1, d 1: 0.5 left of each, the other half shared by all six
    first = {token: (0.5 if token in "abcd" else 0) / 4 + 4 * 0.5 / 4 / 6 for token in "abcd\n"}
    # order 2: a was followed by b twice; b by c and by d, once each
    after = lambda context: model(input_ids=torch.tensor([ids(context)])).logits[0, -1].exp()  # noqa: E731
    chances = after("a")
    assert chances[ids("b")].item() == pytest.approx((2 - 0.75) / 2 + 0.75 / 2 * first["b"])
    assert chances[ids("c")].item() == pytest.approx(0.75 / 2 * first["c"])
    assert after("b")[ids("d")].item() == pytest.approx((1 - 0.5) / 2 + 2 * 0.5 / 2 * first["d"])
    assert after("d")[ids("a")].item() == pytest.approx(first["a"])  # nothing follows the end: the order below decides alone
    assert after("\n")[ids("\n")].item() == pytest.approx(first["\n"])


def test_discounts_follow_the_formula_of_chen_and_goodman():
    letters = "".join(np.random.default_rng(0).choice(list("abcdefgh"), 3000, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.06, 0.03, 0.01]))
    index = counted(letters)[0].index()
    often = {}
    for i in range(len(letters) - 4):
        often[letters[i : i + 5]] = often.get(letters[i : i + 5], 0) + 1
    n = [sum(count == k for count in often.values()) for k in (1, 2, 3, 4)]
    n[0] += 4  # the four ends, shorter than five letters
    y = n[0] / (n[0] + 2 * n[1])
    assert index.discounts(5, True).tolist() == pytest.approx([1 - 2 * y * n[1] / n[0], 2 - 3 * y * n[2] / n[1], 3 - 4 * y * n[3] / n[2]])


@pytest.mark.parametrize("order", range(1, 9))
def test_every_order_gives_chances_that_sum_to_1(order):
    model, ids = counted(WORDS * 3, order=3)
    chances = ngram.of_order(model, order)(input_ids=torch.tensor([ids("a crabzzabracadabra, a")])).logits.exp()
    assert chances.sum(-1).tolist() == [pytest.approx([1.0] * 22, abs=1e-5)] and chances.min() > 0
    assert model.config.order == 3


def test_places_are_found_by_the_tokens_that_stand_there():
    letters = "".join(np.random.default_rng(1).choice(list("abc"), 400))
    index = ngram.Index(np.frombuffer(letters.encode(), np.uint8).astype(np.int64) - 96, 4)
    for n in range(9):
        for at in (0, 7, 200, 400 - n):
            gram = letters[at : at + n]
            low, high = index.find(np.array([[ord(c) - 95 for c in gram]], dtype=np.int64).reshape(1, n))
            expected = [i for i in range(400) if letters.startswith(gram, i)]
            assert sorted(index.places[low[0] : high[0]].tolist()) == expected
            kinds = {letters[i - 1] for i in expected if i}
            if 0 < n < 8:
                which = np.searchsorted(index.starts(n), low.astype(np.int32))
                assert index.counts(n)[which] == len(expected) and index.kinds(n)[which] == max(1, len(kinds))


def test_the_reasons_are_the_counts_of_every_order_and_their_weights():
    model, ids = counted("the cat sat on the mat. the cat ran.", order=5)
    orders = ngram.counts(model, ids("a the cat"), k=2)
    assert [order.n for order in orders] == [5, 4, 3, 2, 1]
    assert [model.tokenizer.decode(list(order.context)) for order in orders] == [" cat", "cat", "at", "t", ""]
    assert [order.count for order in orders] == [2, 2, 4, 7, 36]
    assert [(model.tokenizer.decode([token]), times) for token, times in orders[0].followers] == [(" ", 2)]
    sat = dict(ngram.counts(model, ids("at"), k=9)[0].followers)
    assert sat[ids(" ")[0]] == 3 and sat[ids(".")[0]] == 1
    rest = 1 - sum(order.weight for order in orders)
    assert 0 < rest < 0.05 and all(order.weight > 0 for order in orders)


def test_the_places_show_what_stands_around_them():
    model, ids = counted("the cat sat on the mat. the cat ran.", order=5)
    many, places = ngram.places(model, ids("zz cat"), around=4)
    assert many == 2 and [place.at for place in places] == [3, 27]
    decode = lambda tokens: model.tokenizer.decode(list(tokens))  # noqa: E731
    assert [(decode(place.before), decode(place.context), decode(place.after)) for place in places] == [("the", " cat", " sat"), (" the", " cat", " ran")]
    assert ngram.places(model, ids("zzz")) == (0, []) and len(ngram.places(model, ids("t"), n=3)[1]) == 3


def test_an_empty_corpus_makes_all_tokens_equal():
    model, ids = counted("")
    assert model(input_ids=torch.tensor([[1]])).logits.exp().unique().tolist() == pytest.approx([0.5]) and model.num_parameters() == 0


# --- hidden states


@pytest.fixture
def states():
    """An HMM, and hmmlearn's with the same chances."""
    from hmmlearn.hmm import CategoricalHMM

    model = core.build(lambda: hmm.Hmm(hmm.HmmConfig(vocab_size=5, n_states=3)), 4)
    theirs = CategoricalHMM(3, n_features=5, init_params="", n_iter=1, tol=-np.inf)
    chances = [part.double().numpy() for part in model.chances()]
    theirs.startprob_, theirs.transmat_, theirs.emissionprob_ = (part / part.sum(-1, keepdims=True) for part in chances)
    return model, theirs, torch.randint(5, (7, 30), generator=core.seeded(1))


def test_one_iteration_of_baum_welch_is_that_of_hmmlearn(states):
    model, theirs, x = states
    loss = -theirs.score(x.view(-1, 1).numpy(), [30] * 7) / x.numel()
    for prior in (0.0, 0.5):
        theirs.startprob_prior = theirs.transmat_prior = theirs.emissionprob_prior = 1 + prior
        theirs.fit(x.view(-1, 1).numpy(), [30] * 7)
        found = hmm.improve(model, x, prior)
        assert prior or found == pytest.approx(loss, rel=1e-5)
        for ours, other in zip(model.chances(), (theirs.startprob_, theirs.transmat_, theirs.emissionprob_), strict=True):
            assert np.allclose(ours.numpy(), other, atol=1e-5)


def test_every_iteration_makes_the_texts_likelier(states):
    model, _, x = states
    losses = [hmm.improve(model, x, prior=0.0) for _ in range(8)]
    assert losses == sorted(losses, reverse=True) and losses[0] - losses[-1] > 0.01


def test_the_path_and_the_chances_of_each_state_are_those_of_hmmlearn(states):
    model, theirs, x = states
    path, chances = hmm.path(model, x[0].tolist())
    assert path == theirs.predict(x[0].view(-1, 1).numpy()).tolist()
    assert np.allclose(chances.numpy(), theirs.predict_proba(x[0].view(-1, 1).numpy()), atol=1e-5)


def test_filtering_gives_the_likelihood_of_the_whole(states):
    model, theirs, x = states
    start, _, emission = model.chances()
    logs = model(input_ids=x[:1]).logits[0, :-1].gather(1, x[0, 1:, None]).sum() + (start @ emission)[x[0, 0]].log()
    assert logs.item() == pytest.approx(theirs.score(x[0].view(-1, 1).numpy()), rel=1e-4)


def test_a_run_of_baum_welch_goes_on_where_it_stopped(tmp_path):
    settings = {"steps": 4, "every": 2, "corpus": SMALL}
    *_, whole = text.train("hmm", **settings)
    next(events := text.train("hmm", checkpoint=tmp_path, **settings))
    assert next(events).step == 2
    resumed = list(text.train("hmm", checkpoint=tmp_path, **settings))
    assert [event.step for event in resumed] == [2, 4]
    assert torch.allclose(resumed[-1].model.emission, whole.model.emission, atol=1e-4)
