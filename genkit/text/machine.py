"""Machine code that Python cannot say, made by LLVM through numba: rows of bytes times a panel of a matrix, sixteen numbers at once, numbers that threads share.

Only so can four products of bytes be one instruction (VNNI) where there is one. kernel.py says how a matrix lies.

numba: https://numba.readthedocs.io. VNNI: https://en.wikichip.org/wiki/x86/avx512_vnni. M rows of x, K numbers of each in K / 32 blocks.
"""

from __future__ import annotations

import os

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

BLOCK, PANEL = 32, 16
VNNI = binding.get_host_cpu_features().get("avx512vnni", False)
AT_ONCE = (1, 4, 8)  # rows that multiply() takes
AHEAD = 2048  # bytes: about as long as memory takes to answer

BYTE, INT, LONG, HALF, FLOAT = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.HalfType(), ir.FloatType()
INTS, BYTES, FLOATS, HALVES = ir.VectorType(INT, PANEL), ir.VectorType(BYTE, 4 * PANEL), ir.VectorType(FLOAT, PANEL), ir.VectorType(HALF, PANEL)


FMA = f"llvm.fma.v{PANEL}f32"


def _call(builder, name, kind, *values, flags=()):
    """A function that LLVM or the C library knows."""
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [value.type for value in values]), name)
    return builder.call(function, values, fastmath=flags)


def _many(builder, value, n=PANEL):
    """A vector of n times the same."""
    kind = ir.VectorType(value.type, n)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, INT(0))
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(ir.VectorType(INT, n), [0] * n))


def _vector(builder, address, n=PANEL):
    return builder.load(builder.inttoptr(address, ir.VectorType(FLOAT, n).as_pointer()), align=4)


def _store(builder, value, address):
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=1)


def _fetch(builder, address):
    _call(builder, "llvm.prefetch.p0", ir.VoidType(), builder.inttoptr(address, BYTE.as_pointer()), INT(0), INT(3), INT(1))


def _loop(builder, count, step, starts, body):
    """for i in range(0, count, step), at least once: what body(i, what it gave before, `starts` at first) gives; what it gave last."""
    start, again, end = builder.block, builder.append_basic_block("again"), builder.append_basic_block("after")
    builder.branch(again)
    builder.position_at_end(again)
    i, before = builder.phi(LONG), [builder.phi(value.type) for value in starts]
    made = body(i, before)
    following = builder.add(i, LONG(step))
    for phi, first, then in zip((i, *before), (LONG(0), *starts), (following, *made), strict=True):
        phi.add_incoming(first, start)
        phi.add_incoming(then, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, count), again, end)
    builder.position_at_end(end)
    return made


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


def _panel(builder, m, bits, w, s, x, xs, xn, y, blocks):
    def at(address, offset, kind):
        return builder.load(builder.inttoptr(builder.add(address, offset), kind.as_pointer()), align=1)

    def block(b, totals):
        packed = _unpacked(builder, builder.add(w, builder.mul(b, LONG(PANEL * BLOCK * bits // 8))), bits)
        here = builder.mul(b, LONG(2 * PANEL * (2 if bits == 4 else 1)))
        scale = builder.fpext(at(s, here, HALVES), FLOATS)
        least = builder.fpext(at(s, builder.add(here, LONG(2 * PANEL)), HALVES), FLOATS) if bits == 4 else None
        here = [builder.add(builder.mul(LONG(row), blocks), b) for row in range(m)]
        scales_x, sums_x = ([at(each, builder.shl(place, LONG(2)), kind) for place in here] for each, kind in ((xs, FLOAT), (xn, FLOAT if bits == 4 else INT)))
        # in 8 bits 128 stands for 0: what that adds to each product is taken off
        dots = [ir.Constant(INTS, [0] * PANEL) if bits == 4 else _many(builder, sum_x) for sum_x in sums_x]
        for i, each in enumerate(packed):  # row by row in turn: what the next sum needs is there by then
            fours = (_many(builder, at(x, builder.add(builder.mul(place, LONG(BLOCK)), LONG(4 * i)), INT)) for place in here)
            dots = [_dot4(builder, dot, each, builder.bitcast(four, BYTES)) for dot, four in zip(dots, fours, strict=True)]
        after = []
        for dot, scale_x, sum_x, total in zip(dots, scales_x, sums_x, totals, strict=True):
            both = builder.fmul(scale, _many(builder, scale_x))
            total = _call(builder, FMA, FLOATS, builder.sitofp(dot, FLOATS), both, total)
            after.append(_call(builder, FMA, FLOATS, least, _many(builder, sum_x), total) if bits == 4 else total)
        return after

    places = [builder.add(y, LONG(4 * PANEL * row)) for row in range(m)]
    for place, made in zip(places, _loop(builder, blocks, 1, [_vector(builder, place) for place in places], block), strict=True):
        _store(builder, made, place)


def _unpacked(builder, w, bits):
    """A block of a panel as 8 times 64 bytes, and what comes AHEAD bytes later on its way from memory to the processor."""
    size = PANEL * BLOCK * bits // 8
    packed = [builder.load(builder.inttoptr(builder.add(w, LONG(64 * i)), BYTES.as_pointer()), align=1) for i in range(size // 64)]
    for i in range(size // 64):
        _fetch(builder, builder.add(w, LONG(AHEAD + 64 * i)))
    if bits == 8:
        return packed
    low, four = _many(builder, BYTE(15), 64), _many(builder, BYTE(4), 64)
    return [builder.and_(each, low) for each in packed] + [builder.lshr(each, four) for each in packed]


@intrinsic
def multiply(typing, m, bits, w, s, x, xs, xn, y, blocks):
    """y (m, 16) += m rows times a panel of a matrix. Addresses: the panel's numbers and scales; the rows' bytes (m, K), scales and sums (m, K / 32), as rounded() leaves them.
    m is one of AT_ONCE, bits 4 or 8."""

    def code(context, builder, signature, args):
        for rows in AT_ONCE:
            for each in (4, 8):
                same = (builder.icmp_signed("==", arg, LONG(value)) for arg, value in zip(args, (rows, each), strict=False))
                with builder.if_then(builder.and_(*same)):
                    _panel(builder, rows, each, *args[2:])
        return context.get_dummy_value()

    return types.void(*[types.intp] * 9), code


# --- what threads share


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
        return _call(builder, f"llvm.vector.reduce.fadd.v{PANEL}f32", FLOAT, FLOAT(0.0), made, flags=("reassoc",))

    return types.float32(types.intp, types.float32), code


@intrinsic
def fetch(typing, address, size):
    """Have `size` bytes on their way from memory to the processor."""

    def code(context, builder, signature, args):
        def one(i, nothing):
            _fetch(builder, builder.add(args[0], i))
            return []

        _loop(builder, args[1], 64, [], one)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), code


@intrinsic
def scores16(typing, x, y, size, scale, out):
    """16 numbers out: x (size,) times each of 16 neighbouring rows y (16, size), times scale. size is a multiple of 16."""

    def code(context, builder, signature, args):
        x, y, size, scale, out = args
        zero = ir.Constant(FLOATS, [0.0] * PANEL)

        def some(i, totals):
            one = _vector(builder, builder.add(x, builder.shl(i, LONG(2))))
            places = (builder.add(y, builder.shl(builder.add(builder.mul(LONG(row), size), i), LONG(2))) for row in range(PANEL))
            return [_call(builder, FMA, FLOATS, one, _vector(builder, place), total) for place, total in zip(places, totals, strict=True)]

        made, width = _loop(builder, size, PANEL, [zero] * PANEL, some), PANEL
        while width > 1:  # the sum of each vector: halves of two are added at a time, so that 16 vectors of 16 numbers become one
            masks = [[16 * which + at + i for at in range(begin, PANEL, width) for which in (0, 1) for i in range(width // 2)] for begin in (0, width // 2)]
            pairs, made, width = zip(made[: len(made) // 2], made[len(made) // 2 :], strict=True), [], width // 2
            for one, other in pairs:
                made.append(builder.fadd(*(builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(INT, PANEL), mask)) for mask in masks)))
        _store(builder, builder.fmul(made[0], _many(builder, scale)), out)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.float32, types.intp), code


@intrinsic
def blend16(typing, weights, count, x, size, factor, out):
    """16 numbers out += factor times the sum of weights (count,) times the first 16 of each row x (count, size). count is a multiple of 4."""

    def code(context, builder, signature, args):
        weights, count, x, size, factor, out = args

        def four(i, totals):
            made = []
            for j, total in enumerate(totals):  # four sums: one would be waited for
                row = builder.add(i, LONG(j))
                weight = builder.load(builder.inttoptr(builder.add(weights, builder.shl(row, LONG(2))), FLOAT.as_pointer()))
                place = builder.add(x, builder.shl(builder.mul(row, size), LONG(2)))
                made.append(_call(builder, FMA, FLOATS, _many(builder, weight), _vector(builder, place), total))
            return made

        one, two, three, last = _loop(builder, count, 4, [ir.Constant(FLOATS, [0.0] * PANEL)] * 4, four)
        whole = builder.fadd(builder.fadd(one, two), builder.fadd(three, last))
        _store(builder, _call(builder, FMA, FLOATS, whole, _many(builder, factor), _vector(builder, out)), out)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.intp, types.float32, types.intp), code


@intrinsic
def round32(typing, x, q, sums):
    """BLOCK numbers x as whole ones q from -127 to 127; -128 times their sum goes to `sums`, what 127 stands for is given back. x, q and sums are addresses."""

    def code(context, builder, signature, args):
        kind, wide = ir.VectorType(FLOAT, BLOCK), ir.VectorType(INT, BLOCK)
        x = _vector(builder, args[0], BLOCK)
        largest = _call(builder, f"llvm.vector.reduce.fmax.v{BLOCK}f32", FLOAT, _call(builder, f"llvm.fabs.v{BLOCK}f32", kind, x), flags=("nnan",))
        largest = _call(builder, "llvm.maxnum.f32", FLOAT, largest, FLOAT(1e-20), flags=("nnan",))
        scaled = builder.fmul(x, _many(builder, builder.fdiv(FLOAT(127.0), largest), BLOCK))
        q = builder.fptosi(_call(builder, f"llvm.rint.v{BLOCK}f32", kind, scaled), wide)
        _store(builder, builder.trunc(q, ir.VectorType(BYTE, BLOCK)), args[1])
        _store(builder, builder.mul(_call(builder, f"llvm.vector.reduce.add.v{BLOCK}i32", INT, q), INT(-128)), args[2])
        return largest

    return types.float32(types.intp, types.intp, types.intp), code
