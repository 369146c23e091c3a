"""Writing quickly: the bare way through a model gives what transformers gives, in float32 and in 8 bits, and readers who share a model do not feel one another."""

import copy
import gc
import os
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
import torch
from transformers import (
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from genkit import core, text
from genkit.text import eight, fast, kernel, machine, readers, sampling
from genkit.text.model import character_tokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz\n"
SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
KINDS = {"llama": (LlamaForCausalLM, LlamaConfig), "qwen2": (Qwen2ForCausalLM, Qwen2Config), "qwen3": (Qwen3ForCausalLM, Qwen3Config)}


def tiny(kind: str = "llama", context: int = 64):
    """An untrained model of letters. Its matrices are large enough that it prefers some of them."""
    tokenizer = character_tokenizer(LETTERS, 100)
    if kind == "gpt2":
        config = GPT2Config(vocab_size=len(tokenizer), n_embd=64, n_layer=2, n_head=4, n_positions=context, bos_token_id=1, eos_token_id=None)
        model = core.build(lambda: GPT2LMHeadModel(config), 0)
    else:
        network, config = KINDS[kind]
        config = config(
            vocab_size=len(tokenizer), head_dim=16, max_position_embeddings=context, tie_word_embeddings=True, bos_token_id=1, eos_token_id=None, **SIZES
        )
        model = core.build(lambda: network(config), 0)
    for name, tensor in model.named_parameters():
        if tensor.ndim == 2:
            tensor.data.mul_(6)
        elif name.endswith("bias"):
            tensor.data.normal_(generator=core.seeded(1))
    model.generation_config = GenerationConfig(bos_token_id=1, suppress_tokens=[tokenizer.unk_token_id])
    model.tokenizer = tokenizer
    return model.eval()


@pytest.fixture
def model():
    return tiny()


def ids_of(model, prompt: str) -> list[int]:
    return text.fit(model, prompt)[0]


@torch.inference_mode()
def expected(model, ids: list[int]) -> torch.Tensor:
    """Logits (T, V) by transformers' own forward."""
    return model(input_ids=torch.tensor([ids])).logits[0]


def greedy(model, prompt: str, n: int) -> str:
    """The likeliest continuation, by transformers' own forward over the whole text each time; a full context keeps its last three quarters."""
    ids, window = ids_of(model, prompt), ids_of(model, prompt)
    for _ in range(n):
        if len(window) > model.config.max_position_embeddings:
            window = ids[-int(0.75 * model.config.max_position_embeddings) :]
        token = 1 + int(expected(model, window)[-1, 1:].argmax())  # never <unk>, which is token 0
        ids, window = [*ids, token], [*window, token]
    return model.tokenizer.decode(ids[-n:])


def write(model, prompt: str, n: int = 12, **settings) -> str:
    return "".join(piece for piece, _ in text.pieces(model, prompt, max_new_tokens=n, **settings))


# --- one text


@pytest.mark.parametrize("kind", KINDS)
def test_the_bare_way_gives_the_logits_of_transformers(kind):
    model = tiny(kind)
    ids = ids_of(model, "the quick brown fox")
    whole = expected(model, ids)
    assert torch.allclose(fast.forward(model, [(ids, fast.Cache(model))], every=True), whole, atol=1e-3)
    cache = fast.Cache(model)
    parts = [fast.forward(model, [(part, cache)], every=True) for part in (ids[:1], ids[1:7], ids[7:8], ids[8:])]
    assert torch.allclose(torch.cat(parts), whole, atol=1e-3) and cache.get_seq_length() == len(ids)
    cache.crop(5)
    assert torch.allclose(fast.forward(model, [(ids[5:], cache)])[0], whole[-1], atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_8_bits_a_weight_change_the_chances_little(kind):
    model = tiny(kind)
    ids = ids_of(model, "the quick brown fox jumps")
    whole = expected(model, ids)
    model.quick = eight.Eight(model)
    cache = fast.Cache(model)
    small = torch.cat([fast.forward(model, [(part, cache)], every=True) for part in (ids[:9], ids[9:10], ids[10:])])
    assert lost(whole, small) < 0.01 and whole.std() > 0.3
    assert torch.equal(expected(model, ids), whole)  # who looks inside finds what was there


@pytest.mark.parametrize("bits", [8, 4])
def test_a_packed_matrix_gives_the_products_of_the_numbers_in_it(bits):
    rng = core.seeded(bits)
    rows, width = 40, 96  # two panels and a half of 16 rows, three blocks of 32 numbers
    steps = torch.randint(0, 16, (rows, width), generator=rng)
    steps[:, ::32], steps[:, 1::32] = 0, 15
    weight = steps * 0.25 - 1.625 if bits == 4 else torch.randn(rows, width, generator=rng)
    x = torch.randint(-127, 128, (11, width), generator=rng).float()
    x[:, ::32] = 127  # nothing of it is rounded
    assert eight.on_grid(weight) == (bits == 4)
    numbers, scales = eight.packed([weight], bits)
    assert numbers.nbytes == 48 * width * bits // 8
    matrix = np.array([numbers.ctypes.data, scales.ctypes.data, len(numbers), numbers.shape[1], bits])
    none, made, counter = np.empty(0, np.float32), np.zeros((11, rows), np.float32), np.zeros(2, np.int64)
    own = kernel.own(11, width)
    kernel.multiplied(counter.ctypes.data, 5, matrix, x.numpy(), none, np.float32(0), none, made, kernel.PUT, own)
    error = np.abs(made - (x @ weight.T).numpy()).max()
    assert error < 1e-2 if bits == 4 else 0 < error < 0.02 * np.abs(made).max()


@pytest.mark.parametrize("vnni", sorted({False, machine.VNNI}))
def test_with_and_without_the_instruction_for_bytes_four_products_are_summed(monkeypatch, vnni):
    monkeypatch.setattr(machine, "VNNI", vnni)

    @numba.njit
    def run(m, *addresses):
        machine.multiply(m, 8, *addresses, 1)

    rng = np.random.default_rng(0)
    w = rng.integers(0, 256, (8, 16, 4), dtype=np.uint8)
    for m in machine.AT_ONCE:
        x = rng.integers(-127, 128, (m, 8, 1, 4), dtype=np.int8)
        scales, ones, sums, made = np.ones(16, np.float16), np.ones(m, np.float32), -128 * x.sum((1, 2, 3)).astype(np.int32), np.full((m, 16), 7, np.float32)
        run(m, *(array.ctypes.data for array in (w, scales, x, ones, sums, made)))
        assert (made - 7).tolist() == ((w.astype(int) - 128) * x).sum((1, 3)).tolist()


def test_machine_code_is_made_afresh_when_what_it_is_made_of_changes(tmp_path):
    source, kept, other = (tmp_path / name for name in ("machine.py", "kernel.go-1.nbi", "other.go-1.nbi"))
    for age, file in ((20, source), (10, kept), (30, other)):
        file.touch()
        os.utime(file, (time.time() - age,) * 2)
    kernel.forget(tmp_path, source)
    assert kept.exists()
    os.utime(source)
    kernel.forget(tmp_path, source)
    assert not kept.exists() and other.exists()


def lost(whole: torch.Tensor, small: torch.Tensor) -> float:
    """Mean Kullback-Leibler divergence of chances, in nats a token."""
    return (whole.softmax(-1) * (whole.log_softmax(-1) - small.log_softmax(-1))).sum(-1).mean().item()


def test_in_8_bits_texts_side_by_side_are_those_alone():
    model = tiny()
    model.quick = eight.Eight(model)
    prompts = [ids_of(model, prompt) for prompt in ("a", "the quick brown fox", "you jumped", "over the lazy dog")]
    caches = [fast.Cache(model) for _ in prompts]
    alone = [fast.Cache(model) for _ in prompts]
    for ids, cache, other in zip(prompts, caches, alone, strict=True):
        fast.forward(model, [(ids, cache), (ids, other)])
    # who takes part in each turn: all, some, one, one who was away, one whose text was cut, one who is new
    for turn in ([0, 1, 2, 3], [0, 1, 3], [2], [0, 1, 2, 3], [1, 3], [1, 3], [0, 2], "cut", [0, 1, 2, 3], "gone", [0, 1, 2, 3], [3], [0, 3]):
        if turn == "cut":
            caches[1].crop(4), alone[1].crop(4)
        elif turn == "gone":
            caches[2] = fast.Cache(model)
            alone[2] = fast.Cache(model)
            fast.forward(model, [([5, 6], caches[2])])
            fast.forward(model, [([5, 6], alone[2])])
        else:
            together = fast.forward(model, [([3 + i], caches[i]) for i in turn])
            for i, row in zip(turn, together, strict=True):
                assert torch.allclose(fast.forward(model, [([3 + i], alone[i])])[0], row, atol=1e-3)
                assert caches[i].get_seq_length() == alone[i].get_seq_length()


def test_in_8_bits_long_texts_grow_beyond_the_room_they_had():
    model = tiny(context=512)
    model.quick = eight.Eight(model)
    caches = [fast.Cache(model) for _ in range(6)]
    for i, cache in enumerate(caches):
        fast.forward(model, [([1 + i] * (250 + i), cache)])
    for _ in range(12):
        rows = fast.forward(model, [([7], cache) for cache in caches])
    whole = torch.stack([expected(model, [1 + i] * (250 + i) + [7] * 12)[-1] for i in range(6)])
    assert lost(whole, rows) < 0.01 and min(cache.room() for cache in caches) > 256


def test_what_is_large_is_computed_in_8_bits_if_that_is_faster_and_possible(monkeypatch):
    monkeypatch.setattr(fast, "LARGE", 0)
    for quicker in (True, False):
        monkeypatch.setattr(fast, "faster", lambda *engines, quicker=quicker: quicker)
        model = tiny()
        fast.quicken(model)
        assert isinstance(fast.engine(model), eight.Eight if quicker else fast.Plain)
    monkeypatch.setattr(fast, "faster", lambda *engines: True)
    monkeypatch.setattr(eight, "ROPES", ())
    model = tiny()
    fast.quicken(model)
    assert isinstance(fast.engine(model), fast.Plain)


def test_the_faster_way_is_found_by_trying(model):
    class Slow(fast.Plain):
        def forward(self, *arguments):
            time.sleep(0.05)
            return super().forward(*arguments)

    assert fast.faster(model, fast.Plain(model), Slow(model)) and not fast.faster(model, Slow(model), fast.Plain(model))


def test_small_models_stay_as_they_are(model):
    fast.quicken(model)
    assert getattr(model, "quick", None) is None


def test_a_copy_of_a_model_is_computed_with_its_own_weights(model):
    before = write(model, "abc", temperature=0)
    other = copy.deepcopy(model)
    other.lm_head.weight.data.copy_(other.lm_head.weight.flip(0))
    assert write(other, "abc", temperature=0) == greedy(other, "abc", 12)
    assert write(model, "abc", temperature=0) == before


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_writing_beyond_the_context_is_what_transformers_writes(kind):
    model = tiny(kind, context=32)
    assert write(model, "once upon a time", 60, temperature=0) == greedy(model, "once upon a time", 60)


def test_a_long_prompt_is_read_in_parts(model, monkeypatch):
    whole = write(model, "the quick brown fox jumps", 8, temperature=0)
    monkeypatch.setattr(readers, "ROWS", 3)
    readers.table(model).shelf.clear()
    assert write(model, "the quick brown fox jumps", 8, temperature=0) == whole == greedy(model, "the quick brown fox jumps", 8)


@pytest.mark.parametrize("top_p", [0, 0.3, 0.9, 0.9999])
def test_top_p_is_the_same_wherever_it_looks_first(monkeypatch, top_p):
    logits = torch.randn(200, generator=core.seeded(3)) * 2
    found = []
    for first in (1, 7, 1000):
        monkeypatch.setattr(sampling, "NUCLEUS", first)
        found.append(sampling.probabilities(logits, 1.0, top_p=top_p))
    assert torch.allclose(found[0], found[2], atol=1e-6) and torch.allclose(found[1], found[2], atol=1e-6)
    assert 1 <= int((found[2] > 0).sum()) < 200


# --- several readers


def test_a_batch_of_texts_gives_the_logits_of_each_alone(model):
    prompts = [ids_of(model, prompt) for prompt in ("a", "the quick brown fox", "you", "over the lazy dog")]
    together = fast.forward(model, [(ids, fast.Cache(model)) for ids in prompts])
    for ids, row in zip(prompts, together, strict=True):
        assert torch.allclose(row, expected(model, ids)[-1], atol=1e-3)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_readers_who_come_and_go_at_any_time_read_what_they_would_alone(kind):
    model = tiny(kind)
    jobs = [(LETTERS[i : i + 3 * i + 1], 5 + 7 * i % 40, {"temperature": 0.0 if i % 2 else 0.9, "seed": i}) for i in range(8)]
    alone = [write(model, prompt, n, **settings) for prompt, n, settings in jobs]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda job: write(model, job[0], job[1], **job[2]), jobs)) == alone
    assert len(set(alone)) == 8 and not readers.table(model).readers


def test_who_reads_together_shares_the_turns(model, monkeypatch):
    turns, forward = [], fast.forward
    monkeypatch.setattr(fast, "forward", lambda model, texts: turns.append(len(texts)) or forward(model, texts))
    streams = [text.pieces(model, "abc", max_new_tokens=20, seed=seed) for seed in range(6)]
    for stream in streams:
        next(stream)
    for _ in range(19):
        for stream in streams:
            next(stream)
    assert sum(turns) == 6 * 20 and len(turns) < 40 and max(turns) == 6


def test_a_slow_reader_and_one_who_is_gone_hold_nobody_up(model):
    slow = text.pieces(model, "abc", max_new_tokens=50)
    next(slow)
    gone = text.pieces(model, "abc", max_new_tokens=50)
    next(gone)
    del gone
    assert write(model, "xyz", 30, temperature=0) == greedy(model, "xyz", 30)
    (waiting,) = readers.table(model).readers
    assert len(waiting.made) <= readers.AHEAD
    assert len("".join(piece for piece, _ in slow)) == 49


def test_beyond_the_places_there_is_a_line_and_who_leaves_makes_room(model, monkeypatch):
    monkeypatch.setattr(readers, "SLOTS", 2)
    first, second = (text.pieces(model, "abc", max_new_tokens=50, seed=seed) for seed in range(2))
    next(first), next(second)
    read = threading.Event()
    third = threading.Thread(target=lambda: write(model, "xyz", 5) and read.set())
    third.start()
    assert not read.wait(0.6) and sum(reader.cache is not None for reader in readers.table(model).readers) == 2
    first.close()
    assert read.wait(30)
    third.join()
    second.close()
    assert not readers.table(model).readers


def test_a_place_that_nobody_reads_at_is_given_away_and_the_text_goes_on_later(model, monkeypatch):
    monkeypatch.setattr(readers, "SLOTS", 1)
    monkeypatch.setattr(readers, "PATIENCE", 0.0)
    whole = write(model, "abc", 30, seed=3)
    asleep = text.pieces(model, "abc", max_new_tokens=30, seed=3)
    begun = next(asleep)[0]
    (sleeper,) = readers.table(model).readers
    sleeper.made.extend([(0, 0.0)] * readers.AHEAD)  # as many as are made ahead
    assert write(model, "xyz", 10, temperature=0) == greedy(model, "xyz", 10) and sleeper.cache is None
    sleeper.made.clear()
    assert begun + "".join(piece for piece, _ in asleep) == whole


def test_little_memory_makes_readers_take_turns(model, monkeypatch):
    alone = [write(model, "abc", 20, seed=seed) for seed in range(3)]
    monkeypatch.setattr(readers, "MEMORY", 30 * fast.bytes_of(model))  # one text of 24 tokens
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda seed: write(model, "abc", 20, seed=seed), range(3))) == alone
    assert sum(len(ids) for ids, _ in readers.table(model).shelf) <= 30


@pytest.mark.parametrize("where", ["choosing", "computing"])
def test_a_text_that_fails_does_so_alone(model, monkeypatch, where):
    forward, draw = fast.forward, sampling.draw
    bad = model.tokenizer.get_vocab()["z"]

    def computing(model, texts):
        if any(bad in ids for ids, _ in texts):
            raise RuntimeError("computing")
        return forward(model, texts)

    def choosing(probs, rng):
        if rng.initial_seed() == 9:
            raise RuntimeError("choosing")
        return draw(probs, rng)

    alone = write(model, "abc", 20, temperature=0)
    prompt = "z" if where == "computing" else "a"
    good = text.pieces(model, "abc", max_new_tokens=20, temperature=0)
    begun = next(good)[0]
    monkeypatch.setattr(fast, "forward", computing)
    monkeypatch.setattr(sampling, "draw", choosing)
    with pytest.raises(RuntimeError, match=where):
        write(model, prompt, 20, seed=9)
    monkeypatch.setattr(fast, "forward", forward)
    assert begun + "".join(piece for piece, _ in good) == alone
    assert not readers.table(model).readers


@pytest.mark.parametrize("bits", [32, 8])
def test_no_reader_and_no_cache_keeps_a_model_in_memory(bits):
    model = tiny()
    if bits == 8:
        model.quick = eight.Eight(model)
    write(model, "abc", 5)
    text.next_tokens(model, "abcdef")
    stream = text.pieces(model, "abc", max_new_tokens=50)
    next(stream)
    known = weakref.ref(model)
    stream.close()
    del model, stream
    gc.collect()
    assert known() is None


# --- while typing


def test_while_typing_only_what_is_new_is_read(model, monkeypatch):
    fed, forward = [], fast.forward
    monkeypatch.setattr(fast, "forward", lambda model, texts: fed.append(len(texts[0][0])) or forward(model, texts))
    for prompt in ("the quick brow", "the quick brown", "the quick brown f", "the quick red", "the quick red"):
        chances = text.next_tokens(model, prompt).candidates
        own = expected(model, ids_of(model, prompt))[-1, 1:].softmax(-1)
        assert [each.model for each in chances] == pytest.approx(own.sort(descending=True).values[:10].tolist(), abs=1e-4)
    assert fed == [15, 1, 2, 3, 1]


def test_only_a_few_texts_are_remembered(model):
    for letter in LETTERS[:10]:
        text.next_tokens(model, letter * 20)
    assert len(readers.table(model).shelf) == readers.KEPT
