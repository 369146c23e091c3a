"""Why this token? The text with what the model looked back at, the tokens it is made of, and their bytes. A click on a token asks about that one."""

import asyncio
import math

import gradio as gr

from demos.answer import answer
from demos.i18n import both, escape, told
from demos.pieces import empty, note, refused
from demos.text.views import HOW, LEAST, MEANT, MOST, VIEWS, buttons, called, most, portion
from demos.text.write import checked, percent, visible
from genkit import models, text
from genkit.core import Problem, number

TITLE = ("Why this token?", "为什么是这个词元？")
LESSON = (
    "A token is not chosen out of nothing. Click any token of the text, or walk with the arrow keys, to see what the model had in view when it decided on it.",
    "词元不是凭空选出来的。点文本中的任何一个词元，或用方向键移动，看看模型决定它的时候眼里有什么。",
)
TEXT = "The text, token by token; arrow keys choose one · 文本的各个词元；用方向键选择"
# the text to explain: the prompt, and what was written after it if that is still about this prompt. Nothing is asked while nobody can see the answer.
ASKED = """(now, prompt, model) => {
  if (!document.querySelector('#text-why-result')?.offsetParent || document.querySelector('#text-result .cursor')) return now;
  const shown = document.querySelector('#text-result .tokens'), mine = shown && shown.firstElementChild.textContent === prompt;
  const written = mine ? [...shown.children].slice(1).map((span) => span.textContent).join('') : '';
  if (now && now.prompt === prompt && now.written === written && now.model === model) return now;
  const view = now && now.model === model ? {how: now.how, layer: now.layer, head: now.head} : {how: '', layer: -1, head: -1};
  return {prompt, written, model, ...view, at: -1};
}"""
WALK = """
const pose = (change) => { if (typeof props.value === 'object') { props.value = {...props.value, ...change}; ask(); } };
element.addEventListener('click', (event) => {
  const map = event.target.closest('.glance img');
  if (map) pose({at: 1 + Math.floor(map.dataset.rows * event.offsetY / map.clientHeight)});
  const pick = event.target.closest('[data-ask]');
  if (pick) pose(JSON.parse(pick.dataset.ask));
});
element.addEventListener('keydown', (event) => {
  if (event.target.getAttribute('role') !== 'option') return;
  const all = [...event.target.parentElement.querySelectorAll('[data-ask]')], here = all.indexOf(event.target);
  const to = {ArrowRight: here + 1, ArrowDown: here + 1, ArrowLeft: here - 1, ArrowUp: here - 1, Home: 0, End: all.length - 1, Enter: here, ' ': here}[event.key];
  if (to === undefined) return;
  event.preventDefault();
  const next = all[Math.max(0, Math.min(all.length - 1, to))];
  next.focus(); pose(JSON.parse(next.dataset.ask));
});
const show = () => {
  const box = place.querySelector('.passage'), chosen = place.querySelector('.passage [aria-selected="true"]');
  if (!chosen) return;
  const outside = chosen.getBoundingClientRect(), inside = box.getBoundingClientRect();
  if (outside.bottom > inside.bottom) box.scrollTop += outside.bottom - inside.bottom + 20;
  if (outside.top < inside.top) box.scrollTop += outside.top - inside.top - 40;
};
new MutationObserver(show).observe(place, {childList: true});
new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && trigger('ready'), {rootMargin: '4000px'}).observe(place);
"""


# --- what is asked


async def explain(prompt, written, model, how, layer, head, at) -> str:
    """The section's HTML. It runs while somebody types: a problem stands in its place."""
    try:
        return await asyncio.to_thread(explained, prompt, written, model, how, layer, head, at)
    except Problem as problem:
        return refused(problem)


def explained(prompt, written, model, how, layer, head, at) -> str:
    """Everything about one token of a text. at: its place; 0 or less: what comes next."""
    prompt, written = checked(prompt, model), checked(written, model)
    layer, head = (number(value, -1, 10**4, name, whole=True) for value, name in ((layer, "layer"), (head, "head")))
    with models.guarded():
        network = models.use("text", model)
        seen, ways = text.reading(network, prompt, written), text.ways(network)
        known, last = text.look(network, seen.ids), len(seen.ids)
        at, how = number(at, -1, last, "at", whole=True), how if how in ways else ways[0]
        at = last if at < 1 else at
        shares, aside = VIEWS[how](network, seen, known, at, layer, head)
        said = verdict(network, seen, known, at)
    choice = buttons([(both(*HOW[way]), {"how": way}, way == how) for way in ways], ("How to ask", "怎样提问")) if len(ways) > 1 else ""
    left = f"<div>{passage(seen, shares, at)}{most(seen, shares, at, MOST[how]) if how in MOST else ''}</div>"
    return f'{left_out(seen)}{choice}{note(*MEANT[how])}{said}<div class="why">{left}{aside}</div>{tokeniser(seen)}'


def found_by(prompt, model, layer, head):
    """The text.Attended of a prompt."""
    prompt = checked(prompt, model)
    with models.guarded():
        return text.attended(models.use("text", model), prompt, layer, head)


def text_attention(text: str, model: str = "gpt-shakespeare", layer: int = 0, head: int = -1) -> dict:
    """Where a transformer looked while it read a text: {"tokens", "layers", "heads", "cut", "attention"}.

    tokens: what it read, at most 256; layer: 0 to layers - 1; head: 0 to heads - 1, -1 is the mean of all; cut: characters at the beginning that were left out;
    attention: a row for each token, the share of every token in what it was given there; each row sums to 1, and nothing looks ahead.
    """
    found = found_by(text, model, layer, head)
    rows = [[round(share, 5) for share in row] for row in found.weights.tolist()]
    tokens = [token.text or f"{token.whole}[{token.part}/{token.parts}]" for token in found.reading.tokens]
    return {"tokens": tokens, "layers": found.layers, "heads": found.heads, "cut": found.reading.cut, "attention": rows}


# --- the pieces


def verdict(network, seen, known, at: int) -> str:
    """What the model thought of the token at a place."""
    chance, rank = float(known.chances[at]), int(known.ranks[at])
    stands = called(seen.tokens[at - 1])
    if at == len(seen.ids):
        token = escape(visible(network.tokenizer.decode([known.following]))) or "…"
        en = f"What comes next? Standing at {stands[0]}, the model finds “{token}” likeliest: {percent(chance)}."
        zh = f"接下来是什么？在{stands[1]}处，模型认为最可能的是“{token}”：{percent(chance)}。"
    else:
        token, bits = called(seen.tokens[at]), f"{-math.log2(chance):.1f}" if chance else "∞"
        en = f"{token[0]}: standing at {stands[0]}, the model gave it {percent(chance)}, number {rank + 1:,} on its list. Surprise: {bits} bits."
        zh = f"{token[1]}：在{stands[1]}处，模型给它的机会是 {percent(chance)}，在它的列表中排第 {rank + 1:,}。意外程度：{bits} 比特。"
    return f'<p class="verdict" role="status">{both(en, zh)}</p>'


def passage(seen, shares: list[float], at: int) -> str:
    """The text, token by token, shaded by the shares; a list in which one is chosen."""
    options = [
        option(place, drawn(token), f"{token.kind}{' part' if token.parts > 1 else ''}", shares[place : place + 1], at)
        for place, token in enumerate(seen.tokens)
    ]
    ahead = option(len(seen.ids), both("next", "接下来"), "ahead", [], at)
    return f'<div class="passage" role="listbox" tabindex="-1" aria-label="{TEXT}" id="why-text">{"".join(options)}{ahead}</div>'


def option(place: int, shown: str, kind: str, share: list[float], at: int) -> str:
    """One token to choose; the first has nothing before it that could explain it."""
    state = f'id="why-{place}" tabindex="{0 if place == at else -1}" aria-selected="{"true" if place == at else "false"}" data-ask=\'{{"at": {place}}}\''
    shade = f' style="--a:{100 * math.sqrt(abs(share[0])):.0f}" data-tip="{portion(share[0])}"' if share and abs(share[0]) >= LEAST else ""
    return f'<span role="option" class="{kind}{" less" if shade and share[0] < 0 else ""}" {state if place else "aria-disabled=true"}{shade}>{shown}</span>'


def drawn(token) -> str:
    """A token as it stands in the text (HTML)."""
    if token.parts > 1:
        return f"{escape(token.whole) if token.part == 1 else ''}<small>{token.part}/{token.parts}</small>"
    if token.kind == "special":
        return escape(visible(token.text))
    return escape(token.text).replace("\n", "⏎\n").replace("\t", "⇥") or "�"


def tokeniser(seen) -> str:
    """The tokens with their numbers and bytes."""
    split = sum(token.part == 1 and token.parts > 1 for token in seen.tokens)
    strange = list(dict.fromkeys(token.text for token in seen.tokens if token.kind == "unknown"))
    en, zh = f"{len(seen.tokens)} tokens.", f"共 {len(seen.tokens)} 个词元。"
    if split:
        en, zh = f"{en} {split} of the characters or groups are spread over several tokens, by their bytes.", f"{zh}其中 {split} 处字符按字节拆成了几个词元。"
    warning = note(f"Never seen in training, all read as the same unknown token: {escape(' '.join(strange[:40]))}", f"训练中从未见过，都被读成同一个未知词元：{escape(' '.join(strange[:40]))}", warn=True) if strange else ""  # fmt: skip
    items = "".join(
        f'<li class="{token.kind}"><b>{chip(token)}</b><span>{token.id}</span><code>{token.bytes.hex(" ").upper()}</code></li>' for token in seen.tokens
    )
    title = both("What the model is given: tokens, their numbers, their bytes", "模型得到的是：词元、编号、字节")
    return f'<h4>{title}</h4>{note(en, zh)}{warning}<ol class="bytes" id="why-bytes" tabindex="0" aria-label="Tokens · 词元">{items}</ol>'


def chip(token) -> str:
    if token.parts > 1:
        return f"{escape(visible(token.whole)) or '�'} <small>{token.part}/{token.parts}</small>"
    mark = both(" unknown", " 未知", "small") if token.kind == "unknown" else ""
    return (escape(visible(token.text)) or "�") + mark


def left_out(seen) -> str:
    """That the beginning of a long text is not looked into, if so."""
    if not seen.cut:
        return ""
    return note(
        f"The first {seen.cut:,} characters were left out: this looks into the last {len(seen.ids)} tokens.",
        f"开头的 {seen.cut:,} 个字符未计入：这里只看最后 {len(seen.ids)} 个词元。",
        warn=True,
    )


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    gr.HTML(note(*LESSON))
    result = answer("text-why", explain, empty("Looking back…", "正在回看……"), elem_id="text-why-result", js=WALK)
    asked = {"fn": None, "inputs": [result, parts["prompt"], parts["model"]], "outputs": result, "js": ASKED, "queue": False, "api_visibility": "private"}
    gr.on([parts["prompt"].change, parts["model"].change, parts["result"].change], trigger_mode="always_last", **asked)
    result.ready(**asked)
    gr.api(told(text_attention), api_name="text_attention", concurrency_limit=8)
    parts["why_result"] = result
