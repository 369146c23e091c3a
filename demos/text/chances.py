"""What may come next: the chances of the likeliest tokens, which move with every letter and every slider; a click appends one."""

import asyncio
import math

import gradio as gr

from demos.answer import answer, asking
from demos.i18n import both, escape, told
from demos.pieces import UNFOLDED, empty, note, refused
from demos.text.write import checked, daring, lost, percent, visible
from genkit import models, text
from genkit.core import Problem, number

TITLE = ("What may come next", "下一个会是什么")
LESSON = (
    "All that the model ever says is this list. The pale bar is what it thinks itself, the dark one what temperature, top-k, top-p and repetition penalty make of that: from these one is drawn. "
    "Click a token to append it, and see what it leads to.",
    "模型说出的其实只有这张表。浅色条是它自己的想法，深色条是经过温度、Top-k、Top-p 和重复惩罚之后的机会：就从中抽一个。点一个词元把它接上，看看会引向哪里。",
)
SHOWN = 10  # tokens
PART = "\ufffd"  # in a token that is a part of a character
# a click on a token of the list appends it to the beginning; one on a token that was written goes back to before it
BRANCH = """
const put = (text) => {
  const box = document.querySelector('#text-prompt textarea');
  box.value = text; box.dispatchEvent(new Event('input', {bubbles: true}));
};
element.addEventListener('click', (event) => {
  const token = event.target.closest('button[data-text]');
  if (token) put(document.querySelector('#text-prompt textarea').value + token.dataset.text);
});
const back = (event) => {
  const token = event.target.closest?.('#text-result .tokens [role="button"]');
  if (!token || (event.type === 'keydown' && event.key !== 'Enter')) return;
  const all = [...token.parentElement.children];
  put(all.slice(0, all.indexOf(token)).map((span) => span.textContent).join(''));
  element.scrollIntoView({block: 'nearest', behavior: 'smooth'});
};
['click', 'keydown'].forEach((kind) => document.addEventListener(kind, back));
unfolded(place, () => trigger('ready'));
"""


def ahead(prompt, model, k, *settings):
    """The text.Chances after a prompt."""
    prompt, k, settings = checked(prompt, model), number(k, 1, 100, "k", whole=True), daring(*settings)
    with models.guarded():
        return text.next_tokens(models.use("text", model), prompt, k=k, **settings)


def text_next(
    prompt: str, model: str = "gpt-shakespeare", k: int = 10, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, repetition_penalty: float = 1.0
) -> dict:
    """What may come after `prompt`: {"tokens", "left", "entropy"}.

    tokens: the k likeliest, each with its text, its id, "model", the probability that the model gives it, and "drawn", the one that the settings leave it;
    left: tokens with any chance left; entropy: of the model's own distribution, in bits.
    """
    found = ahead(prompt, model, k, temperature, top_k, top_p, repetition_penalty)
    tokens = [{"token": each.token, "text": each.text, "model": each.model, "drawn": each.drawn} for each in found.candidates]
    return {"tokens": tokens, "left": found.left, "entropy": found.entropy}


async def look(prompt, model, temperature, top_k, top_p, repetition_penalty) -> str:
    """The list as the page shows it. It runs while somebody types: a problem stands in its place."""
    try:
        return listed(await asyncio.to_thread(ahead, prompt, model, SHOWN, temperature, top_k, top_p, repetition_penalty))
    except Problem as problem:
        return refused(problem)


def listed(found) -> str:
    rows = "".join(
        f'<li><button type="button" data-text="{escape(each.text)}" data-bits="{-math.log2(each.model) if each.model else ""}"{" disabled" if PART in each.text else ""}>{named(each)}</button>'
        f'<i style="--m:{100 * each.model:.1f}%;--d:{100 * each.drawn:.1f}%"></i>'
        f"<span>{percent(each.model)} → <b>{percent(each.drawn) if each.drawn else '0'}</b></span></li>"
        for each in found.candidates
    )
    said = note(
        f"{found.left:,} tokens have a chance. The model is as undecided as between {2**found.entropy:.1f} equal ones ({found.entropy:.1f} bits).",
        f"有机会的词元共 {found.left:,} 个。模型的犹豫程度相当于在 {2**found.entropy:.1f} 个机会均等的词元之间选择（{found.entropy:.1f} 比特）。",
    )
    return f'<ol class="chances">{rows}</ol>{said}{lost(found.cut)}'


def named(each) -> str:
    """A token so that one can see it."""
    if PART in each.text:
        return both(f"part of a character ({each.token})", f"字符的一部分（{each.token}）")
    return escape(visible(each.text)) or both("the end", "结束")


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    gr.HTML(note(*LESSON))
    controls = {name: parts[name] for name in ("prompt", "model", "temperature", "top_k", "top_p", "repetition_penalty")}
    result = answer("text-next", look, empty("Type a beginning, or move a slider.", "请输入开头，或拖动滑块。"), elem_id="text-next", js=UNFOLDED + BRANCH)
    gr.on([control.change for control in controls.values()], trigger_mode="always_last", **asking(result, **controls))
    result.ready(**asking(result, **controls))
    gr.api(told(text_next), api_name="text_next", concurrency_limit=8)
