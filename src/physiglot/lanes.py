"""Vectors of 64 bytes, LANES float32, for numba kernels, and the product of small matrices that stay in the cache.

What the compiler does not find by itself: accumulators in registers, no fear that arrays overlap. Indices are not
checked; the last axis of what is loaded or stored is contiguous.
"""

import operator
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

LANES, ROWS = 16, 8
F = np.float32
OPTIONS = {"error_model": "numpy", "nogil": True}
FLOAT, INT, WIDE = ir.FloatType(), ir.IntType(32), ir.IntType(64)
CONTRACT = ("contract",)


class Vector(types.Type):
    """As many floats of a type as fit 64 bytes."""

    def __init__(self, dtype: types.Float):
        super().__init__(f"vector({dtype})")
        self.dtype, self.lanes = dtype, 512 // dtype.bitwidth


vector = Vector(types.float32)


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any):
        super().__init__(manager, kind, ir.VectorType(manager[kind.dtype].get_data_type(), kind.lanes))


def _spread(builder: Any, value: Any, lanes: int = LANES) -> Any:
    """A scalar in every lane."""
    kind = ir.VectorType(value.type, lanes)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, INT(0))
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.VectorType(INT, lanes)([0] * lanes))


def _constant(value: float) -> Any:
    return ir.Constant(ir.VectorType(FLOAT, LANES), [float(F(value))] * LANES)


def _call(builder: Any, name: str, result: Any, *values: Any, fastmath: tuple = ()) -> Any:
    kind = ir.FunctionType(result, [v.type for v in values])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), values, fastmath=fastmath)


def _place(context: Any, builder: Any, kind: Any, array: Any, indices: Any, lanes: int = LANES) -> Any:
    found = cgutils.get_item_pointer(context, builder, kind, context.make_array(kind)(context, builder, array), indices)
    return builder.bitcast(found, ir.VectorType(found.type.pointee, lanes).as_pointer())


@intrinsic
def width(typing, array):
    """The lanes of a vector of the array's type, a constant to the compiler."""
    lanes = Vector(array.dtype).lanes
    return types.intp(array), lambda context, builder, signature, values: WIDE(lanes)


@intrinsic
def load(typing, array, i, j):
    def build(context, builder, signature, values):
        place = _place(context, builder, array, values[0], values[1:], signature.return_type.lanes)
        return builder.load(place, align=4)

    return Vector(array.dtype)(array, types.intp, types.intp), build


@intrinsic
def store(typing, value, array, i, j):
    def build(context, builder, signature, values):
        builder.store(values[0], _place(context, builder, array, values[1], values[2:], value.lanes), align=4)
        return context.get_dummy_value()

    return types.void(value, array, types.intp, types.intp), build


@intrinsic
def beside(typing, before, here, after):
    """The neighbours of the lanes of `here` on the left and on the right, of three vectors in a row."""

    def build(context, builder, signature, values):
        def taken(a, b, first):
            return builder.shuffle_vector(a, b, ir.VectorType(INT, here.lanes)([first + n for n in range(here.lanes)]))

        left, right = taken(values[0], values[1], here.lanes - 1), taken(values[1], values[2], 1)
        return context.make_tuple(builder, signature.return_type, (left, right))

    return types.UniTuple(here, 2)(before, here, after), build


@intrinsic
def spread(typing, value):
    return vector(types.float32), lambda context, builder, signature, values: _spread(builder, values[0])


@intrinsic
def total(typing, x):
    """The sum of the lanes."""

    def build(context, builder, signature, values):
        return _call(builder, "llvm.vector.reduce.fadd.v16f32", FLOAT, FLOAT(-0.0), *values, fastmath=("reassoc",))

    return types.float32(vector), build


@intrinsic
def maximum(typing, x, y):
    def build(context, builder, signature, values):
        return builder.select(builder.fcmp_ordered(">", *values), *values)

    return vector(vector, vector), build


@intrinsic
def within(typing, x, lag, window, other):
    """x in the lanes n where 0 <= lag + n < window, the scalar `other` elsewhere."""

    def build(context, builder, signature, values):
        kind = ir.VectorType(WIDE, LANES)
        n = builder.add(_spread(builder, values[1]), kind(list(range(LANES))))
        inside = builder.icmp_unsigned("<", n, _spread(builder, values[2]))
        return builder.select(inside, values[0], _spread(builder, values[3]))

    return vector(vector, types.intp, types.intp, types.float32), build


@intrinsic
def exp(typing, x):
    """To 2 units in the last place for |x| <= 87, 0 below -87 (Cephes)."""

    def build(context, builder, signature, values):
        def plus(a, b, c):
            return builder.fadd(builder.fmul(a, b, flags=CONTRACT), c, flags=CONTRACT)

        (x,), kind = values, values[0].type
        n = _call(builder, "llvm.floor.v16f32", kind, plus(x, _constant(1.44269504), _constant(0.5)))
        r = plus(n, _constant(-0.693359375), x)
        r = plus(n, _constant(2.12194440e-4), r)
        p = _constant(1.9875691500e-4)
        for factor in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1, 1, 1):
            p = plus(p, r, _constant(factor))
        whole = builder.fptosi(n, ir.VectorType(INT, LANES))
        power = builder.shl(builder.add(whole, whole.type([127] * LANES)), whole.type([23] * LANES))
        y = builder.fmul(p, builder.bitcast(power, kind))
        return builder.select(builder.fcmp_ordered("<", x, _constant(-87)), _constant(0), y)

    return vector(vector), build


def _arithmetic(operation: Callable, name: str) -> None:
    """The operation on vectors and scalars, lane by lane."""

    @intrinsic
    def emit(typing, a, b):
        def build(context, builder, signature, values):
            x, y = (
                v if isinstance(t, Vector) else _spread(builder, v, kind.lanes)
                for t, v in zip(signature.args, values, strict=True)
            )
            return getattr(builder, name)(x, y, flags=CONTRACT)

        kind = a if isinstance(a, Vector) else b
        return kind(*(t if isinstance(t, Vector) else kind.dtype for t in (a, b))), build

    @overload(operation)
    def _(a, b):
        if isinstance(a, Vector) or isinstance(b, Vector):
            return lambda a, b: emit(a, b)
        return None


for _operation, _name in (("add", "fadd"), ("sub", "fsub"), ("mul", "fmul"), ("truediv", "fdiv")):
    _arithmetic(getattr(operator, _operation), _name)


def _tile(lanes: int, vectors: int) -> Any:
    """c[i:i+ROWS, j:j+lanes·vectors] = (that, or 0) + a[i:i+ROWS] @ b[:, j:j+lanes·vectors], sums in registers."""
    kind, block = ir.VectorType(FLOAT, lanes), range(vectors)

    @intrinsic
    def tile(typing, a, b, c, i, j, add):
        def build(context, builder, signature, values):
            (va, vb, vc), (i, j, add) = values[:3], values[3:]
            columns = [builder.add(j, WIDE(lanes * v)) for v in block]
            rows = [builder.add(i, WIDE(r)) for r in range(ROWS)]
            depth = cgutils.unpack_tuple(builder, context.make_array(a)(context, builder, va).shape)[1]
            places = [[_place(context, builder, c, vc, (r, k), lanes) for k in columns] for r in rows]
            sums = [[cgutils.alloca_once_value(builder, ir.Constant(kind, [0.0] * lanes)) for _ in block] for _ in rows]
            with builder.if_then(add):
                for r in range(ROWS):
                    for v in block:
                        builder.store(builder.load(places[r][v], align=4), sums[r][v])
            with cgutils.for_range(builder, depth) as loop:
                right = [
                    builder.load(_place(context, builder, b, vb, (loop.index, k), lanes), align=4) for k in columns
                ]
                for r in range(ROWS):
                    pointer = builder.bitcast(
                        _place(context, builder, a, va, (rows[r], loop.index)), FLOAT.as_pointer()
                    )
                    left = _spread(builder, builder.load(pointer), lanes)
                    for v in block:
                        product = builder.fmul(left, right[v], flags=CONTRACT)
                        builder.store(builder.fadd(builder.load(sums[r][v]), product, flags=CONTRACT), sums[r][v])
            for r in range(ROWS):
                for v in block:
                    builder.store(builder.load(sums[r][v]), places[r][v], align=4)
            return context.get_dummy_value()

        return types.void(a, b, c, types.intp, types.intp, types.boolean), build

    return tile


_wide, _single, _half = _tile(LANES, 2), _tile(LANES, 1), _tile(LANES // 2, 1)


@numba.njit(cache=True, **OPTIONS)
def multiply(a, b, c, add):
    """c = a b, or c += a b. The rows of c and its columns are multiples of 8."""
    rows, columns = c.shape
    for i in range(0, rows, ROWS):
        for j in range(0, columns - 31, 32):
            _wide(a, b, c, i, j, add)
        if columns % 32 >= LANES:
            _single(a, b, c, i, columns // 32 * 32, add)
        if columns % LANES:
            _half(a, b, c, i, columns // LANES * LANES, add)
