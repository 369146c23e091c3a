"""Several readers, one model: whoever needs the next token computes it for all who read at that moment, in one pass.

Reading a model's weights is what a token costs, and they are read once for all. The reader who waits takes the next turn, the others find their tokens made.
So nothing computes that nobody asked for, and nothing holds on to a model but those who read from it. A reader has a cache, settings and a seed of its own, joins and leaves at any turn,
and fails alone. One who is slow finds a few tokens made ahead, then is passed over.

Yu et al. 2022 (turns that readers join and leave): https://www.usenix.org/conference/osdi22/presentation/yu. B readers, V vocabulary.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from genkit.text import fast, sampling

AHEAD = 4  # tokens made for a reader who has not come back for the last ones
SLOTS = 16  # readers with a cache; the others wait in line
MEMORY = 2**30  # bytes of all caches of a model
ROWS, CHUNK = 512, 64  # tokens of a prompt read in a turn: alone, and while others write
NEAR = 2**16  # numbers that stay at hand while they are looked through three times
PATIENCE = 5.0  # seconds: who has not come back by then gives his place to one who waits, and reads his text again if he does
KEPT, COMMON = 4, 4  # caches of texts read before, and the tokens at least that make one worth using again


class Reader:
    """One text that is being written."""

    def __init__(self, ids: list[int], most: int, ends: set[int], choose: Callable):
        self.ids, self.most, self.ends, self.choose = list(ids), most, ends, choose
        self.window = self.ids.copy()  # what the model sees of it
        self.cache, self.made, self.over, self.error, self.seen = None, deque(), most < 1, None, time.monotonic()

    def wants(self) -> bool:
        return not self.over and len(self.made) < AHEAD

    def longest(self, model) -> int:
        """Tokens that its cache will hold at most."""
        return min(len(self.window) + self.most, sampling.context_length(model))

    def feed(self, model, most: int) -> list[int]:
        """What the model reads next of this text, `most` tokens at a time. When the context is full, the end of the text is read afresh."""
        if len(self.window) > sampling.context_length(model):
            self.window, self.cache = self.ids[-sampling.room(model) :], _empty(model)
        return self.window[self.cache.get_seq_length() :][:most]

    def take(self, logits: torch.Tensor, best: int, total: float) -> None:
        """Choose the next token from logits (V,). best: the likeliest; total: the logarithm of the sum of exp(logits)."""
        token, bits = self.choose(logits, self.ids, best, total)
        if token in self.ends:
            self.over = True
            return
        self.ids.append(token)
        self.window.append(token)
        self.made.append((token, bits))
        self.most -= 1
        self.over = self.most < 1


class Table:
    """The readers of one model, and the caches of texts that were read before. It does not hold the model."""

    def __init__(self):
        self.changed, self.turning = threading.Condition(), False
        # where turns are computed: torch has threads of its own for each that computes, and those of one that stopped go on spinning for a while
        self.thread = ThreadPoolExecutor(1, "readers", torch.set_num_threads, (torch.get_num_threads(),))  # a new thread may think of the load otherwise
        self.readers: list[Reader] = []  # in the order of their coming
        self.shelf: list[tuple[list[int], object]] = []  # (ids, cache), the latest last

    def next(self, model, reader: Reader) -> tuple[int, float] | None:
        """The next token of a reader and its surprise in bits; None at the end. Raises what went wrong with this text."""
        while True:
            with self.changed:
                reader.seen = time.monotonic()
                if reader.made:
                    return reader.made.popleft()
                if reader.error is not None:
                    raise reader.error
                if reader.over:
                    return None
                turn = [] if self.turning else self.seated(model)
                if not turn:  # somebody computes, or every place is taken
                    self.changed.wait(0.2)
                    continue
                self.turning = True
            try:
                turn.sort(key=lambda other: other is not reader)
                self.thread.submit(compute, model, turn).result()
            finally:
                with self.changed:
                    self.turning = False
                    for gone in set(turn).difference(self.readers):
                        self.put(gone.window, gone.cache)
                    self.changed.notify_all()

    def leave(self, reader: Reader) -> None:
        """The reader goes. What was read stays a while."""
        with self.changed:
            reader.over = True
            self.readers.remove(reader)
            if not self.turning:  # whoever computes may be at work on it, and puts it away afterwards
                self.put(reader.window, reader.cache)
            self.changed.notify_all()

    def seated(self, model) -> list[Reader]:
        """The readers of the next turn. Those without a cache get one, in the order of their coming, as long as there is room."""
        for reader in self.readers:
            if reader.wants() and reader.cache is None and not self.seat(model, reader):
                break  # those who came later wait behind this one
        return [reader for reader in self.readers if reader.wants() and reader.cache is not None]

    def seat(self, model, reader: Reader) -> bool:
        """Give a reader a cache: one of a text that begins alike, or an empty one. False: every place is taken."""
        cache, size = self.pick(model, reader.window), _bytes(model)

        def full() -> bool:
            seated = [other for other in self.readers if other.cache is not None]
            tokens = sum(other.longest(model) for other in seated) + sum(len(ids) for ids, _ in self.shelf) + reader.longest(model)
            return len(seated) >= SLOTS or (bool(seated or self.shelf) and size * tokens > MEMORY)

        while self.shelf and full():
            del self.shelf[0]
        for other in self.readers:
            if full() and not other.wants() and time.monotonic() - other.seen > PATIENCE:
                other.cache = None
        if not full():
            reader.cache = cache
        return reader.cache is not None

    def pick(self, model, ids: list[int]):
        """The cache of the text that begins most like `ids`, taken off the shelf and cropped to what they share; else an empty one."""
        best = max(self.shelf, key=lambda kept: _common(kept[0], ids), default=([], None))
        common = min(_common(best[0], ids), len(ids) - 1)
        if common < COMMON:
            return _empty(model)
        self.shelf.remove(best)
        best[1].crop(common)
        return best[1]

    def put(self, ids: list[int], cache) -> None:
        """Keep the cache of a text whose first tokens are `ids`."""
        if cache is not None and hasattr(cache, "crop") and (length := cache.get_seq_length()) >= COMMON:
            self.shelf = [*self.shelf, (ids[:length], cache)][-KEPT:]


def compute(model, turn: list[Reader]) -> None:
    """One turn: each reader's next token, or the next part of a prompt. If it fails, each does alone, so that only the one who is to blame is told."""
    try:
        read(model, turn)
    except Exception as error:
        if len(turn) == 1:
            turn[0].error, turn[0].cache = error, None
        else:
            for reader in turn:
                compute(model, [reader])


def read(model, turn: list[Reader]) -> None:
    feeds = [reader.feed(model, ROWS if len(turn) == 1 else CHUNK) for reader in turn]
    if fast.supports(model):
        logits = sampling.permitted(model, fast.forward(model, [(ids, reader.cache) for ids, reader in zip(feeds, turn, strict=True)]))
    else:
        logits = [reader.cache.read(model, ids) for ids, reader in zip(feeds, turn, strict=True)]
    whole = [(reader, row) for reader, row in zip(turn, logits, strict=True) if reader.cache.get_seq_length() == len(reader.window)]
    if not whole:
        return
    for (reader, row), (best, total) in zip(whole, sums([row for _, row in whole]), strict=True):
        try:
            reader.take(row, best, total)
        except Exception as error:
            reader.error = error


def sums(logits: list[torch.Tensor]) -> Iterator[tuple[int, float]]:
    """Of each row of logits (V,) the likeliest token and the logarithm of the sum of exp(logits), which every reader needs to know.

    By numpy: torch's threads would go on spinning where the next pass is computed. As many rows at once as the processor's own memory holds.
    """
    step = max(1, NEAR // len(logits[0]))
    for begin in range(0, len(logits), step):
        rows = np.stack([row.numpy() for row in logits[begin : begin + step]])
        best = rows.argmax(axis=1)
        largest = np.take_along_axis(rows, best[:, None], axis=1)
        rows -= largest
        yield from zip(best.tolist(), (largest[:, 0] + np.log(np.exp(rows, out=rows).sum(axis=1))).tolist(), strict=True)


class Ordinary:
    """The cache of a model that only its own forward serves."""

    def __init__(self):
        self.past, self.length = None, 0

    def get_seq_length(self) -> int:
        return self.length

    def read(self, model, ids: list[int]) -> torch.Tensor:
        logits, self.past = sampling.step(model, ids, self.past)
        self.length += len(ids)
        return logits


def _empty(model):
    return fast.Cache(model) if fast.supports(model) else Ordinary()


def _bytes(model) -> int:
    """Of the cache of one token."""
    return fast.bytes_of(model) if fast.supports(model) else 0


def _common(one: list[int], other: list[int]) -> int:
    """How many tokens two texts share at their beginning."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


_tables: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
_laying = threading.Lock()


def table(model) -> Table:
    """The table of a model; it goes with the model."""
    with _laying:
        return _tables.setdefault(model, Table())


def tokens(model, ids: list[int], most: int, ends: set[int], choose: Callable) -> Iterator[tuple[int, float]]:
    """What comes after `ids`, at most `most` tokens and up to one of `ends`. choose(logits (V,), ids so far, the likeliest, log of the sum of exp) gives a token and what is said of it."""
    reader, here = Reader(ids, most, ends, choose), table(model)
    with here.changed:
        here.readers.append(reader)
    try:
        while (made := here.next(model, reader)) is not None:
            yield made
    finally:
        here.leave(reader)


def after(model, ids: list[int]) -> torch.Tensor:
    """Logits (V,) of the token after `ids`. What a text read before has in common with it is not read again: this is asked for with every letter that is typed."""
    here = table(model)
    with here.changed:
        cache = here.pick(model, ids)
    logits = None
    try:
        while (begin := cache.get_seq_length()) < len(ids):
            feed = ids[begin : begin + ROWS]
            logits = sampling.permitted(model, fast.forward(model, [(feed, cache)]))[0] if fast.supports(model) else cache.read(model, feed)
        return logits
    finally:
        with here.changed:
            here.put(ids, cache)
