"""Vectors of 512 bits as values inside numba kernels: eight uint64, sixteen uint32, sixteen float32 or eight float64.

`+ - * / & | ^ ~ <` between equal types, `load` and `store` through a `pointer`, and the functions below. LLVM turns a
vector into one AVX-512 register, two of AVX2 or four of NEON. Loops over the elements would be left to the loop
vectoriser, which gives up on so many arrays.
"""

import operator

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel.models import PrimitiveModel
from numba.core.datamodel.registry import register_default
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin
from numba.np.arrayobj import make_array

ELEMENT = {"uint64": ir.IntType(64), "uint32": ir.IntType(32), "float32": ir.FloatType(), "float64": ir.DoubleType()}
BITS = {"uint64": 64, "uint32": 32, "float32": 32, "float64": 64}


class Vector(types.Type):
    """The numba type of as many numbers of a type as fill 512 bits."""

    def __init__(self, element: str) -> None:
        self.element, self.lanes = element, 512 // BITS[element]
        self.llvm = ir.VectorType(ELEMENT[element], self.lanes)
        super().__init__(name=f"vector_{element}")


VECTOR = {element: Vector(element) for element in ELEMENT}


@register_default(Vector)
class _Model(PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, fe_type.llvm)


def _operator(op, integer: str, real: str) -> None:
    """Teaches numba a binary operator by the names of LLVM's instructions."""

    @infer_global(op)
    class _Typed(AbstractTemplate):
        def generic(self, args, kws):
            if len(args) == 2 and isinstance(args[0], Vector) and args[0] == args[1]:
                return signature(args[0], *args)
            return None

    @lower_builtin(op, Vector, Vector)
    def _lowered(context, builder, sig, args):
        return getattr(builder, integer if sig.return_type.element.startswith("uint") else real)(*args)


_operator(operator.add, "add", "fadd")
_operator(operator.sub, "sub", "fsub")
_operator(operator.mul, "mul", "fmul")
_operator(operator.truediv, "udiv", "fdiv")
_operator(operator.and_, "and_", "and_")
_operator(operator.or_, "or_", "or_")
_operator(operator.xor, "xor", "xor")


@infer_global(operator.invert)
class _Inverted(AbstractTemplate):
    def generic(self, args, kws):
        return signature(args[0], args[0]) if isinstance(args[0], Vector) else None


@lower_builtin(operator.invert, Vector)
def _invert(context, builder, sig, args):
    return builder.not_(args[0])


# --- memory ------------------------------------------------------------------------------------


@intrinsic
def pointer(typing, array):
    """The address of an array's data: inside loops, numba counts references to arrays, not to pointers."""

    def codegen(context, builder, sig, args):
        return make_array(sig.args[0])(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), codegen


@intrinsic
def entry(typing, base, index):
    """One element behind a pointer, as int64; no bounds are checked."""

    def codegen(context, builder, sig, args):
        return builder.sext(builder.load(builder.gep(args[0], [args[1]])), ir.IntType(64))

    return types.int64(base, types.intp), codegen


def _place(builder, base, index, vector):
    return builder.bitcast(builder.gep(base, [index]), vector.llvm.as_pointer())


@intrinsic
def load(typing, base, index):
    """The vector that begins at element `index` behind a pointer; no bounds are checked."""
    vector = VECTOR[str(base.dtype)]

    def codegen(context, builder, sig, args):
        return builder.load(_place(builder, args[0], args[1], vector), align=8)

    return vector(base, types.intp), codegen


@intrinsic
def store(typing, base, index, value):
    """Writes a vector from element `index` on."""

    def codegen(context, builder, sig, args):
        builder.store(args[2], _place(builder, args[0], args[1], sig.args[2]), align=8)
        return context.get_dummy_value()

    return types.none(base, types.intp, value), codegen


# --- values ------------------------------------------------------------------------------------


def _splat(builder, value, vector):
    first = builder.insert_element(ir.Constant(vector.llvm, ir.Undefined), value, ir.IntType(32)(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), vector.lanes), None))


def _filled(builder, value, vector):
    """A vector of equal elements from a float64 or an int64."""
    element = ELEMENT[vector.element]
    if vector.element == "float32":
        value = builder.fptrunc(value, element)
    elif vector.element == "uint32":
        value = builder.trunc(value, element)
    return _splat(builder, value, vector)


def _scalar(vector: Vector) -> types.Type:
    return types.int64 if vector.element.startswith("uint") else types.float64


@intrinsic
def like(typing, vector, value):
    """A vector of the type of `vector`, all `value`."""

    def codegen(context, builder, sig, args):
        return _filled(builder, args[1], sig.return_type)

    return vector(vector, _scalar(vector)), codegen


@intrinsic
def left(typing, value, bits):
    """Each integer shifted left."""

    def codegen(context, builder, sig, args):
        return builder.shl(args[0], _filled(builder, args[1], sig.return_type))

    return value(value, types.int64), codegen


@intrinsic
def right(typing, value, bits):
    """Each integer shifted right."""

    def codegen(context, builder, sig, args):
        return builder.lshr(args[0], _filled(builder, args[1], sig.return_type))

    return value(value, types.int64), codegen


def _call(builder, name, vector, arguments):
    kind = "f" if vector.element.startswith("float") else "i"
    function = ir.FunctionType(vector.llvm, [vector.llvm] * len(arguments))
    full = f"llvm.{name}.v{vector.lanes}{kind}{BITS[vector.element]}"
    return builder.call(cgutils.get_or_insert_function(builder.module, function, full), arguments)


@intrinsic
def rotate(typing, value, bits):
    """Each integer rotated left."""

    def codegen(context, builder, sig, args):
        count = _filled(builder, args[1], sig.return_type)
        return _call(builder, "fshl", sig.return_type, [args[0], args[0], count])

    return value(value, types.int64), codegen


@intrinsic
def fused(typing, a, b, c):
    """a · b + c, rounded once where the machine can."""

    def codegen(context, builder, sig, args):
        return _call(builder, "fmuladd", sig.return_type, list(args))

    return a(a, b, c), codegen


@intrinsic
def largest(typing, a, b):
    """The larger of each pair of floats."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return a(a, b), codegen


@intrinsic
def chosen(typing, a, b, yes, no):
    """`yes` where a < b, else `no`."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered("<", args[0], args[1]), args[2], args[3])

    return yes(a, b, yes, no), codegen


@intrinsic
def uniform(typing, words):
    """Sixteen float32 in (0, 1), multiples of 2⁻²³ shifted by half of one, from sixteen uint32."""
    vector = VECTOR["float32"]

    def codegen(context, builder, sig, args):
        high = builder.lshr(args[0], _filled(builder, ir.IntType(64)(9), sig.args[0]))
        number = builder.sitofp(high, vector.llvm)
        half = ir.Constant(vector.llvm, [0.5] * vector.lanes)
        return builder.fmul(builder.fadd(number, half), ir.Constant(vector.llvm, [2.0**-23] * vector.lanes))

    return vector(words), codegen


@intrinsic
def power(typing, whole):
    """2^n of sixteen float32 that are whole numbers from −126 to 127."""

    def codegen(context, builder, sig, args):
        number = builder.fptosi(args[0], VECTOR["uint32"].llvm)
        biased = builder.add(number, ir.Constant(VECTOR["uint32"].llvm, [127] * 16))
        shifted = builder.shl(biased, ir.Constant(VECTOR["uint32"].llvm, [23] * 16))
        return builder.bitcast(shifted, VECTOR["float32"].llvm)

    return whole(whole), codegen


@intrinsic
def floor(typing, value):
    """Each float rounded down."""

    def codegen(context, builder, sig, args):
        return _call(builder, "floor", sig.return_type, list(args))

    return value(value), codegen


@intrinsic
def aligned_stack(typing):
    """Aligns the stack of the calling function: vectors spilled across two cache lines are slow to read back."""

    def codegen(context, builder, sig, args):
        # llvmlite's own `add` refuses the attributes that are strings.
        set.add(builder.function.attributes, '"stackrealign"')
        return context.get_dummy_value()

    return types.none(), codegen
