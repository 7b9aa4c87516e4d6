"""The nearest of many candidates, collected without order: a pool that is cut to its nearest each time it is full, which costs
less a candidate than a heap does. Called by `lists.py` and `parts.py`.

An entry is one 64-bit number, the distance before the row, so that entries order as (distance, row) do and no two are equal.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ergonaut_vectors.domain.compute.cpu.machine import bits_of, kernel, number_of
from ergonaut_vectors.domain.compute.cpu.scan import NONE, RowNumbers

Keys = npt.NDArray[np.int64]

POOL_TIMES = 3
"""Entries of a pool before it is cut, as a multiple of those that are kept: with more the bound becomes sharp late, with fewer
it is cut often."""

_WORD = ir.IntType(32)
_MASKED = 32
_MAGNITUDE = np.int32(0x7FFFFFFF)
_ROW = np.int64(0xFFFFFFFF)


def _nearer(context: Any, address: Any, bound: Any) -> Any:  # noqa: ARG001

    def generate(_: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        kind = ir.VectorType(ir.FloatType(), _MASKED)
        numbers = builder.load(builder.inttoptr(arguments[0], kind.as_pointer()), align=4)
        single = builder.insert_element(ir.Constant(kind, ir.Undefined), arguments[1], _WORD(0))
        bounds = builder.shuffle_vector(single, single, ir.Constant(ir.VectorType(_WORD, _MASKED), [0] * _MASKED))
        nearer = builder.fcmp_ordered("<", numbers, bounds)
        return builder.zext(builder.bitcast(nearer, _WORD), ir.IntType(64))

    return types.uint64(types.intp, types.float32), generate


nearer_of_32 = cast(Callable[[Any, Any], Any], intrinsic(_nearer))
"""Which of the 32 floats at an address are less than a bound, a bit each."""


@kernel
def entry_of(far: Any, row: Any) -> Any:
    """A candidate as an entry; floats order as whole numbers do when those below 0 have their other bits turned."""
    bits = bits_of(far)
    ordered = bits ^ _MAGNITUDE if bits < 0 else bits
    return np.int64(ordered) << 32 | np.int64(row)


@kernel
def far_of(entry: Any) -> Any:
    """The distance of an entry."""
    ordered = np.int32(entry >> 32)
    return number_of(np.int32(ordered ^ _MAGNITUDE) if ordered < 0 else ordered)


@kernel
def row_of(entry: Any) -> Any:
    """The row of an entry."""
    return entry & _ROW


@kernel
def cut(pool: Keys, size: Any, kept: Any) -> Any:
    """Bring the nearest so many to the front; gives the distance of the farthest of these."""
    low, high = 0, size
    while low < kept < high:
        one, other, last = pool[low], pool[(low + high) >> 1], pool[high - 1]
        pivot = max(min(one, other), min(max(one, other), last))
        at = low
        for i in range(low, high):
            # Without a branch, for none could be foretold.
            entry = pool[i]
            pool[i] = pool[at]
            pool[at] = entry
            at += entry < pivot
        if at > kept:
            high = at
        elif at > low:
            low = at
        else:
            # The pivot was the nearest of all.
            for i in range(low, high):
                if pool[i] == pivot:
                    pool[i], pool[low] = pool[low], pivot
                    break
            low += 1
    return far_of(pool[:kept].max())


@kernel
def taken(pool: Keys, size: Any, rows: RowNumbers) -> None:
    """The rows of the nearest entries in any order, NONE behind the last."""
    if size > rows.shape[0]:
        cut(pool, size, rows.shape[0])
    for at in range(rows.shape[0]):
        rows[at] = np.int32(row_of(pool[at])) if at < size else np.int32(NONE)
