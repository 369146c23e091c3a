"""A model goes to the Hub with the visitor's own token, and the token goes nowhere else."""

import logging

import pytest

from genkit import gan, keep
from genkit.core import Problem
from tests.keep.conftest import CARD, TOKEN


def push(model, name="my-first-gan", token=TOKEN, **options) -> str:
    with keep.packed(lambda path: gan.save(model, path), CARD) as folder:
        return keep.push(folder, name, token, **options)


@pytest.mark.parametrize("private", [True, False])
def test_a_model_is_pushed_with_the_visitors_own_token(hub, model, parts, private):
    assert push(model, private=private) == f"{hub.url}/pupil/my-first-gan"
    assert hub.files == parts and hub.tokens == {f"Bearer {TOKEN}"}
    assert hub.repos == {"pupil/my-first-gan": "private" if private else "public"}


def test_the_token_is_in_no_record_of_the_log_and_in_no_file(hub, model, tmp_path, caplog, capfd, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with caplog.at_level(logging.DEBUG):
        push(model)
        hub.refuse = {"/commit/": 500}
        with pytest.raises(Problem) as told:
            push(model, "another")
        with pytest.raises(Problem):
            push(model, "a third", token=TOKEN)
    assert caplog.records and TOKEN not in caplog.text + "".join(capfd.readouterr())
    assert TOKEN not in told.value.en + told.value.zh and told.value.__cause__ is None
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    "refuse, said, chinese",
    [
        ({"create": 401}, "does not know this token", "不认识这个令牌"),
        ({"create": 403}, "may not write my-first-gan", "无权写入"),
        ({"create": 409}, "a repository my-first-gan already", "换一个名称"),
        ({"create": 429}, "error 429", "429"),
        ({"/commit/": 403}, "may not write", "无权写入"),
        ({"/objects/batch": 422}, "error 422", "422"),
    ],
)
def test_what_goes_wrong_at_the_hub_is_a_sentence_and_leaves_nothing_behind(hub, model, refuse, said, chinese):
    hub.refuse = refuse
    with pytest.raises(Problem, match=said) as told:
        push(model)
    assert chinese in told.value.zh and hub.repos == {} and hub.files == {}


def test_a_second_push_of_a_name_says_that_it_is_taken_and_leaves_the_first(hub, model):
    push(model)
    with pytest.raises(Problem, match="already"):
        push(model)
    assert list(hub.repos) == ["pupil/my-first-gan"]


def test_a_token_of_somebody_else_is_refused_by_the_hub(hub, model):
    with pytest.raises(Problem, match="does not know this token"):
        push(model, token="hf_of_nobody_at_all")


@pytest.mark.parametrize("token", ["", "my password", "hf_", f"{TOKEN}\n", f"{TOKEN}\r\nX: y", "Bearer " + TOKEN, None, TOKEN + "字"])
def test_what_is_no_token_never_leaves_the_machine(hub, model, token):
    with pytest.raises(Problem, match="not a Hub token"):
        push(model, token=token)
    assert hub.tokens == set()


@pytest.mark.parametrize("name", ["", "a b", "../x", "a/b/c", "-x", "x" * 200, "名字"])
def test_a_name_that_cannot_be_is_refused_first(hub, model, name):
    with pytest.raises(Problem, match="cannot be the name"):
        push(model, name=name)
    assert hub.tokens == set()


def test_no_network_and_offline_mode_are_named(hub, model, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Problem, match=r"did not get through to http://127.0.0.1:9 \(ConnectError\)"):
        push(model)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(Problem, match="offline"):
        push(model)
