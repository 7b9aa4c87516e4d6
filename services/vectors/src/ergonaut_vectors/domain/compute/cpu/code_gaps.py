"""Distances of two rows of codes, by their addresses: whole registers of bytes at a time, with numbers fetched before they are
needed. Used by the kernels of graphs, which spend nearly all of their time here.

The steps are written in LLVM's own words, not a machine's: an x86 with AVX2 gets `vpmaddwd` of them, others what they have.
"""

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.core import cgutils as untyped_cgutils
from numba.extending import intrinsic

from ergonaut_vectors.domain.compute.cpu.machine import kernel, ones

BLOCK_BYTES = 32
"""Rows of codes are filled up with zeros to a multiple of this, so that no loop has a tail."""

LINE_BYTES = 64
"""What processors fetch at a time."""

LINES_FETCHED_MAX = 6
"""Lines of a row that are fetched beforehand; the processor goes on with the rest by itself when it is read in order."""

STEPS_AT_ONCE = BLOCK_BYTES
"""Numbers of a query in 16-bit steps that are multiplied at once."""

SQUARES = 0
"""Codes are near where the sum of squared differences is small."""
PRODUCTS = 1
"""Codes are near where the sum of products is large."""
BITS = 2
"""Codes are near where few bits differ."""

cgutils = cast(Any, untyped_cgutils)

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_BYTES = ir.VectorType(_I8, 16)
_SHORTS = ir.VectorType(_I16, 16)
_PRODUCTS = ir.VectorType(_I32, 16)
_SUMS = ir.VectorType(_I32, 8)


def _step(function: Callable[..., Any]) -> Callable[..., Any]:
    """What kernels call: the first parameter of its definition is numba's."""
    return cast(Callable[..., Any], intrinsic(function))


@_step
def fetch(context: Any, address: Any) -> Any:  # noqa: ARG001
    """Ask for the line at an address, and go on without waiting for it; an address that nobody has harms nothing."""

    def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        pointer = builder.inttoptr(arguments[0], _I8.as_pointer())
        function_type = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
        prefetch = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
        builder.call(prefetch, [pointer, _I32(0), _I32(3), _I32(1)])
        return target.get_dummy_value()

    return types.void(types.intp), generate


def _summed(operands: Callable[[Any, Any, Any], tuple[Any, Any]], other_bytes: int = 1) -> Callable[..., Any]:
    """The code of a loop over two rows that sums the products of what `operands` makes of 16 numbers of each."""

    def generate(_: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        one, other, width = arguments
        sums = [cgutils.alloca_once_value(builder, ir.Constant(_SUMS, [0] * 8)) for _ in range(2)]
        blocks = builder.udiv(width, ir.Constant(_I64, BLOCK_BYTES))
        with cgutils.for_range(builder, blocks, intp=_I64) as loop:
            first = builder.mul(loop.index, ir.Constant(_I64, BLOCK_BYTES))
            for half, held in enumerate(sums):
                at = builder.add(first, ir.Constant(_I64, 16 * half))
                left = _shorts_at(builder, builder.add(one, at))
                there = builder.add(other, builder.mul(at, ir.Constant(_I64, other_bytes)))
                right = _shorts_at(builder, there, other_bytes)
                total = builder.add(builder.load(held), _pairs(builder, *operands(builder, left, right)))
                builder.store(total, held)
        return _total(builder, builder.add(builder.load(sums[0]), builder.load(sums[1])))

    return generate


def _shorts_at(builder: Any, address: Any, each_bytes: int = 1) -> Any:
    """16 numbers of 8 or 16 bits."""
    kind = _BYTES if each_bytes == 1 else _SHORTS
    loaded = builder.load(builder.inttoptr(address, kind.as_pointer()), align=1)
    return builder.sext(loaded, _SHORTS) if kind is _BYTES else loaded


def _pairs(builder: Any, left: Any, right: Any) -> Any:
    """Products of 16 numbers each, neighbours added up: one instruction where a machine has it."""
    products = builder.mul(builder.sext(left, _PRODUCTS), builder.sext(right, _PRODUCTS))
    empty = ir.Constant(_PRODUCTS, ir.Undefined)
    even, odd = (ir.Constant(_SUMS, list(range(first, 16, 2))) for first in (0, 1))
    return builder.add(builder.shuffle_vector(products, empty, even), builder.shuffle_vector(products, empty, odd))


def _total(builder: Any, sums: Any) -> Any:
    total = builder.extract_element(sums, _I32(0))
    for lane in range(1, 8):
        total = builder.add(total, builder.extract_element(sums, _I32(lane)))
    return total


def _differences(builder: Any, left: Any, right: Any) -> tuple[Any, Any]:
    gaps = builder.sub(left, right)
    return gaps, gaps


@_step
def sum_of_squares(context: Any, one: Any, other: Any, width: Any) -> Any:  # noqa: ARG001
    """The sum of squared differences of two rows of int8 of `width` bytes, at these addresses."""
    return types.int32(types.intp, types.intp, types.intp), _summed(_differences)


@_step
def sum_of_products(context: Any, one: Any, other: Any, width: Any) -> Any:  # noqa: ARG001
    """The inner product of two rows of int8."""
    return types.int32(types.intp, types.intp, types.intp), _summed(lambda _, left, right: (left, right))


@_step
def sum_of_steps(context: Any, codes: Any, steps: Any, width: Any) -> Any:  # noqa: ARG001
    """The inner product of a row of int8 and one of int16, of `width` numbers."""
    return types.int32(types.intp, types.intp, types.intp), _summed(lambda _, left, right: (left, right), 2)


@_step
def _word_at(context: Any, address: Any) -> Any:  # noqa: ARG001
    def generate(_: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.load(builder.inttoptr(arguments[0], _I64.as_pointer()), align=1)

    return types.uint64(types.intp), generate


@kernel
def _bits_that_differ(one: Any, other: Any, width: Any) -> Any:
    total = 0
    for at in range(0, width, 8):
        total += ones(_word_at(one + at) ^ _word_at(other + at))
    return total


@kernel
def code_gap(form: Any, one: Any, other: Any, width: Any) -> Any:
    """How far two rows of codes are from each other; smaller is nearer."""
    if form == SQUARES:
        return sum_of_squares(one, other, width)
    if form == PRODUCTS:
        return -sum_of_products(one, other, width)
    return _bits_that_differ(one, other, width)


@kernel
def fetch_row(address: Any, width: Any) -> None:
    """Ask for the lines of a row."""
    for at in range(0, min(width, LINES_FETCHED_MAX * LINE_BYTES), LINE_BYTES):
        fetch(address + at)
