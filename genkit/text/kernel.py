"""The heart of eight.py: rows of numbers times a matrix of whole numbers, and threads that share the rows of the matrix; numba compiles it.

A matrix lies in panels of 16 rows; of a panel first come the 32 numbers of all 16 rows that share a scale (a block), then the next. In a block of 8 bits four neighbouring numbers
of each row stand together, 64 bytes at a time; 4 bits hold two such groups in a byte. Its scales, and least values in 4 bits, are float16.

M rows of x, K numbers of each in K / 32 blocks.
"""

from __future__ import annotations

import numpy as np
from numba import carray, njit

from genkit.text.machine import (
    BLOCK,
    PANEL,
    add16,
    blend16,
    claim,
    dot,
    eight1,
    eight2,
    eight4,
    eight8,
    exp16,
    floats,
    four1,
    four2,
    four4,
    four8,
    gate16,
    look,
    put16,
    rest,
    round32,
)

QUICK = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz", "arcp", "nnan"}}
PUT, ADD, GATE = range(3)
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
def panels(matrix, panel, m, x, xs, xn, tile):
    """Rows of numbers at addresses x, xs, xn, as rounded() made them, times a panel of a matrix, to the address of a tile (m, 16). m 1, 2, 4 or 8."""
    blocks, bits = matrix[3], matrix[4]
    w, s = matrix[0] + panel * blocks * (PANEL * BLOCK // 8) * bits, matrix[1] + panel * blocks * (2 * PANEL if bits == 8 else 4 * PANEL)
    if bits == 8:
        if m == 8:
            eight8(w, s, x, xs, xn, tile, blocks, PANEL)
        elif m == 4:
            eight4(w, s, x, xs, xn, tile, blocks, PANEL)
        elif m == 2:
            eight2(w, s, x, xs, xn, tile, blocks, PANEL)
        else:
            eight1(w, s, x, xs, xn, tile, blocks, PANEL)
    elif m == 8:
        four8(w, s, x, xs, xn, tile, blocks, PANEL)
    elif m == 4:
        four4(w, s, x, xs, xn, tile, blocks, PANEL)
    elif m == 2:
        four2(w, s, x, xs, xn, tile, blocks, PANEL)
    else:
        four1(w, s, x, xs, xn, tile, blocks, PANEL)


@njit(**QUICK)
def own(n, width):
    """What each thread has for itself, for x (n, at most `width`): rounded numbers, their scales and sums, a tile, one row."""
    blocks = (width + BLOCK - 1) // BLOCK
    q, scales, sums = np.empty(n * blocks * BLOCK, np.int8), np.empty(n * blocks, np.float32), np.empty(n * blocks, np.int32)
    return q, scales, sums, np.empty((2, 8, PANEL), np.float32), np.empty(blocks * BLOCK, np.float32), np.empty(n * blocks, np.float32)


@njit(**QUICK)
def multiplied(counter, pieces, matrix, x, weight, epsilon, bias, out, how, mine):
    """A phase: out = x times a matrix. how: PUT, ADD to what is there, or GATE: of panels in pairs, silu(first) times second. mine: what own() gave this thread.

    From here on by addresses: a slice of an array, small as it is, takes longer than the 16 numbers in it.
    """
    n, blocks, width, each = len(x), matrix[3], out.shape[1], 2 if how == GATE else 1
    q, scales = mine[0][: n * blocks * BLOCK].reshape(n, blocks * BLOCK), mine[1][: n * blocks].reshape(n, blocks)
    sums, parts = mine[2][: n * blocks].reshape(n, blocks), mine[5][: n * blocks].reshape(n, blocks)
    rounded(x, weight, epsilon, mine[4], q, scales, sums, parts)
    at_q, at_scales, at_sums = q.ctypes.data, scales.ctypes.data, sums.ctypes.data if matrix[4] == 8 else parts.ctypes.data
    at_tile, at_out, at_bias = mine[3].ctypes.data, out.ctypes.data, bias.ctypes.data
    count, biased, tile = matrix[2] // each, len(bias) > 0, mine[3]
    piece = claim(counter)
    while piece < pieces:
        for panel in range(piece * count // pieces, (piece + 1) * count // pieces):
            row, begin = 0, panel * PANEL
            while row < n:
                m = 8 if n - row >= 8 else 4 if n - row >= 4 else 2 if n - row >= 2 else 1
                for half in range(each):
                    first = row * blocks
                    panels(matrix, panel * each + half, m, at_q + first * BLOCK, at_scales + 4 * first, at_sums + 4 * first, at_tile + half * 32 * PANEL)
                for r in range(m):
                    made, place = at_tile + 4 * PANEL * r, at_out + 4 * ((row + r) * width + begin)
                    if biased:
                        add16(at_bias + 4 * begin, made)
                    if how == GATE:
                        gate16(made, made + 32 * PANEL)
                    if begin + PANEL > width:
                        for i in range(width - begin):
                            out[row + r, begin + i] = out[row + r, begin + i] + tile[0, r, i] if how == ADD else tile[0, r, i]
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
def attended(counter, layer, spans, sizes, qkv, norms, epsilon, cos, sin, found, query, scores):
    """A phase: new keys and values go to their texts' memory (layers, 2, H_kv, room, D); then found (N, H * D) is what each token draws from those before it."""
    layers, many, few, size, scale = sizes
    group, pieces = many // few, len(spans) * few
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
            at = past + i
            for h in range(head * group, (head + 1) * group):
                turned(qkv[begin + i, h * size : (h + 1) * size], norms[0], epsilon, cos[at], sin[at], query)
                count = (at + PANEL) // PANEL * PANEL  # in sixteens
                scores[at + 1 : count] = -3e38
                largest, total = np.float32(-3e38), np.float32(0)
                for t in range(at + 1):
                    score = dot(query.ctypes.data, at_keys + 4 * size * t, size)
                    scores[t] = score * scale
                    largest = max(largest, scores[t])
                for t in range(0, count, PANEL):
                    total += exp16(scores.ctypes.data + 4 * t, largest)
                out = found[begin + i, h * size : (h + 1) * size]
                out[:] = 0
                place = found.ctypes.data + 4 * ((begin + i) * found.shape[1] + h * size)
                for t in range(at + 1):
                    weight = scores[t] / total
                    for d in range(0, size, PANEL):
                        blend16(weight, at_values + 4 * (size * t + d), place + 4 * d)
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
    query, scores, none = np.empty(sizes[3], np.float32), np.empty(longest + PANEL, np.float32), np.empty(0, np.float32)
    for layer in range(sizes[0]):
        at, first = counters.ctypes.data + 80 * layer, 4 * layer
        multiplied(at, pieces, matrices[first], h, weights[2 * layer], epsilon, biases[layer], qkv, PUT, mine)
        attended(at + 16, layer, spans, sizes, qkv, heads[layer], epsilon, cos, sin, found, query, scores)
        multiplied(at + 32, pieces, matrices[first + 1], found, none, epsilon, none, h, ADD, mine)
        multiplied(at + 48, pieces, matrices[first + 2], h, weights[2 * layer + 1], epsilon, none, gated, GATE, mine)
        multiplied(at + 64, pieces, matrices[first + 3], gated, none, epsilon, none, h, ADD, mine)
    multiplied(counters.ctypes.data + 80 * sizes[0], 4 * pieces, matrices[4 * sizes[0]], h[wanted], weights[2 * sizes[0]], epsilon, none, logits, PUT, mine)
