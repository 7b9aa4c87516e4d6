"""Numbers read and written by their addresses: no view is made, none is counted, and one compiled kernel serves arrays that may
be written and mapped ones that may not. Used by the kernels of graphs and lists, whose callers see to it that the addresses are
theirs.
"""

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def _load(bits: int, told: Any) -> Callable[[Any], Any]:
    def load(context: Any, address: Any) -> Any:  # noqa: ARG001
        def generate(_: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
            return builder.load(builder.inttoptr(arguments[0], ir.IntType(bits).as_pointer()))

        return told(types.intp), generate

    return cast(Callable[[Any], Any], intrinsic(load))


def _store(bits: int, told: Any) -> Callable[[Any, Any], None]:
    def store(context: Any, address: Any, value: Any) -> Any:  # noqa: ARG001
        def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
            builder.store(arguments[1], builder.inttoptr(arguments[0], ir.IntType(bits).as_pointer()))
            return target.get_dummy_value()

        return types.void(types.intp, told), generate

    return cast(Callable[[Any, Any], None], intrinsic(store))


def _address(context: Any, array: Any) -> Any:  # noqa: ARG001
    def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        held = target.make_array(signature.args[0])(target, builder, arguments[0])
        return builder.ptrtoint(held.data, ir.IntType(64))

    return types.intp(array), generate


address_of = cast(Callable[[Any], Any], intrinsic(_address))
"""The address of an array's first number. `ctypes.data` counts a reference each time, which costs more than a short loop."""


def _added(context: Any, address: Any, number: Any) -> Any:  # noqa: ARG001
    def generate(_: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", pointer, arguments[1], "seq_cst")

    return types.int64(types.intp, types.int64), generate


add_key = cast(Callable[[Any, Any], Any], intrinsic(_added))
"""Add to a number in one step that no other thread comes between; gives what it was."""

load_mark, store_mark = _load(16, types.uint16), _store(16, types.uint16)
load_row, store_row = _load(32, types.int32), _store(32, types.int32)
load_key, store_key = _load(64, types.int64), _store(64, types.int64)

MARK_BYTES, ROW_BYTES, KEY_BYTES = 2, 4, 8
