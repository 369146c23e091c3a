"""A model behind OpenAI's protocol writes and answers like one that runs here, and every way in which it can fail is a sentence with a remedy."""

import socket
import time

import pytest

import app
from demos import download
from demos.pen import Pen
from demos.text import chances, chat, write
from genkit import models, text
from genkit.core import Problem
from genkit.text import remote

from .runs.conftest import until
from .speaker import Speaker, chat_model

SETTINGS = {"max_new_tokens": 12, "temperature": 0.8, "seed": 5}


@pytest.fixture(scope="module")
def tiny():
    return chat_model()


@pytest.fixture
def speaker(tiny):
    speaker = Speaker(tiny)
    yield speaker
    speaker.shutdown()
    speaker.server_close()


@pytest.fixture
def endpoint(speaker):
    return text.Endpoint(speaker.url, "tiny", "sk-secret")


@pytest.fixture
def attached(endpoint):
    """Its name in the text tab's catalogue."""
    models.attach("text", endpoint.name, endpoint)
    yield endpoint.name
    models._attached.clear()


def said(pieces) -> str:
    return "".join(piece for piece, _ in pieces)


def talk(endpoint, **settings) -> str:
    return said(text.pieces(endpoint, text.conversation([], "hello"), **{**SETTINGS, **settings}))


def test_a_conversation_is_answered_with_what_the_model_there_says(endpoint, speaker, tiny):
    here = said(text.pieces(tiny, text.given(tiny, text.conversation([], "hello", "be kind")).prompt, **SETTINGS))
    there = list(text.pieces(endpoint, text.given(endpoint, text.conversation([], "hello", "be kind")).prompt, **SETTINGS))
    assert said(there) == here and len(here) == 12 and {bits for _, bits in there} == {None}
    path, asked = speaker.asked[0]
    assert path == "/v1/chat/completions" and asked["messages"] == [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello"}]
    assert asked["stream"] is True and asked["model"] == "tiny" and (asked["max_tokens"], asked["temperature"], asked["seed"]) == (12, 0.8, 5)
    assert not {"top_k", "repetition_penalty"} & asked.keys()  # no part of the protocol: sent only if they ask for something


def test_a_beginning_is_continued_by_the_completions(endpoint, speaker, tiny):
    tiny.tokenizer.chat_template, template = None, tiny.tokenizer.chat_template
    try:
        here = said(text.pieces(tiny, "once upon", **SETTINGS))
        assert said(text.pieces(endpoint, "once upon", **SETTINGS, top_k=7, repetition_penalty=1.5)) == here
    finally:
        tiny.tokenizer.chat_template = template
    path, asked = speaker.asked[0]
    assert path == "/v1/completions" and asked["prompt"] == "once upon" and asked["top_k"] == 7 and asked["repetition_penalty"] == 1.5


def test_a_server_that_only_chats_is_asked_so(endpoint, speaker):
    speaker.mode = "chats only"
    assert len(said(text.pieces(endpoint, "once upon", **SETTINGS))) == 12
    assert [path for path, _ in speaker.asked] == ["/v1/completions", "/v1/chat/completions"]


def test_the_key_goes_to_the_server_and_the_hosts_own_token_does_not(speaker, endpoint, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    open_one = text.Endpoint(speaker.url, "tiny")
    talk(endpoint), talk(open_one), said(text.pieces(endpoint, "a", **SETTINGS)), said(text.pieces(open_one, "a", **SETTINGS))
    assert speaker.keys == ["Bearer sk-secret", "Bearer none"] * 2
    assert "sk-secret" not in f"{endpoint!r} {endpoint.name} {endpoint.url}"


@pytest.mark.parametrize(
    "mode, sentence, chinese",
    [
        ("key", "does not accept the key.*GENKIT_TEXT_KEY", "密钥"),
        ("model", "has no model tiny.*The model `nobody` does not exist.*--text-model", "没有模型"),
        ("context", "refused the request: maximum context length is 96 tokens.*clear the conversation", "清空对话"),
        ("busy", "too many requests", "请求过多"),
        ("fallen", "answered with error 503", "返回错误 503"),
        ("page", "no stream of the OpenAI protocol.*--text-endpoint", "数据流"),
    ],
)
@pytest.mark.parametrize("prompt", ["once", [{"role": "user", "content": "once"}]], ids=["completion", "chat"])
def test_a_refusal_is_one_clear_sentence_in_both_languages(endpoint, speaker, mode, sentence, chinese, prompt):
    speaker.mode = mode
    with pytest.raises(Problem, match=sentence) as told:
        list(text.pieces(endpoint, prompt, **SETTINGS))
    assert chinese in told.value.zh and "sk-secret" not in told.value.en + told.value.zh and "\n" not in told.value.en
    speaker.mode = ""
    assert len(said(text.pieces(endpoint, prompt, **SETTINGS))) == 12  # and the next try works


@pytest.mark.parametrize(
    "mode, sentence", [("break", "ended before the answer did"), ("garbage", "ended before the answer did"), ("told", "CUDA out of memory")]
)
@pytest.mark.parametrize("prompt", ["once", [{"role": "user", "content": "once"}]], ids=["completion", "chat"])
def test_what_came_before_the_line_broke_is_kept(endpoint, speaker, mode, sentence, prompt):
    speaker.mode, came = mode, []
    with pytest.raises(Problem, match=sentence):
        for piece, _ in text.pieces(endpoint, prompt, **SETTINGS):
            came.append(piece)
    assert len("".join(came)) == 3


def test_a_server_that_is_down_or_says_nothing_is_named(endpoint, speaker, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(Problem, match=f"no answer from 127.0.0.1:{closed.getsockname()[1]}.*is running"):
            talk(text.Endpoint(f"http://127.0.0.1:{closed.getsockname()[1]}/v1/", "tiny"))
    monkeypatch.setattr(remote, "SILENCE", 0.3)
    speaker.mode = "silent"
    with pytest.raises(Problem, match="has said nothing for 0.3 seconds"):
        talk(endpoint)


def test_whoever_waits_may_leave_and_the_server_may_stop(endpoint, speaker):
    speaker.mode = "silent"
    waiting = text.pieces(endpoint, "once", **SETTINGS)
    start = time.monotonic()
    assert next(waiting) == ("", None)  # while the server is silent one may leave
    waiting.close()
    assert time.monotonic() - start < 1.5
    speaker.mode = "endless"
    stream = text.pieces(endpoint, "once", **{**SETTINGS, "max_new_tokens": 10**5})
    next(piece for piece, _ in stream if piece)
    stream.close()
    sent = []
    until(lambda: sent.append(speaker.sent) or (len(sent) > 3 and len(set(sent[-3:])) == 1))  # it writes into a closed connection and ends
    speaker.sent = 0
    assert len(talk(endpoint)) == 12  # a server that does not count is cut off


def test_what_needs_more_than_words_is_kindly_refused(endpoint, attached):
    for ask in (lambda: text.next_tokens(endpoint, "a"), lambda: text.fit(endpoint, "a"), lambda: text.validation(endpoint, None)):
        with pytest.raises(Problem, match="tiny at 127.0.0.1.*no chances, attention or perplexity") as told:
            ask()
        assert "不提供概率" in told.value.zh
    with pytest.raises(Problem, match="runs on another server"):
        chances.text_next("a", attached)


@pytest.mark.parametrize("url", ["", "ftp://a/v1", "127.0.0.1:8000", "http://", "http://me:pw@host/v1", "http://host/v1?key=1"])
def test_an_address_that_is_none_is_refused_without_repeating_a_password(url):
    with pytest.raises(Problem, match="such as http://127.0.0.1:8000/v1") as told:
        text.Endpoint(url, "tiny")
    assert "pw" not in told.value.en.partition("got")[2]
    with pytest.raises(Problem):
        text.Endpoint("http://host/v1", " ")


def test_the_host_adds_it_by_two_flags_and_the_key_comes_from_the_environment(speaker, monkeypatch):
    monkeypatch.setenv("GENKIT_TEXT_KEY", "sk-secret")
    try:
        app.configured(app.arguments(["--text-endpoint", f"{speaker.url}/v1/chat/completions", "--text-model", "tiny"]))
        name = f"tiny at {speaker.url.removeprefix('http://')}"
        assert name in download.choices("text") and chat.speakers()[0] == name and models.is_here("text", name)
        assert len(said(text.pieces(models.use("text", name), "a", **SETTINGS))) == 12 and speaker.keys == ["Bearer sk-secret"]
        assert "sent there" in download.describe("text", name)[0] and download.describe("text", name)[1] is False
    finally:
        models._attached.clear()
    with pytest.raises(Problem, match="the name of a model"):
        app.configured(app.arguments(["--text-endpoint", speaker.url]))


def test_the_page_writes_and_chats_with_it_and_keeps_what_came_before_a_break(attached, speaker):
    shown = list(write.write(Pen(), 1, "once", attached, 12, 0.8, 0, 1, 1, 5))[-1]
    assert "sends its words only" in shown and "data-chance" not in shown and "AI-generated" in shown
    *_, (conversation, about) = chat.answer(Pen(), 1, [{"role": "user", "content": "hello"}], "", attached, True, 12, 0.8, 0, 1, 1, 5)
    assert len(conversation[-1]["content"]) == 12 and "AI-generated" in about
    speaker.mode = "break"
    shown = list(write.write(Pen(), 1, "once", attached, 12, 0.8, 0, 1, 1, 5))[-1]
    assert "ended before the answer did" in shown and "连接在回答结束前中断" in shown and '<span class="yours">once</span>' in shown
    *_, (conversation, about) = chat.answer(Pen(), 1, [{"role": "user", "content": "hello"}], "", attached, True, 12, 0.8, 0, 1, 1, 5)
    assert len(conversation[-1]["content"]) == 3 and "ended before the answer did" in about
    speaker.mode = "key"
    *_, (conversation, about) = chat.answer(Pen(), 1, [{"role": "user", "content": "hello"}], "", attached, True, 12, 0.8, 0, 1, 1, 5)
    assert conversation[-1]["role"] == "user" and "does not accept the key" in about and "AI-generated" not in about


def test_offline_mode_closes_the_hub_and_not_the_hosts_own_server(endpoint, monkeypatch):
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert len(talk(endpoint)) == 12
    with pytest.raises(OfflineModeIsEnabled):
        HfApi().model_info("gpt2")
