"""The heart of eight.py: rows of numbers times a matrix of whole numbers, and threads that share the rows of the matrix; numba compiles it.

A matrix lies in panels of 16 rows; of a panel first come the 32 numbers of all 16 rows that share a scale (a block), then the next. In a block of 8 bits four neighbouring numbers
of each row stand together, 64 bytes at a time; 4 bits hold two such groups in a byte. Its scales, and least values in 4 bits, are float16.

M rows of x, K numbers of each in K / 32 blocks.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
from numba import carray, njit

from genkit.text import machine
from genkit.text.machine import (
    AT_ONCE,
    BLOCK,
    PANEL,
    add16,
    blend16,
    claim,
    exp16,
    fetch,
    floats,
    gate16,
    look,
    multiply,
    put16,
    rest,
    round32,
    scores16,
)

QUICK = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz", "arcp", "nnan"}}
PUT, ADD, GATE = range(3)
MOST, LINE = max(AT_ONCE), 64  # rows at a time; bytes that come from memory at a time
SOME = 64  # keys and values at a time, so that they stay at hand
SPINS = 200  # looks at a number before another thread gets the processor


# --- the phases of a pass. Every thread goes through all of them and takes pieces of work as long as there are some; none waits for one that has not begun.


@njit(**QUICK)
def wait(done, pieces):
    looks = 0
    while look(done) < pieces:
        looks += 1
        if looks > SPINS:
            rest()


@njit(**QUICK)
def rounded(x, weight, epsilon, row, q, scales, sums, parts):
    """Rows x (M, K), normalised if there is a weight (K,), as bytes q (M, blocks * 32). For each block of them: its scale; -128 times its sum, which 8 bits need;
    its sum times its scale, which 4 bits need, in `parts`. row: room for one of them."""
    k = x.shape[1]
    for m in range(len(x)):
        factor = np.float32(1)
        if len(weight):
            total = np.float32(0)
            for i in range(k):
                total += x[m, i] * x[m, i]
                row[i] = x[m, i] * weight[i]
            factor /= np.sqrt(total / np.float32(k) + epsilon)
        else:
            for i in range(k):
                row[i] = x[m, i]
        for i in range(k, q.shape[1]):
            row[i] = 0
        for b in range(scales.shape[1]):
            at = m * scales.shape[1] + b
            largest = round32(row.ctypes.data + 4 * BLOCK * b, q.ctypes.data + BLOCK * at, sums.ctypes.data + 4 * at)
            scales[m, b] = largest * factor / np.float32(127)
            parts[m, b] = scales[m, b] * np.float32(sums[m, b]) / np.float32(-128)


@njit(**QUICK)
def line(array):
    """Where the first line of the processor's memory in an array begins: what lies across two takes twice as long."""
    return (array.ctypes.data + LINE - 1) // LINE * LINE


@njit(**QUICK)
def own(n, width):
    """What each thread has for itself, for x (n, at most `width`): rounded numbers, their scales and sums, of as many rows as are multiplied at a time; two tiles of products, one of
    zeros; one row."""
    blocks = (width + BLOCK - 1) // BLOCK
    n = (n + MOST - 1) // MOST * MOST
    q, scales, sums = np.zeros(n * blocks * BLOCK + LINE, np.int8), np.zeros(n * blocks, np.float32), np.zeros(n * blocks, np.int32)
    return q, scales, sums, np.zeros(3 * MOST * PANEL + LINE, np.float32), np.empty(blocks * BLOCK, np.float32), np.zeros(n * blocks, np.float32)


@njit(**QUICK)
def multiplied(counter, pieces, matrix, x, weight, epsilon, bias, out, how, mine):
    """A phase: out = x times a matrix. how: PUT, ADD to what is there, or GATE: of panels in pairs, silu(first) times second. mine: what own() gave this thread.

    From here on by addresses: a slice of an array, small as it is, takes longer than the 16 numbers in it.
    """
    numbers, factors, count, blocks, bits = matrix
    n, width, each = len(x), out.shape[1], 2 if how == GATE else 1
    begin = line(mine[0]) - mine[0].ctypes.data
    q, scales = mine[0][begin : begin + n * blocks * BLOCK].reshape(n, blocks * BLOCK), mine[1][: n * blocks].reshape(n, blocks)
    sums, parts = mine[2][: n * blocks].reshape(n, blocks), mine[5][: n * blocks].reshape(n, blocks)
    rounded(x, weight, epsilon, mine[4], q, scales, sums, parts)
    at_q, at_scales, at_sums = q.ctypes.data, scales.ctypes.data, sums.ctypes.data if bits == 8 else parts.ctypes.data
    tile, size = line(mine[3]), 4 * MOST * PANEL
    piece = claim(counter)
    while piece < pieces:
        for panel in range(piece * (count // each) // pieces, (piece + 1) * (count // each) // pieces):
            row, begin = 0, panel * PANEL
            first = bias.ctypes.data + 4 * begin if len(bias) else tile + 2 * size
            while row < n:
                m = 1 if n - row == 1 else 4 if n - row <= 4 else MOST
                for half in range(each):
                    at, x_at = (panel * each + half) * blocks * PANEL, row * blocks
                    for r in range(m):
                        put16(first, tile + half * size + 4 * PANEL * r)
                    w, s = numbers + at * BLOCK * bits // 8, factors + at * (2 if bits == 8 else 4)
                    multiply(m, bits, w, s, at_q + x_at * BLOCK, at_scales + 4 * x_at, at_sums + 4 * x_at, tile + half * size, blocks)
                for r in range(min(m, n - row)):
                    made, place = tile + 4 * PANEL * r, out.ctypes.data + 4 * ((row + r) * width + begin)
                    if how == GATE:
                        gate16(made, made + size)
                    if begin + PANEL > width:
                        for i in range(width - begin):
                            out[row + r, begin + i] = carray(floats(made), PANEL)[i] + (out[row + r, begin + i] if how == ADD else np.float32(0))
                    elif how == ADD:
                        add16(made, place)
                    else:
                        put16(made, place)
                row += m
        claim(counter + 8)
        piece = claim(counter)
    wait(counter + 8, pieces)


@njit(**QUICK)
def turned(x, norm, epsilon, cos, sin, out):
    """One head x (D,), normalised if there is a norm (D,), turned by its position. Su et al. 2021, eq. 34: https://arxiv.org/abs/2104.09864"""
    size, half, factor = len(x), len(cos), np.float32(1)
    if len(norm):
        total = np.float32(0)
        for i in range(size):
            total += x[i] * x[i]
        factor /= np.sqrt(total / np.float32(size) + epsilon)
    for i in range(half):
        a, b = x[i] * factor, x[i + half] * factor
        if len(norm):
            a, b = a * norm[i], b * norm[i + half]
        out[i], out[i + half] = a * cos[i] - b * sin[i], b * cos[i] + a * sin[i]


@njit(**QUICK)
def attended(counter, layer, spans, sizes, qkv, norms, epsilon, cos, sin, found, queries, scores, totals):
    """A phase: new keys and values go to their texts' memory (layers, 2, H_kv, room, D); then found (N, H * D) is what each token draws from those before it."""
    layers, many, few, size, scale = sizes
    group, pieces, at_scores, span = many // few, len(spans) * few, scores.ctypes.data, scores.shape[1]
    piece = claim(counter)
    while piece < pieces:
        begin, length, past, address, room = spans[piece // few]
        head = piece % few
        memory = carray(floats(address), (layers, 2, few, room, size))
        keys, values = memory[layer, 0, head], memory[layer, 1, head]
        at_keys, at_values = keys.ctypes.data, values.ctypes.data
        for i in range(length):
            at, from_k, from_v = past + i, (many + head) * size, (many + few + head) * size
            turned(qkv[begin + i, from_k : from_k + size], norms[1], epsilon, cos[at], sin[at], keys[at])
            values[at] = qkv[begin + i, from_v : from_v + size]
        for i in range(length):
            at, count = past + i, (past + i + PANEL) // PANEL * PANEL  # in sixteens: there is room for them
            for j in range(group):  # these heads share keys and values: what is read of them serves all while it is at hand
                h = head * group + j
                turned(qkv[begin + i, h * size : (h + 1) * size], norms[0], epsilon, cos[at], sin[at], queries[j])
            for t in range(0, count, PANEL):
                fetch(at_values + 4 * size * t, 4 * size * PANEL)
                if t + PANEL < count:
                    fetch(at_keys + 4 * size * (t + PANEL), 4 * size * PANEL)
                for j in range(group):
                    scores16(queries.ctypes.data + 4 * size * j, at_keys + 4 * size * t, size, scale, at_scores + 4 * (span * j + t))
            out = found[begin + i, head * group * size : (head + 1) * group * size]
            out[:] = 0
            for j in range(group):
                row, largest, total = scores[j], np.float32(-3e38), np.float32(0)
                row[at + 1 : count] = -3e38
                for t in range(at + 1):
                    largest = max(largest, row[t])
                for t in range(0, count, PANEL):
                    total += exp16(at_scores + 4 * (span * j + t), largest)
                totals[j] = np.float32(1) / total
            for t in range(0, count, SOME):
                for j in range(group):
                    for d in range(0, size, PANEL):
                        place = found.ctypes.data + 4 * ((begin + i) * found.shape[1] + (head * group + j) * size + d)
                        blend16(at_scores + 4 * (span * j + t), min(SOME, count - t), at_values + 4 * (size * t + d), size, totals[j], place)
        claim(counter + 8)
        piece = claim(counter)
    wait(counter + 8, pieces)


@njit(**QUICK)
def go_through(counters, pieces, matrices, weights, biases, heads, epsilon, spans, sizes, cos, sin, h, qkv, found, gated, wanted, logits):
    """All layers, by one of the threads. counters (phases, 2) are zeros at first: pieces claimed, pieces done. h (N, n_embd) becomes what the last layer leaves."""
    longest = 0
    for span in spans:
        longest = max(longest, span[1] + span[2])
    widest = max(max(qkv.shape[1], h.shape[1]), max(found.shape[1], gated.shape[1]))
    mine = own(len(h), widest)
    group, none = sizes[1] // sizes[2], np.empty(0, np.float32)
    queries, scores, totals = np.empty((group, sizes[3]), np.float32), np.empty((group, longest + PANEL), np.float32), np.empty(group, np.float32)
    for layer in range(sizes[0]):
        at, first = counters.ctypes.data + 80 * layer, 4 * layer
        multiplied(at, pieces, matrices[first], h, weights[2 * layer], epsilon, biases[layer], qkv, PUT, mine)
        attended(at + 16, layer, spans, sizes, qkv, heads[layer], epsilon, cos, sin, found, queries, scores, totals)
        multiplied(at + 32, pieces, matrices[first + 1], found, none, epsilon, none, h, ADD, mine)
        multiplied(at + 48, pieces, matrices[first + 2], h, weights[2 * layer + 1], epsilon, none, gated, GATE, mine)
        multiplied(at + 64, pieces, matrices[first + 3], gated, none, epsilon, none, h, ADD, mine)
    multiplied(counters.ctypes.data + 80 * sizes[0], 4 * pieces, matrices[4 * sizes[0]], h[wanted], weights[2 * sizes[0]], epsilon, none, logits, PUT, mine)


def forget(cache: Path, source: Path) -> None:
    """Have numba make machine code afresh when `source` is newer than what it kept: by itself it looks at this file only."""
    with suppress(OSError):
        for kept in cache.glob(f"{Path(__file__).stem}.*.nbi"):
            if kept.stat().st_mtime < source.stat().st_mtime:
                kept.unlink()


forget(Path(go_through.stats.cache_path), Path(machine.__file__))
