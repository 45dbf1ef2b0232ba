"""Eight 64-bit words as one value inside numba kernels: `&`, `|`, `^`, `~`, `+`, `rotate`, `left`, `load`, `store`.

LLVM turns them into one AVX-512 register, two of AVX2 or four of NEON. Loops over eight words would be left to the
loop vectoriser, which gives up on so many arrays.
"""

import operator

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel.models import PrimitiveModel
from numba.core.datamodel.registry import register_default
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin
from numba.np.arrayobj import make_array

WORDS = 8
VECTOR = ir.VectorType(ir.IntType(64), WORDS)


class Words(types.Type):
    """The numba type of eight words."""

    def __init__(self) -> None:
        super().__init__(name="eight_words")


WORD8 = Words()


@register_default(Words)
class _Model(PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, VECTOR)


def _operator(op, build) -> None:
    @infer_global(op)
    class _Typed(ConcreteTemplate):
        cases = [signature(WORD8, WORD8, WORD8)]

    @lower_builtin(op, Words, Words)
    def _lowered(context, builder, sig, args):
        return build(builder, *args)


for _op, _name in ((operator.and_, "and_"), (operator.or_, "or_"), (operator.xor, "xor"), (operator.add, "add")):
    _operator(_op, lambda builder, a, b, name=_name: getattr(builder, name)(a, b))


@infer_global(operator.invert)
class _Inverted(ConcreteTemplate):
    cases = [signature(WORD8, WORD8)]


@lower_builtin(operator.invert, Words)
def _invert(context, builder, sig, args):
    return builder.not_(args[0])


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


@intrinsic
def load(typing, base, index):
    """Words index … index + 7 behind a pointer; no bounds are checked."""

    def codegen(context, builder, sig, args):
        return builder.load(builder.bitcast(builder.gep(args[0], [args[1]]), VECTOR.as_pointer()), align=8)

    return WORD8(base, types.intp), codegen


@intrinsic
def store(typing, base, index, value):
    """Writes eight words at `index` behind a pointer."""

    def codegen(context, builder, sig, args):
        place = builder.bitcast(builder.gep(args[0], [args[1]]), VECTOR.as_pointer())
        builder.store(args[2], place, align=8)
        return context.get_dummy_value()

    return types.none(base, types.intp, WORD8), codegen


def _splat(builder, value):
    first = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), value, ir.IntType(32)(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), WORDS), [0] * WORDS))


@intrinsic
def zeros(typing):
    def codegen(context, builder, sig, args):
        return ir.Constant(VECTOR, [0] * WORDS)

    return WORD8(), codegen


@intrinsic
def left(typing, value, bits):
    """Each word shifted left."""

    def codegen(context, builder, sig, args):
        return builder.shl(args[0], _splat(builder, args[1]))

    return WORD8(WORD8, types.int64), codegen


@intrinsic
def rotate(typing, value, bits):
    """Each word rotated left."""

    def codegen(context, builder, sig, args):
        rotation = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(VECTOR, [VECTOR] * 3), f"llvm.fshl.v{WORDS}i64"
        )
        return builder.call(rotation, [args[0], args[0], _splat(builder, args[1])])

    return WORD8(WORD8, types.int64), codegen


@intrinsic
def aligned_stack(typing):
    """Aligns the stack of the calling function: vectors spilled across two cache lines are slow to read back."""

    def codegen(context, builder, sig, args):
        # llvmlite's own `add` refuses the attributes that are strings.
        set.add(builder.function.attributes, '"stackrealign"')
        return context.get_dummy_value()

    return types.none(), codegen
