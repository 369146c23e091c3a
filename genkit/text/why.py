"""Why this token? How likely each token of a text was, what the model looked back at, and how much each earlier token moved the next one.

Attention: Vaswani et al. 2017, eq. 1: https://arxiv.org/abs/1706.03762; it shows where a head reads from, not what it makes of it
(Jain & Wallace 2019: https://arxiv.org/abs/1902.10186). Gradient x input: Shrikumar et al. 2016: https://arxiv.org/abs/1605.01713.
T tokens, V vocabulary, L layers, H heads. A token is decided on while the model stands at the one before it: of row i, column j, i is where it stands.
"""

from __future__ import annotations

import copy
import math
import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass

import torch
from PIL import Image, ImageColor

from genkit import core
from genkit.core import Problem
from genkit.text import hmm
from genkit.text.tokens import Reading, reading

KEPT = 48_000_000  # bytes of attention that are kept per model, so that the next question about the same text is answered at once
PAPER, INK = "#fffdfa", "#7c2a0a"  # no attention, all of it
SHADES = 63  # in between: few enough that the picture is small, a page holds one for each head


@dataclass(frozen=True)
class Look:
    """What the model thought of a text, token by token."""

    chances: torch.Tensor  # (T + 1,): that the model gave each token; of the first, which nothing comes before, nan; the last: the likeliest next one
    ranks: torch.Tensor  # (T + 1,): how many tokens it thought likelier
    following: int  # the token that it thinks likeliest to come next
    attention: torch.Tensor | None  # (L, H, T, T), half precision; None for a model that has none


@dataclass(frozen=True)
class Attended:
    """Where one head, or all heads of a layer on average, looked."""

    reading: Reading
    weights: torch.Tensor  # (T, T), each row sums to 1
    layers: int
    heads: int


WAYS = {"genkit-ngram": ("counts",), "genkit-hmm": ("path",), "genkit-lstm": ("gradient",)}  # by model_type; every other model is a transformer
INSTEAD = {
    "counts": ("the counts of what followed the same tokens in its corpus", "语料中同样的词元之后各出现过什么的计数"),
    "path": ("the path of its hidden states", "隐藏状态的路径"),
    "gradient": ("how much each earlier token moved the next one (gradient x input)", "前面每个词元对下一个的推动（梯度 × 输入）"),
}


def ways(model) -> tuple[str, ...]:
    """How a model can be asked why: "attention" and "gradient", "counts" or "path"."""
    return WAYS.get(model.config.model_type, ("attention", "gradient"))


def attended(model, text: str, layer: int, head: int) -> Attended:
    """The attention of one head of a layer, counted from 0, to a text; head -1: the mean of all heads. Both are moved into range.

    Raises Problem for a model without attention, which says what it has instead.
    """
    seen = reading(model, text)
    weights = look(model, seen.ids).attention
    if weights is None:
        raise Problem("this model has no attention; it has {instead}", "这个模型没有注意力；它有的是：{instead}", instead=INSTEAD[ways(model)[-1]])
    layers, heads = weights.shape[:2]
    layer, head = core.number(layer, 0, layers - 1, "layer", whole=True), core.number(head, -1, heads - 1, "head", whole=True)
    return Attended(seen, heads_of(weights, layer, head), layers, heads)


def heads_of(attention: torch.Tensor, layer: int, head: int) -> torch.Tensor:
    """(T, T) float32 out of (L, H, T, T): one head of a layer, or the mean of all for head -1."""
    return attention[layer].float().mean(dim=0) if head < 0 else attention[layer, head].float()


def habits(weights: torch.Tensor) -> dict[str, float]:
    """How attention (T, T) is spent, on average over all places but the first: shares that rest on the first token, on the one before, on where it stands; tokens back."""
    rows, steps = weights[1:], torch.arange(len(weights))
    if not len(rows):
        return {"first": 1.0, "before": 0.0, "here": 1.0, "back": 0.0}
    back = ((steps[1:, None] - steps).clamp(min=0) * rows).sum(dim=1)
    return {
        "first": rows[:, 0].mean().item(), "before": weights.diagonal(-1).mean().item(), "here": weights.diagonal()[1:].mean().item(), "back": back.mean().item()
    }  # fmt: skip


def picture(weights: torch.Tensor, side: int = 0) -> Image.Image:
    """Attention (T, T) as a picture, a pixel for each pair, the darker the more; shrunk to `side` pixels if it is larger than that (0: never)."""
    shade = Image.fromarray((weights.clamp(0, 1).sqrt() * SHADES).round().byte().numpy())  # the square root: a tenth is still to be seen
    if side and len(weights) > side:
        shade = shade.resize((side, side), Image.Resampling.BOX)
    paper, ink = ImageColor.getrgb(PAPER), ImageColor.getrgb(INK)
    shade.putpalette([round(low + (high - low) * step / SHADES) for step in range(SHADES + 1) for low, high in zip(paper, ink, strict=True)])
    return shade


# --- one pass forward, kept


_kept: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # model -> its newest Looks, by ids
_twins: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # model -> its twin
_lock = threading.Lock()  # guards both


def look(model, ids: tuple[int, ...]) -> Look:
    """What the model thought of these tokens. The newest answers are kept, as far as they fit into KEPT bytes."""
    with _lock:
        known = _kept.setdefault(model, OrderedDict())
        if ids in known:
            known.move_to_end(ids)
            return known[ids]
    made = _look(model, ids)
    with _lock:
        known[ids] = made
        while len(known) > 1 and sum(_size(each) for each in known.values()) > KEPT:
            known.popitem(last=False)
    return made


def _size(made: Look) -> int:
    return 4096 + (0 if made.attention is None else made.attention.nbytes)


@torch.inference_mode()
def _look(model, ids: tuple[int, ...]) -> Look:
    attentive = "attention" in ways(model)
    options = {"output_attentions": True} if attentive else {}
    out = (_twin(model) if attentive else model)(input_ids=torch.tensor([ids], device=model.device), use_cache=False, **options)
    logits = out.logits[0].float()  # (T, V)
    if suppressed := model.generation_config.suppress_tokens:
        logits[:, suppressed] = -torch.inf
    following = int(logits[-1].argmax())
    targets = torch.tensor([*ids[1:], following], device=logits.device)[:, None]  # (T, 1)
    given = logits.gather(1, targets)
    chances, ranks = (given - logits.logsumexp(dim=1, keepdim=True)).exp(), (logits > given).sum(dim=1)
    first = torch.tensor([math.nan])
    attention = torch.cat([each.half().cpu() for each in out.attentions]) if attentive and out.attentions and out.attentions[0] is not None else None
    return Look(torch.cat([first, chances[:, 0].cpu()]), torch.cat([first, ranks.cpu()]), following, attention)


def _twin(model):
    """The same weights as a model that hands out its attention: the fast kernels that everybody writes with never hold it whole.

    Setting the shared model to the slow ones would change it under those who are reading; the twin is a second model of the same tensors.
    """
    with _lock:
        if model not in _twins:
            config = copy.deepcopy(model.config)
            config._attn_implementation = "eager"
            shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
            # tokenizer, settings, engines that write faster: a twin that is only looked into needs none of what was hung onto the model
            left = {id(value): None for name, value in vars(model).items() if not name.startswith("_") and hasattr(value, "__dict__")}
            _twins[model] = copy.deepcopy(model, {**left, **shared, id(model.config): config})
            _twins[model].get_input_embeddings().register_forward_hook(_catch)
        return _twins[model]


# --- gradients


_caught = threading.local()  # .leaf: the embeddings that this thread's pass forward started from, if it asked for them


def _catch(module, args, output):
    """The hook of a twin's embeddings: begins the thread's graph here, if it wants one; visitors share the twin."""
    if getattr(_caught, "wanted", False):
        _caught.leaf = output.detach().requires_grad_()
        return _caught.leaf
    return None


def attributions(model, ids: tuple[int, ...], at: int) -> torch.Tensor:
    """How much each token before place `at` (1 to T; T is the next token, the likeliest one) spoke for the token there, (at,): gradient x input of its logit.

    Input: the token's embedding. Positive: made it likelier. For a model that is linear in its embeddings they sum to the logit.
    """
    target = look(model, ids).following if at == len(ids) else ids[at]
    try:
        _caught.wanted = True
        with torch.enable_grad():
            logits = _twin(model)(input_ids=torch.tensor([ids[:at]], device=model.device), use_cache=False).logits
            (gradient,) = torch.autograd.grad(logits[0, -1, target].float(), _caught.leaf)
        return (gradient * _caught.leaf).detach()[0].sum(dim=-1).float().cpu()
    finally:
        _caught.wanted, _caught.leaf = False, None


# --- hidden states


@dataclass(frozen=True)
class Walk:
    """The states that a hidden Markov model imagines behind a text."""

    states: tuple[int, ...]  # the likeliest path, a state for each token
    sure: tuple[float, ...]  # how likely that state is there, given the whole text
    beliefs: torch.Tensor  # (T, K): the same of every state
    following: tuple[tuple[int, float], ...]  # the likeliest states of the next token


def walk(model, ids: tuple[int, ...], k: int = 3) -> Walk:
    """The path of states behind a text, and the k likeliest states after it. Rabiner 1989, section III: https://doi.org/10.1109/5.18626."""
    states, beliefs = hmm.path(model, list(ids))
    sure = beliefs[torch.arange(len(states)), torch.tensor(states)]
    return Walk(tuple(states), tuple(sure.tolist()), beliefs, _top(beliefs[-1] @ model.chances()[1].cpu(), k))


def likes(model, state: int, k: int = 5) -> tuple[tuple[int, float], ...]:
    """The k tokens that a state says most often, and how often."""
    return _top(model.chances()[2][state], k)


def leads(model, state: int, k: int = 3) -> tuple[tuple[int, float], ...]:
    """The k states that follow a state most often, and how often."""
    return _top(model.chances()[1][state], k)


def _top(chances: torch.Tensor, k: int) -> tuple[tuple[int, float], ...]:
    found = chances.topk(min(k, len(chances)))
    return tuple(zip(found.indices.tolist(), found.values.tolist(), strict=True))
