"""Counting: how often did each token follow the last few ones? The model is the text it has learnt, and its places in the order of what stands there.

Interpolated, modified Kneser-Ney smoothing. Chen & Goodman 1999, section 3: https://doi.org/10.1006/csla.1999.0128 (eq. 26 in TR-10-98).
An n-gram is n tokens in a row; its first n - 1 are the context. Q contexts, V vocabulary. Tokens count from 1 inside the index, 0 is beyond the end of the text.
"""

from __future__ import annotations

import copy
import threading
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PretrainedConfig

from genkit.text.rung import Rung, register

ORDER = 8  # the highest
BLOCK = 128  # contexts at a time: what is made for them stays in the processor's cache
FEW = (0.5, 0.75, 0.9)  # the discounts where a text is too short to estimate them


class NgramConfig(PretrainedConfig):
    model_type = "genkit-ngram"

    def __init__(self, vocab_size: int = 2, n_tokens: int = 0, order: int = 6, max_position_embeddings: int = 256, **others):
        super().__init__(**{"tie_word_embeddings": False, **others})
        self.vocab_size, self.n_tokens, self.order, self.max_position_embeddings = vocab_size, n_tokens, order, max_position_embeddings


class Index:
    """All places of a text, sorted by the 8 tokens that stand there: those of any n-gram, n <= 8, lie side by side, and two binary searches find them.

    The n-grams that begin with one context lie side by side as well, sorted by their last token: a slice of them is all that ever followed it.
    """

    def __init__(self, ids: np.ndarray, vocab_size: int):
        self.base, n = vocab_size + 1, len(ids)
        self.text = np.concatenate([ids.astype(np.int64) + 1, np.zeros(ORDER, np.int64)])
        self.fours, rank = np.unique(self._packed(np.stack([self.text[i : n + 4 + i] for i in range(4)], axis=1)), return_inverse=True)
        keys = rank[:n] * len(self.fours) + rank[4 : n + 4]  # eight tokens: two ranks of four, whatever V is
        self.places = np.argsort(keys, kind="stable").astype(np.int32)
        self.keys = keys[self.places]
        self.shared = np.zeros(n, np.uint8)  # how many tokens a place has in common with the one before it in the order
        same = np.ones(max(n - 1, 0), bool)
        for i in range(ORDER):
            same &= self.text[self.places[1:] + i] == self.text[self.places[:-1] + i]
            self.shared[1:] += same
        self._building, self._made = threading.Lock(), {}

    def _packed(self, grams: np.ndarray) -> np.ndarray:
        """Up to four tokens (Q, n) as one number each."""
        return grams @ self.base ** np.arange(grams.shape[1] - 1, -1, -1, dtype=np.int64)

    def find(self, grams: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the places of n-grams (Q, n) begin and end in `places`; n 0 to 8. An n-gram with a 0 in it stands nowhere."""
        (n, length), size = grams.shape, len(self.fours)
        if not length:
            return np.zeros(n, np.int64), np.full(n, len(self.places))
        low, high = self._find_four(grams[:, :4])
        if length > 4:
            first, there = low, high > low
            low, high = (np.where(there, first * size + found, 0) for found in self._find_four(grams[:, 4:]))
        else:
            low, high = low * size, high * size
        low, high = np.searchsorted(self.keys, low), np.searchsorted(self.keys, high)
        return low, np.where((grams == 0).any(axis=1), low, high)

    def _find_four(self, grams: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        key, width = self._packed(grams), self.base ** (4 - grams.shape[1])
        return np.searchsorted(self.fours, key * width), np.searchsorted(self.fours, (key + 1) * width)

    def followers(self, contexts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of the distinct n-grams, a slice of starts(n), begin with these contexts (Q, n - 1): from, to."""
        n = contexts.shape[1] + 1
        starts = self.starts(n)
        first, last = (np.searchsorted(starts, found.astype(np.int32)) for found in self.find(contexts))  # of one kind, or all of `starts` is copied
        ends = (first < last) & (self.last_tokens(n, np.minimum(first, len(starts) - 2)) < 0)
        return first + ends, last  # where the text ends nothing follows

    def starts(self, n: int) -> np.ndarray:
        """Where each distinct n-gram begins in `places`, and the end of the last one."""
        return self._once(("starts", n), lambda: np.append(np.flatnonzero(self.shared < n), len(self.places)).astype(np.int32))

    def last_tokens(self, n: int, which: np.ndarray) -> np.ndarray:
        """The last token of these distinct n-grams; -1 if the text ends before it."""
        return self.text[self.places[self.starts(n)[which]] + n - 1] - 1

    def counts(self, n: int) -> np.ndarray:
        """How often each distinct n-gram stands in the text."""
        return self._once(("counts", n), lambda: np.diff(self.starts(n)))

    def kinds(self, n: int) -> np.ndarray:
        """After how many different tokens each distinct n-gram stands in the text: the counts of Kneser and Ney, n at most 7."""

        def made():
            longer, starts = self.places[self.starts(n + 1)[:-1]], self.starts(n)
            rank = np.empty(len(self.places) + 1, np.int32)
            rank[self.places], rank[-1] = np.arange(len(self.places)), -1
            inner = rank[longer + 1]  # an (n + 1)-gram without its first token
            found = np.searchsorted(starts, inner[inner >= 0], side="right") - 1
            return np.maximum(np.bincount(found, minlength=len(starts) - 1), 1).astype(np.int32)  # the text's first has nothing before it

        return self._once(("kinds", n), made)

    def discounts(self, n: int, highest: bool) -> np.ndarray:
        """What is taken off a count of 1, of 2, and of 3 or more, to be given to what never followed. Chen & Goodman, eq. 26."""

        def made():
            few = np.bincount(np.minimum(self.counts(n) if highest else self.kinds(n), 5), minlength=6)[1:5].astype(float)
            if not few.all():
                return np.array(FEW)
            y = few[0] / (few[0] + 2 * few[1])
            return np.maximum([k - (k + 1) * y * few[k] / few[k - 1] for k in (1, 2, 3)], 0.05)

        return self._once(("discounts", n, highest), made)

    def _once(self, key, make):
        if key not in self._made:
            made = make()
            with self._building:
                self._made.setdefault(key, made)
        return self._made[key]

    def level(self, contexts: np.ndarray, highest: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """What one order says after contexts (Q, n - 1): rows, tokens and probabilities of all that ever followed, discounted; and the weight of the order below, (Q,)."""
        n = contexts.shape[1] + 1
        first, last = self.followers(contexts)
        found = last - first
        rows = np.repeat(np.arange(len(contexts)), found)
        which = np.arange(len(rows)) + np.repeat(first - np.cumsum(found) + found, found)
        counts = (self.counts(n) if highest else self.kinds(n))[which]
        off = self.discounts(n, highest)[np.minimum(counts, 3) - 1]
        total = np.bincount(rows, counts, minlength=len(contexts))
        below = np.where(found > 0, np.bincount(rows, off, minlength=len(contexts)) / np.maximum(total, 1), 1.0)
        return rows, self.last_tokens(n, which), np.maximum(counts - off, 0) / total[rows], below


class Ngram(Rung):
    """p(token | context) = discounted count / count of the context + weight x p(token | context without its first token); below the first order all are equal.

    The highest order counts how often, the lower ones after how many different tokens. `corpus` is what was counted, (n_tokens,).
    """

    def __init__(self, config: NgramConfig):
        super().__init__(config)
        kind = torch.uint8 if config.vocab_size <= 2**8 else torch.int16 if config.vocab_size <= 2**15 else torch.int32
        self.register_buffer("corpus", torch.zeros(config.n_tokens, dtype=kind))
        self._indexing, self._shelf = threading.Lock(), {}
        self.post_init()

    @property
    def device(self) -> torch.device:
        return self.corpus.device

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    def check(self) -> None:
        if not 1 <= self.config.order <= ORDER:
            raise ValueError(f"order {self.config.order}, must be 1 to {ORDER}")
        if len(self.corpus) and not 0 <= int(self.corpus.min()) <= int(self.corpus.max()) < self.config.vocab_size:
            raise ValueError(f"a token outside the vocabulary of {self.config.vocab_size}")

    def index(self) -> Index:
        """Of the corpus; sorted when it is first asked for, about a second a million tokens."""
        with self._indexing:
            if self._shelf.get("text") is not self.corpus:
                self._shelf |= {"index": Index(self.corpus.cpu().numpy(), self.config.vocab_size), "text": self.corpus}
            return self._shelf["index"]

    def prepare(self) -> None:
        """Sort and count all that its order needs: the first token then comes as fast as the others."""
        self.probabilities(np.full((1, ORDER - 1), -1))

    def num_parameters(self, *_, **__) -> int:
        """Its numbers are its counts: the distinct n-grams of all orders up to its own."""
        return sum(len(self.index().starts(n)) - 1 for n in range(1, self.config.order + 1)) if len(self.corpus) else 0

    @torch.no_grad()
    def read(self, ids, memory, keep):
        before = memory[0] if memory else torch.full((len(ids), ORDER - 1), -1, device=ids.device)  # -1: before the beginning
        whole = torch.cat([before, ids], dim=1)
        past = whole[:, -(keep + ORDER - 2) :].unfold(1, ORDER - 1, 1)  # (B, keep, 7): the tokens before each that is asked for
        past = past.reshape(-1, ORDER - 1).cpu().numpy()
        probs = np.concatenate([self.probabilities(past[i : i + BLOCK]) for i in range(0, len(past), BLOCK)])
        return torch.from_numpy(probs).log().float().view(len(ids), keep, -1).to(ids.device), (whole[:, 1 - ORDER :],)

    def probabilities(self, past: np.ndarray) -> np.ndarray:
        """Of each next token, (Q, V), after the tokens `past` (Q, 7); -1 for none."""
        probs, order = np.full((1, self.config.vocab_size), 1 / self.config.vocab_size), self.config.order if len(self.corpus) else 0
        for n in range(1, order + 1):
            if n == 2:
                probs = probs.repeat(len(past), axis=0)  # the first order says the same after everything
            rows, tokens, own, below = self.index().level(past[: len(probs), ORDER - n :] + 1, n == order)
            probs *= below[:, None]
            probs[rows, tokens] += own
        return probs if order > 1 else probs.repeat(len(past), axis=0)


def of_order(model: Ngram, order: int) -> Ngram:
    """The same counts read with another order, 1 to 8. The model itself, which visitors share, stays as it is."""
    other = copy.copy(model)
    other.config = copy.copy(model.config)
    other.config.order = order
    return other


def count(model: Ngram, ids: torch.Tensor) -> None:
    """Make ids (T,) all that the model has learnt."""
    model.corpus = ids.to(model.corpus.dtype)
    model.config.n_tokens = len(ids)


@dataclass(frozen=True)
class Order:
    """What one order knows of a context."""

    n: int
    context: tuple[int, ...]  # n - 1 tokens
    count: int  # how often it stands in the text, with something after it
    followers: tuple[tuple[int, int], ...]  # (token, how often it followed), the most frequent first
    distinct: int  # different tokens that followed
    weight: float  # of this order's own counts in the probability of the next token; with the others' and `rest` of uniform chances they sum to 1


def counts(model: Ngram, ids: list[int], order: int | None = None, k: int = 10) -> list[Order]:
    """What every order, the highest first, knows of the end of `ids`: the k most frequent followers each. Orders longer than the text are left out."""
    order, index, found, left = order or model.config.order, model.index(), [], 1.0
    for n in range(min(order, len(ids) + 1), 0, -1):
        context = ids[len(ids) - n + 1 :]
        grams = np.array([context], dtype=np.int64).reshape(1, n - 1) + 1
        first, last = index.followers(grams)
        which = np.arange(first[0], last[0])
        often, below = index.counts(n)[which], index.level(grams, n == order)[3][0]
        top = np.argsort(-often, kind="stable")[:k]
        followers = zip(index.last_tokens(n, which[top]).tolist(), often[top].tolist(), strict=True)
        found.append(Order(n, tuple(context), int(often.sum()), tuple(followers), len(which), left * (1 - below)))
        left *= below
    return found


@dataclass(frozen=True)
class Place:
    """One place of the learnt text: the tokens before, the context that was found, the tokens after it."""

    at: int
    before: tuple[int, ...]
    context: tuple[int, ...]
    after: tuple[int, ...]


def places(model: Ngram, ids: list[int], n: int = 5, order: int | None = None, around: int = 30) -> tuple[int, list[Place]]:
    """How often the longest end of `ids` that the text has, at most order - 1 tokens, stands there; and up to n of the places, evenly spread."""
    index, text = model.index(), model.corpus.tolist()
    for length in range(min((order or model.config.order) - 1, len(ids)), 0, -1):
        context = ids[len(ids) - length :]
        low, high = (int(found[0]) for found in index.find(np.array([context], dtype=np.int64) + 1))
        if high > low:
            spots = np.sort(index.places[low:high])
            chosen = spots[np.linspace(0, len(spots) - 1, min(n, len(spots))).astype(int)].tolist()
            return high - low, [
                Place(at, tuple(text[max(0, at - around) : at]), tuple(context), tuple(text[at + length : at + length + around])) for at in chosen
            ]
    return 0, []


register(NgramConfig, Ngram)
