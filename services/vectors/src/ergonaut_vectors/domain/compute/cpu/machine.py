"""How kernels are compiled; and single steps that processors have an instruction for and numba no name: counted and found bits,
halves as floats. The steps are LLVM's own, so that each machine gets what it has. Used by all kernels.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ergonaut_vectors.domain.compute.cpu.kept_code import KernelCache

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Sums may be taken in any order, so that they use the machine's wide registers. The other liberties of fastmath assume that
# no number is infinite, which the ends of answers are.
SUM_LIBERTIES = {"reassoc", "contract", "nsz"}


def kernel(function: _Function) -> _Function:
    """A compiled function that releases the interpreter; kept on disk, for compiling takes a second."""
    return _compiled(function)


def sum_kernel(function: _Function) -> _Function:
    """The same where sums of floats may be taken in any order."""
    return _compiled(function, fastmath=SUM_LIBERTIES)


def _compiled(function: _Function, **options: Any) -> _Function:
    made = numba.njit(nogil=True, boundscheck=False, error_model="numpy", **options)(function)
    made._cache = KernelCache(function)  # in place of the one that `cache=True` asks for
    return cast(_Function, made)


def _step(function: Callable[..., Any]) -> Callable[[Any], Any]:
    """What kernels call with a number: the first parameter of its definition is numba's."""
    return cast(Callable[[Any], Any], intrinsic(function))


@_step
def ones(context: Any, number: Any) -> Any:  # noqa: ARG001
    """How many bits of an unsigned number are set."""

    def generate(_: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.ctpop(arguments[0])

    return number(number), generate


@_step
def lowest(context: Any, word: Any) -> Any:  # noqa: ARG001
    """The place of the lowest bit that is set in a word that is not 0."""

    def generate(_: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@_step
def widened(context: Any, half: Any) -> Any:  # noqa: ARG001
    """The float32 that a float16, given as its 16 bits, stands for; numba's CPU has no arithmetic of halves."""

    def generate(_: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), generate


@_step
def bits_of(context: Any, number: Any) -> Any:  # noqa: ARG001
    """The bits of a float32 as a whole number."""

    def generate(_: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


@_step
def number_of(context: Any, bits: Any) -> Any:  # noqa: ARG001
    """The float32 of these bits."""

    def generate(_: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate
