"""The `data` of a tensor in JSON: numbers, booleans or text, flat in row-major order or nested as the shape is."""

import math
import struct
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Annotated, Any

import msgspec
import numpy as np
import orjson

from ergonaut.errors import Refused
from ergonaut_gateway.domain.tensors import (
    BF16,
    BYTES,
    DTYPES,
    RANK_MAX,
    Tensor,
    bf16_of,
    dtype_of,
    element_count,
    float32_of,
    object_array,
    shaped,
)

_ELEMENTS: dict[str, Any] = {"b": bool, "i": int, "u": int, "f": float, "O": str}
"""What JSON must hold for each kind of numpy type; msgspec takes no number for a boolean and no fraction for a whole one."""

BEGINNING_BYTES = 256
"""How far the opening brackets of a list are looked for; RANK_MAX of them fit, each with some white space around."""


_FP32, _FP64 = (float(np.finfo(DTYPES[name]).max) for name in ("FP32", "FP64"))
Fp32 = Annotated[float, msgspec.Meta(ge=-_FP32, le=_FP32)]
"""A number that FP32 can hold."""
Fp64 = Annotated[float, msgspec.Meta(ge=-_FP64, le=_FP64)]
"""A number that FP64 can hold."""

_ORDINARY: dict[str, msgspec.json.Decoder[list[float]]] = {
    "FP32": msgspec.json.Decoder(list[Fp32]),
    "FP64": msgspec.json.Decoder(list[Fp64]),
}
"""What reads a flat list of numbers that the datatype can hold."""


def from_json(data: bytes | memoryview, datatype: str, shape: Sequence[int], *, field: str) -> Tensor:
    """Read a tensor from the JSON text of its elements. Raises Refused, naming `field`."""
    ordinary = _ordinary(data, datatype, shape)
    if ordinary is not None:
        return ordinary
    dtype = dtype_of("FP32" if datatype == BF16 else datatype, field=field)
    element_count(shape, field=field)
    depth = _depth(bytes(data[:BEGINNING_BYTES]))
    try:
        elements = _decoder(dtype.kind, depth).decode(data)
        with np.errstate(over="ignore"):
            tensor = np.array(elements, dtype=dtype)
        if datatype == BYTES:
            tensor = _encoded(tensor, depth)
    except (msgspec.DecodeError, UnicodeError, ValueError, OverflowError, RecursionError) as error:
        raise Refused(f"is not {datatype}: {_in_words(error)}", field=f"{field}.data") from error
    if dtype.kind == "f" and not np.isfinite(tensor).all():
        raise Refused(f"holds a number too large for {datatype}", field=f"{field}.data")
    if depth > 1 and tensor.shape != tuple(shape):
        raise Refused(f"is nested as {list(tensor.shape)}, the shape is {list(shape)}", field=f"{field}.data")
    flat = tensor.reshape(-1)
    if datatype == BF16:
        flat = bf16_of(flat)
        if not np.isfinite(float32_of(flat)).all():
            raise Refused(f"holds a number too large for {datatype}", field=f"{field}.data")
    return shaped(flat, shape, field=f"{field}.data")


def _ordinary(data: bytes | memoryview, datatype: str, shape: Sequence[int]) -> Tensor | None:
    """The tensor that a flat list of numbers is, which most are, read in half the time. None for all that is otherwise, or
    wrong, which is then looked at with care."""
    decoder = _ORDINARY.get(datatype)
    if decoder is None:
        return None
    try:
        elements = decoder.decode(data)
    except (msgspec.DecodeError, UnicodeError):
        return None
    return flat_tensor(elements, DTYPES[datatype], shape)


def flat_tensor(elements: list[float], dtype: np.dtype[Any], shape: Sequence[int]) -> Tensor | None:
    """The tensor of a flat list of numbers that its type can hold. None where they do not fill the shape, or it is odd."""
    count = len(elements)
    if not count or not 0 < len(shape) <= RANK_MAX or min(shape) < 0 or math.prod(shape) != count:
        return None
    # Twice as fast as numpy's own ways of reading a list.
    return np.frombuffer(packing(count, dtype.char)(*elements), dtype).reshape(shape)


@lru_cache(maxsize=128)
def packing(count: int, kind: str) -> Callable[..., bytes]:
    """What makes the bytes of so many numbers. Raises OverflowError for one that the type cannot hold."""
    return struct.Struct(f"<{count}{kind}").pack


def to_json(tensor: Tensor, *, field: str) -> Tensor | list[str]:
    """The elements, flat, in a form that orjson writes. JSON knows no NaN and no infinity: they are written as null."""
    kind = tensor.dtype.kind
    if kind == "V":
        tensor = float32_of(tensor)
    if kind != "O":
        return tensor if tensor.ndim == 1 else tensor.reshape(-1)
    try:
        return [element.decode() for element in tensor.reshape(-1)]
    except UnicodeDecodeError as error:
        raise Refused("is not text; ask for it with binary_data", field=field) from error


def dump(document: Any) -> bytes:
    """Write JSON, numpy arrays included."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _depth(beginning: bytes) -> int:
    """How deep a list is nested, told by its first characters."""
    opening = beginning.translate(None, b" \t\r\n")
    return min(max(1, len(opening) - len(opening.lstrip(b"["))), RANK_MAX)


@cache
def _decoder(kind: str, depth: int) -> msgspec.json.Decoder[Any]:
    """A decoder for lists nested so deep; there are at most five kinds times RANK_MAX depths."""
    form: Any = _ELEMENTS[kind]
    for _ in range(depth):
        form = list[form]
    return msgspec.json.Decoder(form)


def _encoded(texts: Tensor, depth: int) -> Tensor:
    # numpy makes an array of lists where nested text is ragged, so the number of axes tells.
    if texts.ndim != depth:
        raise ValueError("the nested lists differ in length")
    return object_array([text.encode() for text in texts.reshape(-1)]).reshape(texts.shape)


def _in_words(error: Exception) -> str:
    if isinstance(error, ValueError) and "inhomogeneous" in str(error):
        return "the nested lists differ in length"
    return str(error) or type(error).__name__
