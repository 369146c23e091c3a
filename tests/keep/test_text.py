"""Language models go out and come back, every kind of them; nothing else comes in; the code on the page trains and writes the same again."""

import json
import re
import runpy

import pytest
import torch

from demos.text import keep as text_keep
from demos.text import learn, material
from genkit import core, keep, runs, text
from genkit.core import Problem
from genkit.text import Config, foreign, training
from genkit.text.model import character_tokenizer, network
from tests.keep.conftest import zip_of
from tests.test_text_learn import SECRET, ended

LETTERS = "abcdefgh \n天地人"
TINY = {
    "gpt": {"n_layer": 1, "n_head": 2, "n_embd": 16},
    "lstm": {"n_layer": 1, "n_embd": 16},
    "hmm": {"n_states": 4},
    "ngram": {"order": 3},
}
VALUES = ["ab", "gpt-mini", 12, 0.8, 0, 1.0, 1.0, 7]  # of the tab's controls


def tiny(arch, end="\n"):
    model = core.build(lambda: network(Config("", arch, context_length=16, end=end, **TINY[arch]), character_tokenizer(LETTERS, 100)), 3).eval()
    if arch == "ngram":
        text_ids = training.encode(model.tokenizer, LETTERS * 5)
        training.ngram.count(model, text_ids)
    return model


def files(model) -> dict[str, bytes]:
    with keep.packed(lambda path: text.save(model, path), keep.Card("Tiny", "A tiny one.", {}, "none", "pass\n")) as folder:
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def bring(tmp_path, data):
    (tmp_path / "brought.zip").write_bytes(data)
    return keep.read([tmp_path / "brought.zip"], text_keep.form())


def write(model):
    *_, made = text.sample(model, "ab", max_new_tokens=12, temperature=0)
    return made


@pytest.mark.parametrize("arch", TINY)
def test_every_kind_of_model_goes_out_and_comes_back(arch, tmp_path):
    model = tiny(arch)
    back = bring(tmp_path, zip_of(files(model)))
    assert write(back) == write(text.load(packed(tmp_path, model))) and back.config.eos_token_id == model.config.eos_token_id
    ids = torch.tensor([[1, 2, 3, 4]])
    assert torch.allclose(back(input_ids=ids).logits, model(input_ids=ids).logits, atol=0.02)  # stored in half precision


def packed(tmp_path, model):
    text.save(model, tmp_path / "folder")
    return tmp_path / "folder"


@pytest.mark.parametrize("variant", text.VARIANTS)
def test_every_shipped_model_goes_out_and_comes_back(variant, tmp_path):
    made = text_keep.shipped("", variant)
    with keep.packed(lambda path: text.save(made.model, path), made.card) as folder:
        back = bring(tmp_path, keep.zipped(folder))
        card = (folder / "README.md").read_text(encoding="utf-8")
    for name, tensor in made.model.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor.float() if tensor.is_floating_point() else tensor)
    assert back.tokenizer.get_vocab() == made.model.tokenizer.get_vocab() and made.name == variant and text_keep.LOAD in card
    assert back.generation_config.eos_token_id == made.model.generation_config.eos_token_id


def test_the_files_may_come_loose(tmp_path):
    model = tiny("gpt")
    for name, data in files(model).items():
        if name in foreign.NEEDED:
            (tmp_path / name.replace(".", " (1).")).write_bytes(data)
    assert write(keep.read(sorted(tmp_path.iterdir()), text_keep.form())) == write(text.load(packed(tmp_path, model)))


# --- what is refused


def settings(parts, **changes):
    return {**parts, "config.json": json.dumps({**json.loads(parts["config.json"]), **changes}).encode()}


def tokens(parts, change):
    found = json.loads(parts["tokenizer.json"])
    change(found)
    return {**parts, "tokenizer.json": json.dumps(found).encode()}


def vocab(change):
    return lambda parts: tokens(parts, lambda found: change(found["model"]["vocab"]))


BAD = {
    "another kind of model": (lambda p: settings(p, model_type="gpt2"), "unknown model_type in config.json 'gpt2'; choose one of: llama, genkit-lstm"),
    "a model with code of its own": (lambda p: settings(p, model_type="evil", auto_map={"AutoModelForCausalLM": "evil.Evil"}), "unknown model_type"),
    "no kind": (lambda p: settings(p, model_type=None), "unknown model_type"),
    "a width beyond bounds": (lambda p: settings(p, hidden_size=10**9), "hidden_size = 1000000000; .*8-512"),
    "many layers": (lambda p: settings(p, num_hidden_layers=10**6), "num_hidden_layers = 1000000; .*1-12"),
    "a context beyond bounds": (lambda p: settings(p, max_position_embeddings=10**7), "max_position_embeddings"),
    "a truth for a number": (lambda p: settings(p, num_hidden_layers=True), "num_hidden_layers = true"),
    "a size that is missing": (lambda p: {**p, "config.json": b'{"model_type": "llama", "hidden_size": 16}'}, "lacks a setting"),
    "heads that do not fit": (lambda p: settings(p, num_attention_heads=3), "describes no network: 3 heads need a width of a multiple of 6"),
    "weights of another width": (lambda p: settings(p, hidden_size=32), "different networks"),
    "another activation": (lambda p: settings(p, hidden_act="relu"), 'hidden_act = "relu"'),
    "other positions": (lambda p: settings(p, rope_parameters={"rope_theta": 5.0, "rope_type": "default"}), "rope_parameters"),
    "another vocabulary": (lambda p: settings(p, vocab_size=10**6), "vocab_size = 1000000"),
    "an end beyond the vocabulary": (lambda p: settings(p, eos_token_id=10**6), "eos_token_id = 1000000"),
    "an end that is a list": (lambda p: settings(p, eos_token_id=[1]), "eos_token_id"),
    "a token too many": (vocab(lambda v: v.update(z=len(v))), "different networks|vocab_size"),
    "words for characters": (vocab(lambda v: v.update(word=v.pop("a"))), "not a table"),
    "half a character": (vocab(lambda v: v.update({"\ud800": v.pop("a")})), "not a table"),
    "numbers with a gap": (vocab(lambda v: v.update(a=999)), "not a table"),
    "a truth for an id": (vocab(lambda v: v.update(a=True)), "not a table"),
    "no unknown": (vocab(lambda v: v.update({"?": v.pop("<unk>")})), "not a table"),
    "an empty table": (vocab(lambda v: v.clear()), "not a table"),
    "merges": (lambda p: tokens(p, lambda found: found["model"].update(merges=["a b"])), "not a table"),
    "a normaliser": (lambda p: tokens(p, lambda found: found.update(normalizer={"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""})), "not a table"),
    "a tokenizer that is no table": (lambda p: {**p, "tokenizer.json": b'{"model": []}'}, "not a table"),
    "a list for a tokenizer": (lambda p: {**p, "tokenizer.json": b"[]"}, "tokenizer.json cannot be read"),
    "a tokenizer nested without end": (lambda p: {**p, "tokenizer.json": b"[" * 60_000}, "tokenizer.json cannot be read"),
    "a huge tokenizer": (lambda p: {**p, "tokenizer.json": b" " * (3 << 20)}, "tokenizer.json is too large"),
    "no tokenizer": (lambda p: {name: data for name, data in p.items() if name != "tokenizer.json"}, "tokenizer.json is missing"),
    "code": (lambda p: {**p, "modeling_evil.py": b"import os"}, "holds 'modeling_evil.py'"),
    "a template": (lambda p: {**p, "chat_template.jinja": b"{{ 1 }}"}, "holds 'chat_template.jinja'"),
    "cut weights": (lambda p: {**p, "model.safetensors": p["model.safetensors"][:-50]}, "damaged or cut off"),
}  # fmt: skip


@pytest.fixture(scope="module")
def parts():
    return files(tiny("gpt"))


@pytest.mark.parametrize("kind", BAD)
def test_nothing_but_a_language_model_of_ours_comes_in(kind, parts, tmp_path):
    spoil, said = BAD[kind]
    with pytest.raises(Problem) as told:
        bring(tmp_path, zip_of(spoil(parts)))
    assert re.search(said, told.value.en, re.S) and re.search("[\u4e00-\u9fff]", told.value.zh)


def test_an_n_gram_whose_text_has_tokens_beyond_its_alphabet_is_refused(tmp_path):
    model = tiny("ngram")
    model.corpus[3] = 200
    with pytest.raises(Problem, match="different networks"):
        bring(tmp_path, zip_of(files(model)))
    with pytest.raises(Problem, match="n_tokens = 1000000000"):
        bring(tmp_path, zip_of(settings(files(tiny("ngram")), n_tokens=10**9)))


def test_what_is_in_the_other_files_of_the_zip_changes_nothing(parts, tmp_path):
    evil = {**parts, "tokenizer_config.json": b'{"auto_map": {"AutoTokenizer": "evil.Evil"}}', "generation_config.json": b'{"max_length": 1e99}'}
    assert write(bring(tmp_path, zip_of(evil))) == write(bring(tmp_path, zip_of(parts)))


# --- the panel


def test_a_brought_model_writes_what_the_controls_ask_for_and_its_mark_is_on_it():
    said = text_keep.show(tiny("gpt", end=""), "<b>ab", "gpt-mini", 10**9, 0.8, 0, 1, 1, 7)
    assert "&lt;b&gt;ab" in said and "AI-generated" in said
    with pytest.raises(Problem, match="10001 characters"):
        text_keep.show(tiny("gpt"), "x" * 10_001, *VALUES[1:])


def test_a_pretrained_model_is_left_where_it_is():
    with pytest.raises(Problem, match="on the Hugging Face Hub already"):
        text_keep.shipped("", "smollm2")


def run_code(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code.py").write_text(code, encoding="utf-8")
    return runpy.run_path(str(tmp_path / "code.py"))


@pytest.mark.parametrize("prompt", ['ROMEO:\n"\\', "'; import os; '", "你好 \ud83d"])
def test_the_code_of_a_text_writes_the_same_again(prompt, tmp_path, monkeypatch, capsys):
    values = [prompt, "gpt-mini", 20, 0.8, 5, 0.9, 1.1, 3]
    expected = "".join(text.sample(text.load("gpt-mini"), prompt, max_new_tokens=20, temperature=0.8, top_k=5, top_p=0.9, repetition_penalty=1.1, seed=3))
    made = run_code(text_keep.sampling(*values), tmp_path, monkeypatch)["written"]
    assert expected.endswith(made)
    assert 'models.use("text", "smollm2")' in text_keep.sampling(*["", "smollm2", *VALUES[2:]])


@pytest.mark.parametrize("kind, size", [("gpt", "small"), ("lstm", "small"), ("ngram", "small")])
def test_the_code_of_a_training_learns_the_same_text_again(kind, size, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training, "SHOWN", 5)
    run = learn.begin("author", "own", SECRET + "\r\n\r\n\r\n" + SECRET, "", list(material.STEPS), kind, size, 3, 1)
    shot = ended(run)
    made = text_keep.trained(shot, runs.model(run))
    assert "secret number" not in made.card.text() and f"{shot.exam.test:.4f}" in made.card.text()
    code = text_keep.training(shot, *VALUES)
    (tmp_path / "my-text.txt").write_bytes((SECRET + "\r\n\r\n\r\n" + SECRET).encode())
    found = run_code(code, tmp_path, monkeypatch)
    assert found["event"].exam.test == pytest.approx(shot.exam.test, rel=1e-3) and (tmp_path / "my-model" / "model.safetensors").exists()
    assert write(bring(tmp_path, zip_of(files(made.model)))) == write(text.load(tmp_path / "my-model"))


def test_the_code_of_a_run_on_a_corpus_names_it(monkeypatch):
    monkeypatch.delenv("GENKIT_DATA_DIR", raising=False)
    monkeypatch.setattr(training, "SHOWN", 5)
    run = learn.begin("other", "python", "", "", [], "ngram", "small", 3, 1)
    code = text_keep.training(ended(run), *VALUES)
    assert 'parts = text.split(corpora.corpus("python"))' in code and 'text.learn("ngram-shakespeare", parts, steps=5, every=1, seed=1, order=3)' in code
