"""How well a model foresees a text that it did not write: its perplexity, per character, so that models with different tokens compare.

Jelinek et al. 1977: https://doi.org/10.1121/1.2016299. Per character, not per token: a token of many characters is harder to foresee than one letter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from genkit.core import Problem
from genkit.text.sampling import clean, context_length

MOST = 2000  # tokens that are read
CHUNK = 256  # tokens at a time: the logits of a large vocabulary take memory
AGAIN = 3 / 4  # of the context is read once more where it is full


@dataclass(frozen=True)
class Perplexity:
    """What a model made of a text."""

    perplexity: float  # as undecided, on average, as between so many equally likely characters
    bits_per_character: float
    tokens: int  # that were foreseen
    characters: int  # that they are
    cut: int  # characters at the end that were not read
    unknown: int  # tokens that stand for characters which the model does not know


def perplexity(model, text: str, most: int = MOST) -> Perplexity:
    """Of the first `most` tokens of a text, each foreseen from all before it that fit into the context. Raises Problem for an empty text, or no text.

    A model without a beginning-of-text token cannot foresee the first token, which then does not count.
    """
    text, first = clean(text), model.generation_config.bos_token_id
    if not text:
        raise Problem("the text is empty; write or paste some", "文本是空的；请写一些或粘贴一些")
    found = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids, ends = found.input_ids[:most], [end for _, end in found.offset_mapping[:most]]
    skipped, foreseen = (ends[0], len(ids) - 1) if first is None else (0, len(ids))
    if ends[-1] <= skipped:
        raise Problem("the text is too short for this model: one token alone; write more", "文本对这个模型来说太短，只有一个词元；请多写一些")
    nats = surprise(model, ids if first is None else [first, *ids])
    characters = ends[-1] - skipped
    unknown = ids.count(model.tokenizer.unk_token_id) if model.tokenizer.unk_token_id is not None else 0
    return Perplexity(_exp(nats / characters), nats / characters / math.log(2), foreseen, characters, len(text) - ends[-1], unknown)


def _exp(nats: float) -> float:
    return math.exp(min(nats, 700))  # JSON knows no infinity


@torch.inference_mode()
def surprise(model, ids: list[int]) -> float:
    """-log p of ids[1:], in nats: each after all the tokens before it, as far as the model can look back."""
    length, total, cache, at = context_length(model), 0.0, None, 0
    while at < len(ids) - 1:
        again = []
        if cache is not None and cache.get_seq_length() >= length:
            again, cache = ids[max(0, at - int(AGAIN * length)) : at], None
        room = length - len(again) - (cache.get_seq_length() if cache is not None else 0)
        n = min(CHUNK, room, len(ids) - 1 - at)
        feed = torch.tensor([[*again, *ids[at : at + n]]], device=model.device)
        out = model(input_ids=feed, past_key_values=cache, use_cache=True, logits_to_keep=n)
        total += F.cross_entropy(out.logits[0].float(), torch.tensor(ids[at + 1 : at + n + 1], device=model.device), reduction="sum").item()
        at, cache = at + n, out.past_key_values
    return total
