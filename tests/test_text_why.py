"""Why this token: tokens and their bytes, attention, gradients, and what the page makes of them."""

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from playwright.sync_api import expect
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, GenerationConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.modeling_outputs import CausalLMOutput

from demos.text import views
from demos.text import why as section
from genkit import core, text
from genkit.core import Problem
from genkit.text import hmm, ngram, sampling, tokens, why
from genkit.text.model import character_tokenizer, network
from genkit.text.tokens import reading

from .conftest import finished

LONG = 180_000  # ms: the first text of a server that has just started, on a busy machine
CORPUS = "the cat sat on the mat, and that was that.\n你好春晚"


@pytest.fixture(scope="module")
def model():
    """An untrained network of four layers and four heads."""
    return core.build(lambda: network(text.VARIANTS["gpt-mini"], character_tokenizer(CORPUS, 100)), 3).eval()


def byte_level(template: str = "") -> SimpleNamespace:
    """What reading() needs of a model with a token for each byte, and one for "ab"."""
    vocabulary = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    table = Tokenizer(models.BPE({**vocabulary, "ab": 256}, [("a", "b")]))
    table.pre_tokenizer, table.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=table, eos_token="<|end|>")
    tokenizer.chat_template = template or None
    return SimpleNamespace(tokenizer=tokenizer, generation_config=GenerationConfig(), config=SimpleNamespace(max_position_embeddings=4096))


class Bag(PreTrainedModel):
    """A model that is linear in its embeddings: the scores of the next token are the sum of what every token says."""

    config_class = type("BagConfig", (PretrainedConfig,), {"model_type": "genkit-lstm", "max_position_embeddings": 64})

    def __init__(self, size: int, tokenizer=None):
        super().__init__(self.config_class())
        rng = core.seeded(1)
        self.embed, self.head = torch.nn.Embedding(size, 5), torch.nn.Linear(5, size, bias=False)
        for module in (self.embed, self.head):
            module.weight.data = torch.randn(module.weight.shape, generator=rng)
        self.tokenizer, self.generation_config = tokenizer, GenerationConfig()

    def get_input_embeddings(self):
        return self.embed

    def forward(self, input_ids, **options):
        return CausalLMOutput(logits=self.head(self.embed(input_ids).cumsum(dim=1)))


# --- tokens


@pytest.mark.parametrize("prompt", ["", "ab", "春晚", "a😀b", "👩‍👩‍👧 né", "\ud83d", "مرحبا", "<|end|>x"])
def test_the_bytes_of_the_tokens_are_those_of_the_text(prompt):
    model = byte_level()
    if not prompt:
        with pytest.raises(Problem, match="empty"):
            reading(model, prompt)
        return
    seen = reading(model, prompt)
    assert b"".join(token.bytes for token in seen.tokens) == sampling.clean(prompt).encode()


def test_a_character_of_several_tokens_is_shown_in_its_parts():
    seen = reading(byte_level(), "ab春😀")
    assert [(token.text, token.part, token.parts, token.whole) for token in seen.tokens] == [
        ("ab", 1, 1, ""), *[("", part, 3, "春") for part in (1, 2, 3)], *[("", part, 4, "😀") for part in (1, 2, 3, 4)]
    ]  # fmt: skip
    assert [token.bytes.hex() for token in seen.tokens] == ["6162", "e6", "98", "a5", "f0", "9f", "98", "80"]


def test_half_a_character_at_the_end_stays_bytes():
    model = byte_level()
    halves = tokens._tokens(model, model.tokenizer("a春").input_ids[:-1], "")
    assert [(token.text, token.whole, token.parts) for token in halves] == [("a", "", 1), ("", "", 2), ("", "", 2)]


def test_a_character_without_a_token_is_unknown_and_named(model):
    seen = reading(model, "cat é春")
    assert [token.kind for token in seen.tokens] == ["special", *["text"] * 4, "unknown", "text"]
    assert seen.tokens[5].text == "é" and seen.tokens[5].bytes == b"\xc3\xa9" and seen.tokens[5].id == model.tokenizer.unk_token_id
    assert (seen.tokens[0].text, seen.tokens[6].text) == ("\n", "春")


@pytest.mark.parametrize("prompt, written", [("the cat " * 60, ""), ("the cat " * 60, "sat"), ("the ", "cat " * 100)])
def test_the_last_tokens_of_a_long_text_are_read_and_the_cut_is_said(model, prompt, written):
    seen, whole = reading(model, prompt, written), prompt + written
    assert len(seen.ids) == 128 == sampling.context_length(model) and seen.cut == len(whole) - 127
    assert "".join(token.text for token in seen.tokens[1:]) == whole[seen.cut :]
    assert reading(model, "the cat", " sat").cut == 0


def test_256_tokens_are_read_of_a_model_that_could_look_further_back():
    seen = reading(byte_level(), "x" * 300, "y" * 100)
    assert len(seen.ids) == 256 and seen.cut == 144 and seen.tokens[0].text == "x"


@pytest.mark.parametrize("prompt, written, cut", [("why", "so", 0), ("why " * 100, "so", 152), ("why", "so " * 100, 53)])
def test_a_chat_model_reads_its_template_and_what_it_answered_after_it(prompt, written, cut):
    model = byte_level("{% for m in messages %}Q: {{ m.content }}\nA:{% endfor %}")
    seen = reading(model, prompt, written)
    said = b"".join(token.bytes for token in seen.tokens).decode()
    assert seen.cut == cut and len(seen.ids) <= 256 and said.startswith("Q: ") and (prompt + written)[cut:] == said.replace("Q: ", "").replace("\nA:", "")


# --- attention


def test_attention_is_that_of_transformers_and_never_looks_ahead(model, tmp_path):
    found = why.attended(model, "the cat sat", 1, 2)
    text.save(model, tmp_path / "saved")
    eager = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", attn_implementation="eager")
    eager.load_state_dict(model.state_dict())
    with torch.inference_mode():
        theirs = eager(input_ids=torch.tensor([found.reading.ids]), output_attentions=True).attentions
    assert (found.layers, found.heads) == (len(theirs), theirs[0].shape[1]) == (4, 4)
    assert torch.allclose(found.weights, theirs[1][0, 2], atol=1e-3)
    assert torch.allclose(why.attended(model, "the cat sat", 1, -1).weights, theirs[1][0].mean(dim=0), atol=1e-3)
    assert torch.allclose(found.weights.sum(dim=1), torch.ones(12), atol=2e-3) and found.weights.triu(1).abs().max() == 0


def test_layers_and_heads_beyond_the_last_are_the_last(model):
    assert torch.equal(why.attended(model, "cat", 99, 99).weights, why.attended(model, "cat", 3, 3).weights)
    assert torch.equal(why.attended(model, "cat", -7, -7).weights, why.attended(model, "cat", 0, -1).weights)
    with pytest.raises(Problem, match="layer must be a number"):
        why.attended(model, "cat", "first", 0)


def test_what_cannot_be_copied_may_hang_on_a_model(model, tmp_path):
    text.save(model, tmp_path / "saved")
    other = text.load(tmp_path / "saved")
    other.quick = SimpleNamespace(model=other, lock=threading.Lock())
    assert why.attended(other, "the cat", 0, 0).layers == 4


def test_looking_leaves_the_shared_model_as_it_was_and_copies_no_weight(model):
    before = (model.config._attn_implementation, model.config.output_attentions, [len(each._forward_hooks) for each in model.modules()])
    why.attended(model, "the mat", 0, 0)
    why.attributions(model, reading(model, "the mat").ids, 3)
    assert before == (model.config._attn_implementation, model.config.output_attentions, [len(each._forward_hooks) for each in model.modules()])
    assert model.config._attn_implementation == "sdpa" and why._twin(model).config._attn_implementation == "eager"
    assert [each.data_ptr() for each in why._twin(model).parameters()] == [each.data_ptr() for each in model.parameters()]


def test_visitors_look_write_and_take_gradients_at_once(model):
    texts = ["the cat", "that was that.", "你好"] * 2

    def everything(prompt):
        ids = reading(model, prompt).ids
        return sampling.step(model, list(ids))[0], why._look(model, ids).attention.float(), why.attributions(model, ids, len(ids))

    alone = [everything(prompt) for prompt in texts]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(everything, texts))
    assert all(torch.allclose(one, other, atol=1e-3) for a, b in zip(alone, together, strict=True) for one, other in zip(a, b, strict=True))


def test_the_chances_are_those_that_the_token_was_drawn_with(model):
    ids = reading(model, "the cat").ids
    known = why.look(model, ids)
    for place in (1, 4):
        logits, _ = sampling.step(model, list(ids[:place]))
        assert known.chances[place].item() == pytest.approx(logits.softmax(dim=-1)[ids[place]].item(), rel=1e-3)
        assert known.ranks[place] == (logits > logits[ids[place]]).sum()
    logits, _ = sampling.step(model, list(ids))
    assert known.following == logits.argmax() and known.chances[-1].item() == pytest.approx(logits.softmax(dim=-1).max().item(), rel=1e-3)


def test_only_the_newest_answers_are_kept(model, monkeypatch):
    monkeypatch.setattr(why, "KEPT", 2 * why._size(why.look(model, reading(model, "the cat").ids)))
    for prompt in ("mat one", "mat two", "mat ten", "mat six"):
        assert why.look(model, reading(model, prompt).ids) is why.look(model, reading(model, prompt).ids)
    assert len(why._kept[model]) == 2


def test_the_habits_of_a_head_are_measured():
    before = torch.eye(5).roll(1, 0)
    before[0] = torch.tensor([1.0, 0, 0, 0, 0])
    assert why.habits(before) == {"first": 0.25, "before": 1.0, "here": 0.0, "back": 1.0}
    assert why.habits(torch.eye(5)) == {"first": 0.0, "before": 0.0, "here": 1.0, "back": 0.0}
    assert why.habits(torch.ones(1, 1))["here"] == 1


def test_the_picture_is_dark_where_the_attention_is():
    shown = why.picture(torch.eye(3))
    seen = shown.convert("RGB")
    assert shown.size == (3, 3) and sum(seen.getpixel((1, 1))) < 200 < 700 < sum(seen.getpixel((0, 1)))
    assert why.picture(torch.eye(90), 64).size == (64, 64)


# --- gradients


def test_what_moved_a_linear_model_is_what_each_token_said():
    model, ids = Bag(9), (3, 1, 4, 1, 5)
    for at in (1, 3, 5):
        target = why.look(model, ids).following if at == 5 else ids[at]
        said = model.embed.weight[list(ids[:at])] @ model.head.weight[target]
        pushes = why.attributions(model, ids, at)
        assert torch.allclose(pushes, said, atol=1e-5) and pushes.shape == (at,)
    assert model.embed.weight.grad is None and torch.is_grad_enabled()


def test_a_model_without_attention_says_what_it_has_instead():
    with pytest.raises(Problem, match="no attention; it has .*gradient"):
        why.attended(Bag(60, character_tokenizer(CORPUS, 60)), "cat", 0, 0)


# --- counts and states


@pytest.fixture
def counting():
    """An n-gram of CORPUS, its longest context four characters."""
    tokenizer = character_tokenizer(CORPUS, 100)
    ids = torch.tensor(tokenizer(CORPUS).input_ids)
    model = ngram.Ngram(ngram.NgramConfig(vocab_size=len(tokenizer), n_tokens=len(ids), order=5)).eval()
    ngram.count(model, ids)
    model.tokenizer, model.generation_config = tokenizer, GenerationConfig(bos_token_id=tokenizer.get_vocab()["\n"])
    return model


@pytest.fixture
def stateful():
    """A hidden Markov model of two states that take turns: one says a, the other b."""
    model = hmm.Hmm(hmm.HmmConfig(vocab_size=4, n_states=2)).eval()
    with torch.no_grad():
        model.start.copy_(torch.tensor([0.9, 0.1]).log())
        model.transition.copy_(torch.tensor([[0.1, 0.9], [0.8, 0.2]]).log())
        model.emission.copy_(torch.tensor([[0.01, 0.01, 0.96, 0.02], [0.01, 0.01, 0.02, 0.96]]).log())
    model.tokenizer, model.generation_config = character_tokenizer("ab\n", 4), GenerationConfig(bos_token_id=None)
    return model


def test_an_ngram_shows_its_counts_and_the_places_in_its_corpus(counting, monkeypatch):
    monkeypatch.setattr(section.models, "use", lambda family, name: counting)
    shown = asked(prompt="see: the", written="", model="ngram-shakespeare")
    often = CORPUS.count("the")
    assert f"“the”</th><td>{often}</td><td><b>␣</b> {often}" in shown
    assert f"corpus has this: {CORPUS.count(' the')} places" in shown and shown.count("<mark>␣the</mark>") == CORPUS.count(" the")
    seen = reading(counting, "see: the")
    shares, _ = views.counts(counting, seen, why.look(counting, seen.ids), len(seen.ids), -1, -1)
    assert shares == sorted(shares) and shares[0] == 0 and 0 < shares[-2] <= shares[-1] <= 1
    with pytest.raises(Problem, match="no attention; it has the counts"):
        why.attended(counting, "the", 0, 0)


def test_a_hidden_markov_model_shows_the_path_of_its_states(stateful, monkeypatch):
    ids = reading(stateful, "abba").ids
    walk = why.walk(stateful, ids)
    assert walk.states == (0, 1, 1, 0) and min(walk.sure) > 0.9 and walk.beliefs.shape == (4, 2)
    last = walk.beliefs[3]
    assert walk.following[0] == (1, pytest.approx(0.9 * last[0].item() + 0.2 * last[1].item(), rel=1e-4))
    assert why.likes(stateful, 0, 1)[0] == (2, pytest.approx(0.96)) and why.leads(stateful, 1)[0] == (0, pytest.approx(0.8))
    monkeypatch.setattr(section.models, "use", lambda family, name: stateful)
    shown = asked(prompt="abba", written="", model="hmm-shakespeare", at=2)
    assert "through state 1 of 2" in shown and shown.count("<code>") == 4 + 4
    assert "comes state 1 of 2 (" in asked(prompt="abba", written="", model="hmm-shakespeare")


# --- the page


def asked(**changed):
    question = {"prompt": "ROMEO:\n", "written": "I <b>am</b>", "model": "gpt-shakespeare", "how": "", "layer": -1, "head": -1, "at": -1}
    return finished(section.explain(**{**question, **changed}))


def test_the_section_shows_the_text_the_matrix_and_the_bytes():
    shown = asked(at=3, layer=1, head=2)
    assert "<b>am" not in shown and "&lt;" in shown and 'id="why-3" tabindex="0" aria-selected="true"' in shown
    assert shown.count('role="option"') == 1 + len("ROMEO:\nI <b>am</b>") + 1 and shown.count("<img") == 8
    assert "“M”: standing at “O”" in shown and "“M”：在“O”处" in shown and "<code>52</code>" in shown
    assert "gradient" in asked(how="gradient") and "<img" not in asked(how="gradient")


@pytest.mark.parametrize(
    "wrong",
    [{"prompt": None}, {"written": 7}, {"prompt": "x" * 10_001}, {"model": "../../etc"}, {"at": "third"}, {"layer": []}, {"head": None}, {"model": "smollm2"}],
)
def test_what_cannot_be_explained_is_told_in_its_place(wrong):
    assert asked(**wrong).startswith('<p class="note warn">')


@pytest.mark.parametrize(
    "odd",
    [
        {"prompt": "", "written": ""},
        {"prompt": "😀\x00\ud83d<img onerror=x>", "at": 10**9},
        {"how": {"a": 1}},
        {"prompt": "x" * 9_000, "at": 2.7},
        {"at": -9e9},
    ],
)
def test_odd_questions_have_answers(odd):
    shown = asked(**odd)
    assert "verdict" in shown and "<img onerror" not in shown


def test_a_tree_of_branches_grows_leads_back_and_outlives_a_reload(visit):
    page = visit("/?tab=text")
    places, token, prompt = (
        page.locator("#text-tree-result [role=treeitem]"),
        page.locator("#text-next button[data-text]").first,
        page.locator("#text-prompt textarea"),
    )
    expect(page.locator("#text-result .tokens")).to_be_visible(timeout=LONG)
    expect(places).to_have_count(2)  # the beginning, and what was written after it
    said = token.get_attribute("data-text")
    token.click()
    expect(places).to_have_count(3)
    expect(prompt).to_have_value("ROMEO:\n" + said)
    expect(places.last).to_have_attribute("aria-current", "true")
    page.locator("#text-result .tokens [role=button]").nth(2).click()  # back into the middle of what was written: a place between the two
    expect(places).to_have_count(4)
    assert [each.get_attribute("aria-level") for each in places.all()] == ["1", "2", "2", "3"]
    places.first.click()
    expect(prompt).to_have_value("ROMEO:\n")
    page.reload()
    expect(places).to_have_count(4, timeout=LONG)
    page.locator("#text-tree-result [tabindex='0']").focus()
    for key in ("Home", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    expect(prompt).to_have_value("ROMEO:\n" + said)
    page.keyboard.press("Delete")
    expect(places).to_have_count(3)
    page.get_by_role("button", name="Forget all").click()
    expect(places).to_have_count(0)


def test_a_token_is_asked_about_by_mouse_and_by_keyboard(visit):
    page = visit("/?tab=text&lang=zh")
    expect(page.locator("#text-result .tokens")).to_be_visible(timeout=LONG)
    page.locator("#text-why > button").click()
    page.locator("#why-8").click()
    expect(page.locator("#why-8")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#why-7")).to_be_focused()
    expect(page.locator("#why-7")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#text-why-result .verdict")).to_contain_text("模型给它的机会是")
    page.locator("#why-layer-0").click()
    expect(page.locator("#why-layer-0")).to_have_attribute("aria-pressed", "true")
    page.locator("#text-prompt textarea").fill("<img src=x onerror=\"document.title='broken'\">")
    expect(page.locator("#text-why-result [role=option]")).to_have_count(47)
    assert page.title() != "broken" and page.locator("#text-why-result [src=x]").count() == 0
