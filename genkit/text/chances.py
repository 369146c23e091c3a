"""What may come next: the likeliest tokens after a text, by the model itself and as temperature, top-k, top-p and repetition penalty leave them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from genkit import core
from genkit.text import readers
from genkit.text.sampling import checked, choices, fit


@dataclass(frozen=True)
class Candidate:
    """One token that may come next, with its probability before and after the settings."""

    token: int
    text: str  # "\ufffd" in it: the token is a part of a character
    model: float
    drawn: float


@dataclass(frozen=True)
class Chances:
    """What may come after a text."""

    candidates: tuple[Candidate, ...]  # the likeliest by the model first
    left: int  # tokens that the settings leave a chance
    entropy: float  # of the model's own distribution, in bits: as undecided as between 2 ** entropy equal chances
    cut: int  # characters at the beginning of the text that did not fit into the context


def next_tokens(model, prompt: str, *, k=10, temperature=1.0, top_k=0, top_p=1.0, repetition_penalty=1.0) -> Chances:
    """The k likeliest tokens after `prompt` (1 to 100). For a chat model: the beginning of its answer.

    Raises Problem for a prompt that is no text, or an empty one to a chat model.
    """
    k, settings = core.number(k, 1, 100, "k", whole=True), checked(temperature, top_k, top_p, repetition_penalty)
    ids, cut = fit(model, prompt)
    logits = readers.after(model, ids)
    own, drawn = logits.softmax(dim=-1), choices(logits, ids, **settings)
    first = own.topk(min(k, len(own)))
    candidates = (
        Candidate(token, model.tokenizer.decode([token]), chance, drawn[token].item())
        for token, chance in zip(first.indices.tolist(), first.values.tolist(), strict=True)
    )
    return Chances(tuple(candidates), int((drawn > 0).sum()), -torch.xlogy(own, own).sum().item() / math.log(2), cut)
