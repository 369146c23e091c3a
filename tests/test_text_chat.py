"""A conversation: read through the model's own template, cut where it does not fit, answered in a stream, and shown as what it is."""

import json
import re

import pytest
import torch
from playwright.sync_api import expect
from transformers import AutoModelForCausalLM

import app
from demos import download, page
from demos.pen import Pen
from demos.text import chat
from genkit import core, models, text
from genkit.core import Problem
from genkit.text.model import _spread
from genkit.text.sampling import context_length

from .speaker import Speaker, chat_model

LONG = 60_000  # milliseconds


@pytest.fixture(scope="module")
def tiny():
    return chat_model()


@pytest.fixture
def here(tiny):
    """The tiny model in the text tab's catalogue."""
    models.attach("text", "tiny", tiny)
    yield "tiny"
    models._attached.clear()


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


def read(model, history, message=None, system="", **options):
    return text.given(model, text.conversation(history, message, system), **options)


# --- what a model is given


def test_a_conversation_goes_through_the_models_own_template(tiny):
    found = read(tiny, [user("hi"), assistant("yo")], "bye", "be kind")
    assert found.text == "<s>be kind\n<u>hi\n<a>yo\n<u>bye\n<a>" == tiny.tokenizer.decode(found.prompt)
    assert (found.turns, found.characters, found.templated) == (0, 0, True)


def test_the_answer_is_what_the_one_loop_writes_after_it(tiny):
    found = read(tiny, [], "hi")
    answer = "".join(piece for piece, _ in text.pieces(tiny, found.prompt, max_new_tokens=9, seed=3))
    assert len(answer) == 9 and list(text.sample(tiny, "hi", max_new_tokens=9, seed=3))[-1] == answer  # one question is what a prompt is


def test_the_oldest_turns_go_first_and_a_conversation_begins_with_a_question(tiny):
    room = int(0.75 * context_length(tiny))
    history = [each for n in range(6) for each in (user(f"question {n}"), assistant(f"answer {n}"))]
    found = read(tiny, history, "last", "be kind")
    assert found.text.startswith("<s>be kind\n<u>question ") and found.text.endswith("<u>last\n<a>")
    assert found.turns == 2 * int(re.search(r"question (\d|<unk>)", found.text) is not None and len(history) // 2 - found.text.count("question"))
    assert len(found.prompt) <= room < len(read(chat_model(400), history, "last", "be kind").prompt)


def test_a_message_too_long_keeps_its_end_and_says_what_was_cut(tiny):
    found = read(tiny, [user("old"), assistant("older")], "x" * 500 + "the end", "be kind")
    assert found.text.startswith("<s>be kind\n<u>xx") and found.text.endswith("xthe end\n<a>") and len(found.prompt) <= 72
    assert found.turns == 2 and found.characters == 507 - found.text.count("x") - len("the end")
    with pytest.raises(Problem, match="system prompt fills the memory"):
        read(tiny, [], "hi", "x" * 500)


def test_without_its_template_a_model_gets_the_bare_texts(tiny):
    found = read(tiny, [user("hi"), assistant("yo")], "bye", template=False)
    assert found.text == "hi\n\nyo\n\nbye" and not found.templated
    tiny.tokenizer.chat_template, template = None, tiny.tokenizer.chat_template
    try:
        base = read(tiny, [], "x" * 500 + "on")
        assert not base.templated and base.prompt == text.fit(tiny, "x" * 500 + "on")[0] and base.characters == text.fit(tiny, "x" * 500 + "on")[1]
    finally:
        tiny.tokenizer.chat_template = template


def test_a_template_that_knows_no_system_gets_it_with_the_first_question(tiny, monkeypatch):
    strict = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}<{{ m.role[0] }}>{{ m.content }}{% endfor %}<a>"
    monkeypatch.setattr(tiny.tokenizer, "chat_template", strict)
    assert read(tiny, [], "hi", "be kind").text == "<u>be kind\n\nhi<a>"
    monkeypatch.setattr(tiny.tokenizer, "chat_template", "{{ raise_exception('never') }}")
    with pytest.raises(Problem, match="refuses the conversation .never."):
        read(tiny, [], "hi")


def test_what_one_says_twice_in_a_row_is_one_message_and_silence_none(tiny):
    assert text.conversation([user("a"), user("b"), assistant(" ")], "c") == [user("a\n\nb\n\nc")]
    parts = [{"role": "user", "content": [{"type": "text", "text": "a"}], "metadata": None, "options": None}, assistant("b")]
    assert text.conversation(parts, "c") == [user("a"), assistant("b"), user("c")]


@pytest.mark.parametrize("message", ["😀👩‍👩‍👧", "\x00\x07\x1b[0m", "مرحبا", "<img src=x onerror=alert(1)>", "{{ 7 * 7 }}{% raw %}", "<unk><s>", "e\u0301"])
def test_every_message_is_read_as_text(tiny, message):
    assert text.conversation([], message)[-1]["content"] == message
    assert read(tiny, [], message).text == f"<u>{message}\n<a>"


BAD = [
    ("a text", "hi", "must be a list"),
    ([["hi", "yo"]], "hi", "not the role"),
    ([{"role": "root", "content": "x"}], "hi", "'root' is not the role of a message; choose one of: system, user, assistant"),
    ([{"content": "x"}], "hi", "not the role"),
    ([user(None)], "hi", "must be text"),
    ([user([{"type": "image", "path": "/etc/passwd"}])], "hi", "must be text"),
    ([user("hi"), {"role": "system", "content": "x"}], "hi", "only the first"),
    ([user("x" * 10_001)], "hi", "has 10001 characters; at most 10000"),
    ([assistant("x" * 100_000)], "hi", "has 100002 characters; at most 50000"),
    ([user("x"), assistant("y")] * 101, "hi", "has 203 messages; at most 200"),
    ([], "", "empty"),
    ([], " \n", "empty"),
    ([user("hi"), assistant("yo")], None, "empty"),
    ([], 7, "must be text"),
]


@pytest.mark.parametrize("history, message, sentence", BAD, ids=range(len(BAD)))
def test_a_bad_history_is_refused_in_a_sentence(history, message, sentence):
    with pytest.raises(Problem, match=sentence):
        text.conversation(history, message)


def test_halves_of_a_character_are_mended():
    assert text.conversation([user("\ud83d")], "\ude00\ud83d") == [user("\ufffd\n\n\ufffd\ufffd")]


# --- larger models


def test_a_model_too_large_for_the_gpu_is_spread_by_accelerate_and_writes_the_same(tiny, tmp_path, monkeypatch):
    """There is no GPU here: what would be asked of transformers is looked at, and accelerate then spreads the model over memory and disk."""
    text.save(tiny, tmp_path / "tiny")
    assert json.loads((tmp_path / "tiny" / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]  # what vLLM and transformers serve ask for
    expected = list(text.sample(text.load(tmp_path / "tiny"), "hi", max_new_tokens=9, temperature=0))
    asked, opened = [], AutoModelForCausalLM.from_pretrained

    def from_pretrained(*args, device_map=None, **options):
        asked.append(device_map)
        places = {"model.embed_tokens": "cpu", "model.layers": "disk", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
        return opened(*args, device_map=places, offload_folder=tmp_path / "disk", **options)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", from_pretrained)
    monkeypatch.setattr(core, "device", lambda: torch.device("cuda"))
    monkeypatch.setattr("genkit.text.model._dtype", lambda: torch.float32)
    for free, spread in ((10**9, {}), (10**4, {"device_map": "auto"})):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda free=free: (free, 10**9))
        assert _spread(tmp_path / "tiny") == spread
    model = text.load(tmp_path / "tiny")
    assert asked == ["auto"] and set(model.hf_device_map.values()) == {"cpu", "disk"}
    assert list(text.sample(model, "hi", max_new_tokens=9, temperature=0)) == expected


# --- the page's handlers


def whole(handler, *arguments):
    *_, last = handler(*arguments)
    return last


SETTINGS = ("", "tiny", True, 12, 0.8, 0, 1, 1, 5)  # system, model, template, length, temperature, top-k, top-p, penalty, seed


def test_an_answer_grows_and_says_what_made_it_and_from_what(here):
    shown = list(chat.send(Pen(), 1, "hi", [], *SETTINGS))
    assert [each[2] for each in shown[:1]] == [""] and all(each[2] != "" for each in shown[1:])  # the box is emptied once: the next message may stand in it
    conversation, about, _ = shown[-1]
    assert conversation[0] == user("hi") and len(conversation[1]["content"]) == 12
    assert "AI-generated" in about and "seed 5" in about and "&lt;u&gt;hi\n&lt;a&gt;" in about and "What the model was given" in about
    *_, streamed = chat.text_chat("hi", [], "", "tiny", 12, 0.8, 0, 1, 5)
    assert streamed == conversation[1]["content"]


def test_again_takes_the_next_seed_and_an_edit_forgets_what_came_after(here):
    before = [user("hi"), assistant("yo"), user("bye"), assistant("no")]
    conversation, about, seed = whole(chat.again, Pen(), 1, before, *SETTINGS)
    assert seed == 6 and "seed 6" in about and conversation[:3] == before[:3] and conversation[3]["content"] != "no"
    change = type("Change", (), {"index": 0, "value": "hello"})
    conversation, _ = whole(chat.edited, change, Pen(), 1, before, *SETTINGS)
    assert conversation[0] == user("hello") and len(conversation) == 2 and len(conversation[1]["content"]) == 12
    with pytest.raises(Exception, match="nothing to answer again"):
        whole(chat.again, Pen(), 1, [], *SETTINGS)


def test_stop_and_clear_end_an_answer_and_nothing_that_comes_after(here):
    pen = Pen()
    assert chat.forget(pen, 5) == ([], "")
    stopped, later = (list(chat.answer(pen, asked, [user("hi")], *SETTINGS)) for asked in (3, 6))
    assert stopped == [([user("hi")], stopped[0][1])] and len(later[-1][0]) == 2


def test_code_is_said_to_be_never_run_and_chinese_to_be_foreign_to_smollm():
    said = text.conversation([], "你好")
    read = chat.text.given(chat_model(), said)
    assert "never run on this server" in chat.remarks(read, "```python\nimport os\n```", "tiny") and "never run" not in chat.remarks(read, "hello", "tiny")
    assert "几乎没有读过中文" in chat.remarks(read, "hello", "smollm2") and "几乎没有" not in chat.remarks(read, "hello", "qwen3-0.6b")
    assert "before the first word" in chat.remarks(read, "", "tiny")


def test_a_model_that_is_not_here_says_its_size_licence_memory_and_how_to_get_it(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert chat.speakers()[0] == "smollm2" and not {"gpt2", "gpt-tang"} & set(chat.speakers())
    said, absent = download.describe("text", "smollm2")
    assert absent and all(part in said for part in ("280 MB", "Apache-2.0", "1.0 GB", "python -m genkit.models fetch smollm2"))
    conversation, about = whole(chat.answer, Pen(), 1, [user("hi")], "", "smollm2", True, 12, 0.8, 0, 1, 1, 5)
    assert conversation == [user("hi")] and "press Download" in about and "请点“下载”" in about


# --- in a browser


def test_a_conversation_in_the_browser_is_streamed_edited_and_inert(tiny, browser, monkeypatch, tmp_path):
    """On a page of its own, whose model speaks through an endpoint: what it says can be chosen."""
    monkeypatch.setattr(page, "warm_up_in_background", lambda: None)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    speaker = Speaker(tiny)
    options = app.arguments(["--text-endpoint", speaker.url, "--text-model", "tiny", "--port", "7897"])
    demo = app.configured(options)
    context = browser.new_context(viewport={"width": 360, "height": 800}, locale="zh-CN")
    try:
        _, address, _ = app.launch(demo, options, quiet=True)
        view = context.new_page()
        dialogs = []
        view.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        view.goto(f"{address}?tab=text")
        view.locator("#text-chat > button").click()
        log, about = view.locator("#text-chat-log"), view.locator("#text-chat-about")

        speaker.script = [
            "See <img src=x onerror=alert(1)><script>alert(2)</script> ",
            f"![p]({speaker.url}/p.png) `{'x' * 99}`\n\n",
            "```python\nimport os\n```",
        ]
        view.get_by_role("button", name="写一首关于秋天的诗。").click()
        expect(log.locator("pre code")).to_contain_text("import os", timeout=LONG)
        expect(about).to_contain_text("绝不会在本服务器上运行", timeout=LONG)
        assert log.locator("pre code span").count() > 0  # highlighted
        assert log.locator("img[src]").count() == 2 and speaker.seen == []  # the browser asks no other server for a picture
        assert log.locator("script").count() == 0 and log.locator("[onerror]").count() == 0

        assert view.evaluate("document.documentElement.scrollWidth") <= 360

        speaker.script = ["two"]
        view.get_by_label("您的消息").fill("hello")
        view.get_by_label("您的消息").press("Enter")
        expect(log.locator(".bot").last).to_contain_text("two", timeout=LONG)
        expect(view.get_by_label("您的消息")).to_have_value("")
        speaker.script = ["three"]
        view.get_by_role("button", name="重答").click()
        expect(log.locator(".bot").last).to_contain_text("three", timeout=LONG)
        expect(about).to_contain_text("seed 8")
        speaker.script = ["four"]
        log.get_by_role("button", name="编辑").last.click()
        log.locator("textarea").fill("hallo")
        log.get_by_role("button", name="发送").click()
        expect(log.locator(".bot").last).to_contain_text("four", timeout=LONG)
        assert [len(asked["messages"]) for _, asked in speaker.asked] == [1, 3, 3, 3] and speaker.asked[-1][1]["messages"][-1] == user("hallo")
        assert dialogs == []
        log.get_by_role("button", name="清空对话").click()
        expect(about).not_to_contain_text("seed")
        expect(log).not_to_contain_text("hallo")
    finally:
        context.close()
        demo.close(verbose=False)
        speaker.shutdown()
        models._attached.clear()
