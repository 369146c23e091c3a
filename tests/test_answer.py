"""Results that ask for themselves: the road past Gradio's events."""

import gradio as gr
import pytest
from fastapi.testclient import TestClient

from demos import answer

SAID = {"place": "<moon>"}


async def greet(place):
    return f"<p>Hello {len(place)}</p>"


def page(auth=None) -> TestClient:
    with gr.Blocks() as blocks:
        place, go = gr.Textbox(), gr.Button("Go")
        go.click(**answer.asking(answer.answer("greet", greet, ""), place=place))
    blocks.auth = auth
    return TestClient(gr.routes.App.create_app(blocks, app_kwargs={"routes": [answer.ROUTE]}))


def test_a_question_is_answered_with_html():
    given = page().post("/answer/greet", json=SAID)
    assert given.status_code == 200 and given.text == "<p>Hello 6</p>" and given.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    "name, body, status",
    [
        ("nobody", b'{"place": "x"}', 404),
        ("greet", b"", 400),
        ("greet", b"{", 400),
        ("greet", b"[1]", 400),
        ("greet", b'"x"', 400),
        ("greet", b"\xff", 400),
        ("greet", b"{}", 400),
        ("greet", b'{"place": "x", "more": 1}', 400),
        ("greet", b'{"place": "' + b"x" * answer.MOST + b'"}', 413),
    ],
)
def test_what_is_no_question_is_refused(name, body, status):
    assert page().post(f"/answer/{name}", content=body).status_code == status


def test_a_question_without_a_length_is_refused():
    assert page().post("/answer/greet", content=iter([b'{"place": "x"}'])).status_code == 413


def test_a_page_with_a_password_answers_nobody_who_has_not_logged_in():
    visitor = page([("teacher", "chalk")])
    assert visitor.post("/answer/greet", json=SAID).status_code == 401
    visitor.cookies.set(f"access-token-{visitor.app.cookie_id}", "guessed")
    assert visitor.post("/answer/greet", json=SAID).status_code == 401
    visitor.cookies.clear()
    assert visitor.post("/login", data={"username": "teacher", "password": "chalk"}).status_code == 200
    assert visitor.post("/answer/greet", json=SAID).status_code == 200


def test_a_click_puts_the_question_in_the_browser_alone():
    with gr.Blocks() as blocks:
        place, go = gr.Textbox(), gr.Button("Go")
        result = answer.answer("greet", greet, "")
        go.click(**answer.asking(result, place=place))
    (event,) = blocks.get_config_file()["dependencies"]
    assert event["backend_fn"] is False and event["outputs"] == [result._id] and '["place"]' in str(event["js"])
