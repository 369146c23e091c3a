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
AHEAD = 2048  # bytes: about as long as memory takes to answer

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
