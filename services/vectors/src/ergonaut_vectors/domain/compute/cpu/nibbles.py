"""The scan of 4-bit codes: 32 rows at a time are looked up in tables that stay in a register (`vpshufb`).

A block is 32 rows; of each pair of parts it has 32 bytes, one a row, the first part in the low half. Tables are of 16 bytes a
part, at most 127 each, so that two may be added before they are widened. Used by `lists.py`, for product codes of 4 bits
and for 1-bit codes taken four dimensions at a time.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ergonaut_vectors.domain.compute.cpu.machine import kernel
from ergonaut_vectors.domain.compute.cpu.memory import address_of
from ergonaut_vectors.domain.space import Floats

BLOCK_ROWS = 32
CHOICES = 16
ENTRY_LAST = 127
"""The largest entry of a table."""

SUM_LAST = 65535
"""What a sum of entries may come to."""

Bytes = npt.NDArray[np.uint8]
Sums = npt.NDArray[np.uint16]

_BUILDING: Any = cgutils
_BYTES = ir.VectorType(ir.IntType(8), BLOCK_ROWS)
_TABLE = ir.VectorType(ir.IntType(8), CHOICES)
_PAIRS = ir.VectorType(ir.IntType(16), BLOCK_ROWS // 2)
_SUMS = ir.VectorType(ir.IntType(16), BLOCK_ROWS)


def _shuffle(builder: Any, table: Any, places: Any) -> Any:
    made = ir.FunctionType(_BYTES, [_BYTES, _BYTES])
    function = _BUILDING.get_or_insert_function(builder.module, made, "llvm.x86.avx2.pshuf.b")
    return builder.call(function, [table, places])


def _load(builder: Any, address: Any, kind: Any) -> Any:
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=1)


def _order(lanes: int, places: list[int]) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), lanes), places)


def _add_pair(builder: Any, addresses: tuple[Any, Any], sums: tuple[Any, Any]) -> None:
    """Look 64 halves up and add them to sums of the even rows, in which the odd ones are mixed, and of the odd ones."""
    codes, tables = addresses
    mixed, odd = sums
    both = _load(builder, codes, _BYTES)
    spread = _order(BLOCK_ROWS, [*range(CHOICES), *range(CHOICES)])
    first = _load(builder, tables, _TABLE)
    second = _load(builder, builder.add(tables, ir.Constant(tables.type, CHOICES)), _TABLE)
    low = builder.and_(both, ir.Constant(_BYTES, [15] * BLOCK_ROWS))
    high = builder.lshr(both, ir.Constant(_BYTES, [4] * BLOCK_ROWS))
    found = builder.add(
        _shuffle(builder, builder.shuffle_vector(first, first, spread), low),
        _shuffle(builder, builder.shuffle_vector(second, second, spread), high),
    )
    wide = builder.bitcast(found, _PAIRS)
    builder.store(builder.add(builder.load(mixed), wide), mixed)
    upper = builder.lshr(wide, ir.Constant(_PAIRS, [8] * (BLOCK_ROWS // 2)))
    builder.store(builder.add(builder.load(odd), upper), odd)


def _generate(_: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
    codes, tables, pairs, sums = arguments
    zero = ir.Constant(_PAIRS, [0] * (BLOCK_ROWS // 2))
    mixed, odd = (_BUILDING.alloca_once_value(builder, zero) for _ in range(2))
    builder.store(zero, mixed)
    builder.store(zero, odd)
    with _BUILDING.for_range(builder, pairs) as loop:
        past = builder.mul(loop.index, ir.Constant(loop.index.type, BLOCK_ROWS))
        _add_pair(builder, (builder.add(codes, past), builder.add(tables, past)), (mixed, odd))
    high = builder.load(odd)
    low = builder.sub(builder.load(mixed), builder.shl(high, ir.Constant(_PAIRS, [8] * (BLOCK_ROWS // 2))))
    woven = [lane for i in range(BLOCK_ROWS // 2) for lane in (i, BLOCK_ROWS // 2 + i)]
    both = builder.shuffle_vector(low, high, _order(BLOCK_ROWS, woven))
    builder.store(both, builder.inttoptr(sums, _SUMS.as_pointer()), align=1)
    return ir.Constant(ir.IntType(64), 0)


def _shuffled(context: Any, codes: Any, tables: Any, pairs: Any, sums: Any) -> Any:  # noqa: ARG001
    """Of the block at the first address, with tables at the second, of so many pairs of parts; writes 32 sums at the last."""
    return types.int64(types.intp, types.intp, types.intp, types.intp), _generate


_shuffled_sums = cast(Callable[[Any, Any, Any, Any], Any], intrinsic(_shuffled))


@kernel
def plain_block_sums(codes: Bytes, block: Any, tables: Bytes, sums: Sums) -> None:
    """The same by one look-up at a time; what a test compares, and what machines without AVX2 do."""
    pairs = tables.shape[0] // 2
    for row in range(BLOCK_ROWS):
        total = np.uint16(0)
        for pair in range(pairs):
            both = codes[block, pair, row]
            total = np.uint16(total + tables[2 * pair, both & 15] + tables[2 * pair + 1, both >> 4])
        sums[row] = total


@kernel
def _shuffled_block_sums(codes: Bytes, block: Any, tables: Bytes, sums: Sums) -> None:
    pairs = tables.shape[0] // 2
    address = address_of(codes) + np.int64(block) * pairs * BLOCK_ROWS
    _shuffled_sums(address, address_of(tables), pairs, address_of(sums))


block_sums = _shuffled_block_sums if binding.get_host_cpu_features().get("avx2", False) else plain_block_sums
"""The sums of the table entries of the 32 rows of a block; codes are [blocks, pairs, 32], tables [parts, 16]."""


@kernel
def pack(codes: Bytes, packed: Bytes) -> None:
    """Codes of rows, [count, parts] of 0 to 15, as blocks, which are 0 at first; parts are of an even number."""
    for row in range(codes.shape[0]):
        for pair in range(packed.shape[1]):
            both = codes[row, 2 * pair] | (codes[row, 2 * pair + 1] << 4)
            packed[row // BLOCK_ROWS, pair, row % BLOCK_ROWS] = both


@kernel
def table_of(products: Floats, tables: Bytes) -> tuple[Any, Any]:
    """Tables of whole steps of tables of floats; gives what no step is worth (of all parts together) and what one is."""
    parts = products.shape[0]
    widest, base = np.float32(0.0), np.float32(0.0)
    for part in range(parts):
        least, most = products[part, 0], products[part, 0]
        for choice in range(1, CHOICES):
            least, most = min(least, products[part, choice]), max(most, products[part, choice])
        widest = max(widest, most - least)
        base += least
    last = np.float32(min(ENTRY_LAST, SUM_LAST // parts))
    inverse = last / widest if widest > np.float32(0.0) else np.float32(0.0)
    for part in range(parts):
        least = products[part].min()
        for choice in range(CHOICES):
            tables[part, choice] = np.uint8((products[part, choice] - least) * inverse + np.float32(0.5))
    return base, widest / last
