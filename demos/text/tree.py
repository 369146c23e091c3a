"""A tree of branches: every place that a visitor came by, to go back to. It lives in the browser, in this tab of it alone, and a reload keeps it."""

import json

import gradio as gr

from demos.i18n import both
from demos.pieces import note

TITLE = ("Branches", "分枝")
LESSON = (
    "One beginning, many texts. Every token that you append, every text that is written on and every place that you go back to is kept here. Click one to go back to it and try another way.",
    "一个开头，许多文章。您接上的每个词元、续写出的每段文字、回到过的每个位置都记在这里。点一个就回到那里，试试另一条路。",
)
MOST = 60  # places; the leaf that was not used for longest goes first
LONGEST = 20_000  # characters of a place
SHOWN = 48  # characters of what a place adds
WORDS = {
    "empty": ("Nothing yet: append a token from the list above, or press “Write on”.", "还没有：从上面的表里接一个词元，或点“续写”。"),
    "typed": ("typed", "输入的"),
    "nothing": ("(an empty beginning)", "（空的开头）"),
    "bits": ("bits", "比特"),
}
TEMPLATE = f"""<div class="tree"><div role="tree" aria-label="Branches; Enter goes back there, Delete forgets one · 分枝；回车回到那里，Delete 键忘掉它"></div>
<p class="note">{both(f"The last {MOST} places, kept in this tab of your browser only.", f"最近的 {MOST} 个位置，只保存在浏览器的这个标签页里。")}</p>
<div class="picks"><button type="button" class="prune">{both("Forget this branch", "忘掉这一枝")}</button>
<button type="button" class="fell">{both("Forget all", "全部忘掉")}</button></div></div>"""
# A place is the whole text up to there, so the tree need not be stored: the parent of a place is the longest other place that it begins with.
# bits: the surprise of what it adds to its parent, by the model; null if nobody asked a model.
GROW = """
const KEY = 'genkit-branches', WORDS = __WORDS__, tree = element.querySelector('[role="tree"]');
const box = () => document.querySelector('#text-prompt textarea');
const sound = (place) => typeof place?.text === 'string' && place.text.length <= __LONGEST__ && (place.bits === null || Number.isFinite(place.bits));
const load = () => { try { return JSON.parse(sessionStorage.getItem(KEY)).filter(sound).slice(-__MOST__); } catch (error) { return memory; } };
const save = () => { try { sessionStorage.setItem(KEY, JSON.stringify(memory)); } catch (error) {} };
let memory = [], chosen = null;
const folded = new Set();
const below = (text, other) => other.length > text.length && other.startsWith(text);
const find = (text) => memory.find((each) => each.text === text);
const parent = (text) => memory.filter((each) => below(each.text, text)).sort((a, b) => b.text.length - a.text.length)[0];
const since = (text, from) => {  // bits that the model gave the way from one place down to another, null if it was not asked about a piece of it
  let bits = 0, at = find(text);
  for (; at && at.text !== from; at = parent(at.text)) {
    if (at.bits === null || at.model !== props.value) return null;
    bits += at.bits;
  }
  return at ? bits : null;
};
const add = (text, kind, from = null, bits = null, tokens = 1) => {
  if (text.length > __LONGEST__) return;
  const known = find(text);
  const above = parent(text), way = above && from !== null && above.text !== from ? since(above.text, from) : 0;
  const own = bits === null || way === null ? null : Math.max(0, bits - way), place = {text, kind, bits: own, tokens, model: props.value};
  if (known) { if (known.bits === null && own !== null) Object.assign(known, place); }
  else for (const child of memory.filter((each) => below(text, each.text) && parent(each.text) === above)) {
    child.bits = own === null || child.bits === null || child.model !== place.model ? null : Math.max(0, child.bits - own);
    child.tokens = Math.max(1, child.tokens - tokens);
  }
  if (!known) memory.push(place);
  (known || place).used = 1 + Math.max(0, ...memory.map((each) => each.used || 0));
  while (memory.length > __MOST__) {
    const leaves = memory.filter((each) => each.text !== text && !memory.some((other) => below(each.text, other.text)));
    memory.splice(memory.indexOf(leaves.sort((a, b) => a.used - b.used)[0]), 1);
  }
};
const record = (change) => { if (!element.isConnected) return; memory = load(); change(); save(); draw(); };
const both = (tag, [en, zh], text = (words) => words) => [['en', en], ['zh', zh]].map(([lang, words]) => Object.assign(document.createElement(tag), {lang, textContent: text(words)}));
const visible = (text) => text.replace(/ /g, '␣').replace(/\\n/g, '⏎').replace(/\\t/g, '⇥');
const short = (text) => { const all = [...visible(text)]; return all.length > __SHOWN__ ? all.slice(0, __SHOWN__ - 14).join('') + ' … ' + all.slice(-11).join('') : all.join(''); };
const percent = (chance) => chance >= 0.095 ? (100 * chance).toFixed(0) + ' %' : chance >= 0.00095 ? +(100 * chance).toPrecision(1) + ' %' : '< 0.1 %';
const current = () => [...tree.children].forEach((item) => item.setAttribute('aria-current', item.place === box()?.value));
const row = (place, above, depth, indent, kin, index, grown, several) => {
  const item = document.createElement('div'), added = place.text.slice(above ? above.text.length : 0);
  const label = document.createElement('b'), said = document.createElement('span');
  if (added) label.textContent = short(added); else label.append(...both('span', WORDS.nothing));
  if (place.bits !== null) {
    if (place.tokens === 1) said.append(percent(2 ** -place.bits), ' · ');
    said.append(...both('span', WORDS.bits, (words) => place.bits.toFixed(1) + ' ' + words));
    if (several) said.append(' · ' + place.model);
  } else if (place.kind === 'typed') said.append(...both('span', WORDS.typed));
  item.append(label, said); item.title = place.text.slice(-300); item.place = place.text;
  item.style.setProperty('--in', Math.min(8, indent)); item.classList.toggle('fork', kin > 1 && depth > 1);
  const states = {role: 'treeitem', tabindex: place.text === chosen ? 0 : -1, 'aria-level': depth, 'aria-setsize': kin, 'aria-posinset': index + 1, 'aria-selected': place.text === chosen};
  if (grown) states['aria-expanded'] = !folded.has(place.text);
  for (const [name, value] of Object.entries(states)) item.setAttribute(name, value);
  return item;
};
const draw = () => {
  const focus = tree.contains(document.activeElement), rows = [], grown = new Map();
  const several = new Set(memory.filter((each) => each.bits !== null).map((each) => each.model)).size > 1;
  for (const each of memory) { const up = parent(each.text)?.text; grown.set(up, [...(grown.get(up) || []), each]); }
  if (!find(chosen)) chosen = (find(box()?.value) ?? memory.at(-1))?.text ?? null;
  const grow = (above, depth, indent) => (grown.get(above?.text) || []).forEach((place, index, kin) => {
    const inward = indent + (above && kin.length > 1 ? 1 : 0);
    rows.push(row(place, above, depth, inward, kin.length, index, grown.has(place.text), several));
    if (!folded.has(place.text)) grow(place, depth + 1, inward);
  });
  grow(null, 1, 0);
  if (rows.length && !rows.some((each) => each.place === chosen)) { chosen = rows[0].place; rows[0].tabIndex = 0; rows[0].setAttribute('aria-selected', 'true'); }
  tree.replaceChildren(...rows);
  tree.setAttribute('role', rows.length ? 'tree' : 'presentation');
  element.querySelectorAll('.picks button').forEach((button) => { button.disabled = !rows.length; });
  current();
  if (!rows.length) { tree.append(...both('p', WORDS.empty)); return; }
  const here = rows.find((each) => each.place === chosen);
  if (focus) here.focus({preventScroll: true});
  tree.scrollTop = Math.max(here.offsetTop + here.offsetHeight - tree.clientHeight, Math.min(tree.scrollTop, here.offsetTop));
};
const choose = (text, back) => {
  chosen = text;
  if (back && box()) { box().value = text; box().dispatchEvent(new Event('input', {bubbles: true})); }
  draw();
};
const prune = () => record(() => { const up = parent(chosen)?.text; memory = memory.filter((each) => each.text !== chosen && !below(chosen, each.text)); chosen = up ?? null; });
tree.addEventListener('click', (event) => { const item = event.target.closest('[role="treeitem"]'); if (item) choose(item.place, true); });
tree.addEventListener('keydown', (event) => {
  const all = [...tree.children], here = all.indexOf(event.target.closest('[role="treeitem"]')), text = all[here]?.place;
  if (here < 0) return;
  const open = all[here].getAttribute('aria-expanded'), up = all.findIndex((each) => each.place === parent(text)?.text);
  const to = {ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: all.length - 1, ArrowRight: open === 'true' ? here + 1 : here, ArrowLeft: open === 'true' ? here : up}[event.key];
  if (event.key === 'Enter' || event.key === ' ') choose(text, true);
  else if (event.key === 'Delete') prune();
  else if (to === undefined) return;
  else {
    if (event.key === 'ArrowLeft' && open === 'true') folded.add(text);
    if (event.key === 'ArrowRight' && open === 'false') folded.delete(text);
    choose(all[Math.max(0, Math.min(all.length - 1, to))].place, false);
  }
  event.preventDefault();
});
element.querySelector('.prune').addEventListener('click', prune);
element.querySelector('.fell').addEventListener('click', () => record(() => { memory = []; chosen = null; folded.clear(); }));
const pieces = (shown) => { const [mine, ...spans] = shown.children; return [mine.textContent, spans.map((span) => ({text: span.textContent, bits: +span.dataset.bits}))]; };
const keep = (mine, spans, kind) => record(() => {
  const total = spans.reduce((sum, span) => sum + span.bits, 0), whole = mine + spans.map((span) => span.text).join('');
  add(mine, 'typed');
  if (spans.length) add(whole, kind, mine, Number.isFinite(total) ? total : null, spans.length);
});
// before the list or the text answers the click: what is in the prompt now is where the branch begins
document.addEventListener('click', (event) => {
  const token = event.target.closest?.('#text-next button[data-text]');
  if (token && box()) record(() => { const from = box().value, text = from + token.dataset.text; add(from, 'typed'); add(text, 'token', from, token.dataset.bits ? +token.dataset.bits : null); chosen = text; });
}, true);
['click', 'keydown'].forEach((kind) => document.addEventListener(kind, (event) => {
  const token = event.target.closest?.('#text-result .tokens [role="button"]');
  if (!token || (kind === 'keydown' && event.key !== 'Enter')) return;
  const [mine, spans] = pieces(token.parentElement);
  keep(mine, spans.slice(0, [...token.parentElement.children].indexOf(token) - 1), 'back');
}, true));
let seen = null;
const written = () => {
  const shown = document.querySelector('#text-result .tokens');
  if (shown && shown !== seen) { seen = shown; keep(...pieces(shown), 'written'); }
};
new MutationObserver(written).observe(element.closest('[role="tabpanel"]') || document.body, {childList: true, subtree: true});  // the text may come after this
document.addEventListener('input', (event) => { if (event.target === box() && element.isConnected) current(); });
memory = load(); draw(); written();
"""


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    gr.HTML(note(*LESSON))
    grow = GROW
    for name, value in {"__WORDS__": json.dumps(WORDS, ensure_ascii=False), "__MOST__": MOST, "__LONGEST__": LONGEST, "__SHOWN__": SHOWN}.items():
        grow = grow.replace(name, str(value))
    tree = gr.HTML(parts["model"].value, html_template=TEMPLATE, js_on_load=grow, elem_id="text-tree-result")
    parts["model"].change(None, parts["model"], tree, js="(model) => model", queue=False, api_visibility="private")
