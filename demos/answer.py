"""A result that asks for itself: its value is HTML, or a question, a dict, which the server answers with HTML past Gradio's queue and events.

An event of Gradio costs the server several times what sixteen digits do, and its queue tells every waiting visitor about every other one. So a click sets
the question in the browser, and the answer comes from ROUTE. The next question leaves when the last one is answered, and is always the newest.
"""

import inspect
import json
from collections.abc import Awaitable, Callable

import gradio as gr
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from demos.i18n import both

MOST = 2**17  # bytes of a question
FAILED = f'<p class="note warn">{both("The server did not answer. Is it still running?", "服务器没有回应。它还在运行吗？")}</p>'
ASK = """
const place = element.firstElementChild;
let answered = null, busy = false;
const answer = async (question) => {
  const address = `${window.gradio_config?.root || ''}/answer/${props.asks}`, body = JSON.stringify(question);
  try {
    const given = await fetch(address, {method: 'POST', headers: {'Content-Type': 'application/json'}, body});
    if (given.ok) return await given.text();
  } catch (error) {}
  return FAILED;
};
// what has an id keeps its focus and its scroll, and stays open
const held = () => {
  const focus = place.contains(document.activeElement) && document.activeElement.id;
  const open = [...place.querySelectorAll('details[open][id]')].map((each) => each.id);
  const scrolled = [...place.querySelectorAll('[id]')].filter((each) => each.scrollTop).map((each) => [each.id, each.scrollTop]);
  const now = (id) => (id ? place.querySelector('#' + CSS.escape(id)) : null);
  return () => {
    open.forEach((id) => now(id)?.setAttribute('open', ''));
    scrolled.forEach(([id, top]) => { if (now(id)) now(id).scrollTop = top; });
    now(focus)?.focus({preventScroll: true});
  };
};
const ask = async () => {
  if (busy) return;
  busy = true; place.setAttribute('aria-busy', 'true');
  while (answered !== props.value) {
    const asked = props.value;
    const given = typeof asked === 'string' ? asked : await answer(asked), restore = held();
    place.innerHTML = given; restore();
    answered = asked;
  }
  busy = false; place.removeAttribute('aria-busy');
};
watch('value', ask);
ask();
""".replace("FAILED", f"`{FAILED}`")
_responders: dict[str, Callable[..., Awaitable[str]]] = {}


def answer(name: str, respond: Callable[..., Awaitable[str]], value: str, *, js: str = "", **options) -> gr.HTML:
    """The component, which asks /answer/`name`. respond(**question) gives HTML; value: HTML to begin with; js: what else it does once it is there."""
    _responders[name] = respond
    return gr.HTML(value, html_template="<div></div>", js_on_load=ASK + js, asks=name, **options)


def asking(result: gr.HTML, **controls) -> dict:
    """The arguments of an event that puts the question {name: value of its control} to `result`."""
    put = f"(...values) => Object.fromEntries({json.dumps(list(controls))}.map((name, index) => [name, values[index]]))"
    return {"fn": None, "inputs": list(controls.values()), "outputs": result, "js": put, "queue": False, "api_visibility": "private"}


async def respond(request: Request) -> Response:
    """POST {...} to /answer/NAME: the HTML. 401 for who has not logged in, 404 for no such name, 413 and 400 for what is no question."""
    if not _admitted(request):
        return Response(status_code=401)
    responder = _responders.get(request.path_params["name"])
    if responder is None:
        return Response(status_code=404)
    if not int(request.headers.get("content-length", MOST + 1)) <= MOST:
        return Response(status_code=413)
    try:
        question = json.loads(await request.body())
        inspect.signature(responder).bind(**question)
    except (ValueError, TypeError):
        return Response(status_code=400)
    return Response(await responder(**question), media_type="text/html")


def _admitted(request: Request) -> bool:
    """Whether Gradio would let this visitor in: there is no --auth, or they have logged in."""
    app = request.app
    return app.auth is None or any(request.cookies.get(f"access-token-{kind}{app.cookie_id}") in app.tokens for kind in ("", "unsecure-"))


ROUTE = Route("/answer/{name}", respond, methods=["POST"])
