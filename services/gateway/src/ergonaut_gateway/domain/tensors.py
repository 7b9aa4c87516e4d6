"""Tensors as numpy arrays and as the little-endian bytes in which both wires carry them. Used by protocol and adapters.

A `BYTES` tensor is an object array of `bytes`; its raw form puts a 4-byte little-endian length before each element. A `BF16`
tensor, for which numpy has no type, is an array of its 16 bits under a name of their own, so that nobody takes them for numbers.
"""

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ergonaut.errors import Refused

Tensor = npt.NDArray[Any]

BYTES = "BYTES"
BF16 = "BF16"
BF16_BITS = "bf16"
"""The one field of a BF16 element."""

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("bool"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    BF16: np.dtype([(BF16_BITS, "<u2")]),
    BYTES: np.dtype("O"),
}
"""The datatypes of the Open Inference Protocol, and what holds them in memory."""

_DATATYPES = {dtype: name for name, dtype in DTYPES.items()}

RANK_MAX = 16
"""No model that we know of has more axes; a bound keeps hostile shapes cheap to refuse."""

AXIS_MAX = 2**31 - 1
"""The longest axis; longer ones cannot be filled by any request that is let in."""

EMPTY_MAX = 2**24
"""What the other axes of an empty tensor may have together, as many as a large body has numbers: a request of some bytes could
else make a model fill gigabytes, by a sum along the empty axis."""

TEXTS_MAX = 2**22
"""Elements of a BYTES tensor: each is an object of its own, of 40 bytes or more, however short it is on the wire."""

_LENGTH = struct.Struct("<I")


def dtype_of(datatype: str, *, field: str) -> np.dtype[Any]:
    """What holds a datatype in memory. Raises Refused for one that we do not know."""
    dtype = DTYPES.get(datatype)
    if dtype is None:
        raise Refused(f"{datatype!r} is not one of {', '.join(DTYPES)}", field=f"{field}.datatype")
    return dtype


def datatype_of(tensor: Tensor) -> str:
    """The datatype of a tensor that we hold."""
    return _DATATYPES[tensor.dtype]


def element_count(shape: Sequence[int], *, field: str) -> int:
    """How many elements a shape has. Raises Refused for a shape that cannot be."""
    if len(shape) > RANK_MAX:
        raise Refused(f"has {len(shape)} axes, at most {RANK_MAX} are taken", field=f"{field}.shape")
    for length in shape:
        if not 0 <= length <= AXIS_MAX:
            raise Refused(f"{list(shape)} has an axis outside 0 to {AXIS_MAX}", field=f"{field}.shape")
    count = math.prod(shape)
    if not count and math.prod(length for length in shape if length) > EMPTY_MAX:
        raise Refused(f"{list(shape)} is too large for an empty tensor", field=f"{field}.shape")
    return count


def shaped(flat: Tensor, shape: Sequence[int], *, field: str) -> Tensor:
    """Give elements in row-major order their shape. Raises Refused where their number differs."""
    expected = element_count(shape, field=field)
    if flat.size != expected:
        raise Refused(f"{flat.size} elements were given, the shape {list(shape)} has {expected}", field=field)
    try:
        return flat.reshape(shape)
    except ValueError as error:
        raise Refused(f"{list(shape)} is too large: {error}", field=f"{field}.shape") from error


def from_raw(raw: bytes | memoryview, datatype: str, shape: Sequence[int], *, field: str) -> Tensor:
    """Read a tensor from its raw form. Raises Refused, naming `field`, where the bytes do not fit datatype and shape."""
    dtype = dtype_of(datatype, field=field)
    if datatype == BYTES:
        expected = check_texts(element_count(shape, field=field), field=field)
        return shaped(object_array(_split(memoryview(raw), expected, field=field)), shape, field=field)
    expected_bytes = element_count(shape, field=field) * dtype.itemsize
    if len(raw) != expected_bytes:
        raise Refused(
            f"{len(raw)} bytes were given, {datatype} of shape {list(shape)} has {expected_bytes}", field=field
        )
    if datatype == "BOOL" and (np.frombuffer(raw, dtype=np.uint8) > 1).any():
        raise Refused("a BOOL is a byte 0 or 1", field=field)
    flat = np.frombuffer(raw, dtype=dtype)
    # Where a tensor begins in a body is its caller's doing, and not every engine reads across words.
    flat = flat if flat.flags.aligned else flat.copy()
    return flat.reshape(shape) if flat.size else shaped(flat, shape, field=field)


def check_texts(count: int, *, field: str) -> int:
    """The number of elements of a BYTES tensor. Raises Refused where these are too many."""
    if count > TEXTS_MAX:
        raise Refused(f"has {count} elements, at most {TEXTS_MAX} of BYTES are taken; send less at once", field=field)
    return count


def to_raw(tensor: Tensor) -> bytes:
    """Write a tensor in its raw form."""
    if tensor.dtype == object:
        return b"".join(_LENGTH.pack(len(element)) + element for element in tensor.ravel())
    return tensor.tobytes()


def bf16_of(numbers: Tensor) -> Tensor:
    """FP32 numbers as BF16, rounded to the nearest, ties to even.

    >>> float32_of(bf16_of(np.array([1.0, 3.14159274], dtype="<f4"))).tolist()
    [1.0, 3.140625]
    """
    bits = np.ascontiguousarray(numbers, dtype="<f4").view("<u4")
    rounded = ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype("<u2")
    # Rounding could carry a NaN over to infinity, so it keeps its upper half with a bit that says that it is one.
    nan = np.isnan(numbers)
    if nan.any():
        rounded = np.where(nan, ((bits >> np.uint32(16)) | np.uint32(0x40)).astype("<u2"), rounded)
    return rounded.view(DTYPES[BF16]).reshape(numbers.shape)


def float32_of(tensor: Tensor) -> Tensor:
    """A BF16 tensor as the same numbers in FP32."""
    bits = np.ascontiguousarray(tensor).view("<u2").astype("<u4") << np.uint32(16)
    return bits.view("<f4").reshape(tensor.shape)


def object_array(elements: Sequence[bytes]) -> Tensor:
    """A flat BYTES tensor; numpy alone would cut trailing zero bytes or look into sequences."""
    flat = np.empty(len(elements), dtype=object)
    flat[:] = elements
    return flat


def _split(raw: memoryview, expected: int, *, field: str) -> list[bytes]:
    elements: list[bytes] = []
    at = 0
    while at < len(raw):
        begin = at + _LENGTH.size
        if begin > len(raw):
            raise Refused("ends within an element's length", field=field)
        at = begin + _LENGTH.unpack_from(raw, at)[0]
        if at > len(raw):
            raise Refused("ends within an element", field=field)
        elements.append(bytes(raw[begin:at]))
        if len(elements) > expected:
            raise Refused(f"more elements were given than the {expected} of its shape", field=field)
    return elements
