"""The heart of eight.py: rows of numbers times a matrix of whole numbers, and threads that share the rows of the matrix.

Machine code is made on the spot, for this processor, by LLVM through numba: only so can four products of bytes be one instruction (VNNI) where there is one.
A matrix lies in panels of 16 rows; of a panel first come the 32 numbers of all 16 rows that share a scale (a block), then the next. In a block of 8 bits four neighbouring numbers
of each row stand together, 64 bytes at a time; 4 bits hold two such groups in a byte. Its scales, and least values in 4 bits, are float16.

numba: https://numba.readthedocs.io. VNNI: https://en.wikichip.org/wiki/x86/avx512_vnni. M rows of x, K numbers of each in K / 32 blocks.
"""

from __future__ import annotations

import os

import numpy as np
from llvmlite import binding, ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

BLOCK, PANEL = 32, 16
QUICK = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz", "arcp", "nnan"}}
VNNI = binding.get_host_cpu_features().get("avx512vnni", False)
PUT, ADD, GATE = range(3)
AHEAD = 2048  # bytes: about as long as memory takes to answer
SPINS = 200  # looks at a number before another thread gets the processor

BYTE, INT, LONG, HALF, FLOAT = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.HalfType(), ir.FloatType()
INTS, BYTES, FLOATS, HALVES = ir.VectorType(INT, PANEL), ir.VectorType(BYTE, 4 * PANEL), ir.VectorType(FLOAT, PANEL), ir.VectorType(HALF, PANEL)


FMA = f"llvm.fma.v{PANEL}f32"


def _call(builder, name, kind, *values):
    """A function that LLVM or the C library knows."""
    return builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [value.type for value in values]), name), values)


def _many(builder, value, n=PANEL):
    """A vector of n times the same."""
    kind = ir.VectorType(value.type, n)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, INT(0))
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(ir.VectorType(INT, n), [0] * n))


def _dot4(builder, total, w, x):
    """total (16,) plus, of each of 16 rows, four products of unsigned bytes w and signed bytes x (64,)."""
    if VNNI:
        return _call(builder, "llvm.x86.avx512.vpdpbusd.512", INTS, total, w, x)
    w, x = builder.bitcast(w, INTS), builder.bitcast(x, INTS)
    for i in range(4):
        up, down, low = (ir.Constant(INTS, [n] * PANEL) for n in (24 - 8 * i, 8 * i, 255))
        one = builder.ashr(builder.shl(x, up), ir.Constant(INTS, [24] * PANEL))
        total = builder.add(total, builder.mul(builder.and_(builder.lshr(w, down), low), one))
    return total


def _panel(m: int, bits: int):
    """multiply(w, s, x, xs, xn, y, blocks, stride): addresses of one panel's numbers and scales; of M rows their bytes (M, K), scales and sums (M, K / 32), as rounded() leaves them; and of y, whose rows are
    `stride` numbers apart and whose first 16 become the products."""

    def code(context, builder, signature, args):
        def at(address, offset, kind):
            return builder.load(builder.inttoptr(builder.add(address, offset), kind.as_pointer()), align=1)

        w, s, x, xs, xn, y, blocks, stride = args
        k = builder.mul(blocks, LONG(BLOCK))
        start, body, end = builder.block, builder.append_basic_block("block"), builder.append_basic_block("end")
        builder.branch(body)
        builder.position_at_end(body)
        b = builder.phi(LONG)
        b.add_incoming(LONG(0), start)
        totals = [builder.phi(FLOATS) for _ in range(m)]
        for total in totals:
            total.add_incoming(ir.Constant(FLOATS, [0.0] * PANEL), start)

        size, here = PANEL * BLOCK * bits // 8, builder.mul(b, LONG(PANEL * BLOCK * bits // 8))
        packed = [at(w, builder.add(here, LONG(64 * i)), BYTES) for i in range(size // 64)]
        for i in range(size // 64):  # what comes AHEAD bytes later, from memory to the processor
            later = builder.inttoptr(builder.add(w, builder.add(here, LONG(AHEAD + 64 * i))), BYTE.as_pointer())
            _call(builder, "llvm.prefetch.p0", ir.VoidType(), later, INT(0), INT(3), INT(1))
        if bits == 4:
            low, four = _many(builder, BYTE(15), 64), _many(builder, BYTE(4), 64)
            packed = [builder.and_(each, low) for each in packed] + [builder.lshr(each, four) for each in packed]
        here = builder.mul(b, LONG(2 * PANEL * (2 if bits == 4 else 1)))
        scale = builder.fpext(at(s, here, HALVES), FLOATS)
        least = builder.fpext(at(s, builder.add(here, LONG(2 * PANEL)), HALVES), FLOATS) if bits == 4 else None
        after = []
        for row in range(m):
            place = builder.shl(builder.add(builder.mul(LONG(row), blocks), b), LONG(2))
            scale_x, sum_x = at(xs, place, FLOAT), at(xn, place, FLOAT if bits == 4 else INT)
            # in 8 bits 128 stands for 0: what that adds to each product is taken off first
            dots = ir.Constant(INTS, [0] * PANEL) if bits == 4 else _many(builder, sum_x)
            begin = builder.add(builder.mul(LONG(row), k), builder.mul(b, LONG(BLOCK)))
            for i, each in enumerate(packed):
                four_x = _many(builder, at(x, builder.add(begin, LONG(4 * i)), INT))
                dots = _dot4(builder, dots, each, builder.bitcast(four_x, BYTES))
            both = builder.fmul(scale, _many(builder, scale_x))
            total = _call(builder, FMA, FLOATS, builder.sitofp(dots, FLOATS), both, totals[row])
            if bits == 4:
                total = _call(builder, FMA, FLOATS, least, _many(builder, sum_x), total)
            after.append(total)
        b_next = builder.add(b, LONG(1))
        b.add_incoming(b_next, body)
        for total, made in zip(totals, after, strict=True):
            total.add_incoming(made, body)
        builder.cbranch(builder.icmp_signed("<", b_next, blocks), body, end)
        builder.position_at_end(end)
        for row, made in enumerate(after):
            place = builder.add(y, builder.mul(LONG(4 * row), stride))
            builder.store(made, builder.inttoptr(place, FLOATS.as_pointer()), align=1)
        return context.get_dummy_value()

    @intrinsic
    def multiply(typing, w, s, x, xs, xn, y, blocks, stride):
        return types.void(*[types.intp] * 8), code

    return multiply


eight1, eight2, eight4, eight8 = (_panel(m, 8) for m in (1, 2, 4, 8))
four1, four2, four4, four8 = (_panel(m, 4) for m in (1, 2, 4, 8))


# --- what Python cannot say


@intrinsic
def claim(typing, address):
    """Add 1 to a number that threads share; what it was."""

    def code(context, builder, signature, args):
        return builder.atomic_rmw("add", builder.inttoptr(args[0], LONG.as_pointer()), LONG(1), "seq_cst")

    return types.intp(types.intp), code


@intrinsic
def look(typing, address):
    """A number that threads share."""

    def code(context, builder, signature, args):
        return builder.load_atomic(builder.inttoptr(args[0], LONG.as_pointer()), "acquire", 8)

    return types.intp(types.intp), code


@intrinsic
def rest(typing):
    """Let another thread have the processor."""

    def code(context, builder, signature, args):
        _call(builder, "SwitchToThread" if os.name == "nt" else "sched_yield", INT)
        return context.get_dummy_value()

    return types.void(), code


@intrinsic
def floats(typing, address):
    """The numbers at an address, for numba.carray."""

    def code(context, builder, signature, args):
        return builder.inttoptr(args[0], FLOAT.as_pointer())

    return types.CPointer(types.float32)(types.intp), code


def _vector(builder, address, n=PANEL):
    return builder.load(builder.inttoptr(address, ir.VectorType(FLOAT, n).as_pointer()), align=4)


def _store(builder, value, address):
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=1)


def _reduce(builder):
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(FLOAT, [FLOAT, FLOATS]), f"llvm.vector.reduce.fadd.v{PANEL}f32")


def _exp(builder, x):
    """Of 16 numbers, to five digits: 2 to the power of a whole number is bits of a float32, a polynomial does the rest."""
    t = builder.fmul(x, ir.Constant(FLOATS, [1.4426950408889634] * PANEL))
    t = _call(builder, f"llvm.maxnum.v{PANEL}f32", FLOATS, t, ir.Constant(FLOATS, [-126.0] * PANEL))
    t = builder.fadd(_call(builder, f"llvm.minnum.v{PANEL}f32", FLOATS, t, ir.Constant(FLOATS, [126.0] * PANEL)), ir.Constant(FLOATS, [127.0] * PANEL))
    n = builder.fptosi(t, INTS)
    f, p = builder.fsub(t, builder.sitofp(n, FLOATS)), ir.Constant(FLOATS, [1.535336188319500e-4] * PANEL)
    for c in (1.339887440266574e-3, 9.618437357674640e-3, 5.550332471162809e-2, 2.402264791363012e-1, 6.931472028550421e-1, 1.0):
        p = _call(builder, FMA, FLOATS, p, f, ir.Constant(FLOATS, [c] * PANEL))
    return builder.fmul(p, builder.bitcast(builder.shl(n, ir.Constant(INTS, [23] * PANEL)), FLOATS))


@intrinsic
def add16(typing, x, out):
    """16 numbers out += x; both are addresses."""

    def code(context, builder, signature, args):
        _store(builder, builder.fadd(_vector(builder, args[1]), _vector(builder, args[0])), args[1])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), code


@intrinsic
def put16(typing, x, out):
    """16 numbers out = x."""

    def code(context, builder, signature, args):
        _store(builder, _vector(builder, args[0]), args[1])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), code


@intrinsic
def gate16(typing, x, y):
    """16 numbers x = silu(x) y."""

    def code(context, builder, signature, args):
        x = _vector(builder, args[0])
        below = builder.fadd(_exp(builder, builder.fsub(ir.Constant(FLOATS, [0.0] * PANEL), x)), ir.Constant(FLOATS, [1.0] * PANEL))
        _store(builder, builder.fmul(builder.fdiv(x, below), _vector(builder, args[1])), args[0])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), code


@intrinsic
def exp16(typing, x, off):
    """16 numbers x = exp(x - off); their sum."""

    def code(context, builder, signature, args):
        made = _exp(builder, builder.fsub(_vector(builder, args[0]), _many(builder, args[1])))
        _store(builder, made, args[0])
        return builder.call(_reduce(builder), [FLOAT(0.0), made], fastmath=("reassoc",))

    return types.float32(types.intp, types.float32), code


@intrinsic
def dot(typing, x, y, n):
    """Of n numbers at two addresses, n a multiple of 16."""

    def code(context, builder, signature, args):
        start, body, end = builder.block, builder.append_basic_block("some"), builder.append_basic_block("all")
        builder.branch(body)
        builder.position_at_end(body)
        i, total = builder.phi(LONG), builder.phi(FLOATS)
        more = [builder.add(address, builder.shl(i, LONG(2))) for address in args[:2]]
        made = _call(builder, FMA, FLOATS, _vector(builder, more[0]), _vector(builder, more[1]), total)
        following = builder.add(i, LONG(PANEL))
        for phi, first, then in ((i, LONG(0), following), (total, ir.Constant(FLOATS, [0.0] * PANEL), made)):
            phi.add_incoming(first, start)
            phi.add_incoming(then, body)
        builder.cbranch(builder.icmp_signed("<", following, args[2]), body, end)
        builder.position_at_end(end)
        return builder.call(_reduce(builder), [FLOAT(0.0), made], fastmath=("reassoc",))

    return types.float32(types.intp, types.intp, types.intp), code


@intrinsic
def blend16(typing, weight, x, out):
    """16 numbers out += weight x."""

    def code(context, builder, signature, args):
        _store(builder, _call(builder, FMA, FLOATS, _vector(builder, args[1]), _many(builder, args[0]), _vector(builder, args[2])), args[2])
        return context.get_dummy_value()

    return types.void(types.float32, types.intp, types.intp), code


@intrinsic
def round32(typing, x, q, sums):
    """BLOCK numbers x as whole ones q from -127 to 127; -128 times their sum goes to `sums`, what 127 stands for is given back. x, q and sums are addresses."""

    def code(context, builder, signature, args):
        kind, wide = ir.VectorType(FLOAT, BLOCK), ir.VectorType(INT, BLOCK)
        x = _vector(builder, args[0], BLOCK)
        largest = _call(builder, f"llvm.vector.reduce.fmax.v{BLOCK}f32", FLOAT, _call(builder, f"llvm.fabs.v{BLOCK}f32", kind, x))
        largest = _call(builder, "llvm.maxnum.f32", FLOAT, largest, FLOAT(1e-20))
        scaled = builder.fmul(x, _many(builder, builder.fdiv(FLOAT(127.0), largest), BLOCK))
        q = builder.fptosi(_call(builder, f"llvm.rint.v{BLOCK}f32", kind, scaled), wide)
        _store(builder, builder.trunc(q, ir.VectorType(BYTE, BLOCK)), args[1])
        _store(builder, builder.mul(_call(builder, f"llvm.vector.reduce.add.v{BLOCK}i32", INT, q), INT(-128)), args[2])
        return largest

    return types.float32(types.intp, types.intp, types.intp), code


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
