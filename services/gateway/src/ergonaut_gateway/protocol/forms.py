"""Forms of JSON requests. Whoever asks for predictions again and again sends the same bytes each time, but for the numbers and
the id; of such requests the numbers alone are read, those of many requests in one go.

A form is learned from a request that was read whole. All that it has in its place is then again what it was there, since JSON's
values stand each for itself: what is put in the place of a list or a text changes the meaning of nothing around it, as long as
it is a list or a text.
"""

import math
import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import orjson

from ergonaut_gateway.domain.tensors import DTYPES, Tensor
from ergonaut_gateway.protocol.bounds import ID_CHARACTERS_MAX
from ergonaut_gateway.protocol.json_tensors import packing

FORM_BYTES_MAX = 1_024
"""Of all that is the same in each request. A connection keeps one form, so that a thousand keep a MiB or two."""

NUMBERS_MAX = 4_096
"""In a row; of more the numbers take so long that nothing is gained."""

BODY_BYTES_MAX = 64 * 1024
"""Longer requests take so long by themselves that nothing is gained."""

_PLAIN = bytes(set(range(0x20, 0x7F)) - set(b'"\\'))
"""What an id may be made of to be taken, and given back, as it stands."""

_OF_NUMBERS = b"0123456789.,-+eE \t\r\n"
"""What lists of numbers are made of."""


class _UnreadInput(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    data: msgspec.Raw
    parameters: dict[str, Any] = {}


class _Unread(msgspec.Struct):
    inputs: list[_UnreadInput]
    id: msgspec.Raw = msgspec.Raw()


_unread = msgspec.json.Decoder(_Unread)


class Form:
    """What all requests of a form have in common: they ask for one row of one FP32 input, and for nothing more."""

    __slots__ = ("_after", "_before_id", "_beginning", "_id", "_middle", "count", "name", "shape")

    def __init__(self, name: str, shape: Sequence[int], request_id: bytes, around: tuple[bytes, bytes]) -> None:
        self.name = name
        """Of the input."""
        self.shape = tuple(shape[1:])
        """Of a row."""
        self.count = math.prod(self.shape)
        """Of its numbers."""
        self._id = request_id
        self._beginning, self._after = around
        self._before_id = self._middle = b""

    def let_id_vary(self) -> None:
        """Take requests with other ids, too, where the id comes before the numbers."""
        before, id_, middle = self._beginning.partition(b'"%b"' % self._id)
        if id_:
            self._before_id, self._middle = before + b'"', b'"' + middle

    def cut(self, body: bytes) -> tuple[bytes, bytes] | None:
        """The id and the numbers of a request, neither of them read; None for one of another form. What stands in the place of
        the numbers may be anything: `rows_of` tells."""
        request_id, begin = self._id, len(self._beginning)
        if not body.startswith(self._beginning):
            if not self._before_id or not body.startswith(self._before_id):
                return None
            id_at = len(self._before_id)
            id_ends = body.find(b'"', id_at, id_at + ID_CHARACTERS_MAX + 1)
            request_id = body[id_at:id_ends]
            if id_ends < 0 or not body.startswith(self._middle, id_ends) or request_id.translate(None, _PLAIN):
                return None
            begin = id_ends + len(self._middle)
        end = len(body) - len(self._after)
        if not begin < end < BODY_BYTES_MAX or not body.endswith(self._after):
            return None
        return request_id, body[begin:end]


def form_of(body: bytes) -> Form | None:
    """The form of a request that was read and found right. None where it asks for more than a row, or is too long to be kept."""
    try:
        document = _unread.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    given = document.inputs[0] if len(document.inputs) == 1 else None
    if given is None or given.datatype != "FP32" or given.parameters or given.shape[:1] != [1]:
        return None
    numbers, request_id = bytes(given.data), bytes(document.id)[1:-1]
    if request_id.translate(None, _PLAIN):
        return None
    count = math.prod(given.shape)
    if not 0 < count <= NUMBERS_MAX or len(body) - len(numbers) > FORM_BYTES_MAX or body.count(numbers) != 1:
        return None
    if rows_of([numbers[1:-1]], count) is None:
        return None
    before, _, after = body.partition(numbers)
    form = Form(given.name, given.shape, request_id, (before + b"[", b"]" + after))
    # Only one text is as the id is, so it is the id.
    if bytes(document.id) and body.count(bytes(document.id)) == 1:
        form.let_id_vary()
    return form


def rows_of(numbers: Sequence[bytes], count: int) -> Tensor | None:
    """As many rows as there are pieces, each the text of so many numbers, exactly as if each had been read by itself. None where
    any of them is something else, or too large for FP32; each must be read by itself then."""
    if b"".join(numbers).translate(None, _OF_NUMBERS):
        return None
    try:
        elements = orjson.loads(b"[%b]" % b",null,".join(numbers))
        # Each piece is numbers and commas, so whatever is no number stands between two pieces, and all of these are parted alike.
        if elements[count :: count + 1] != [None] * (len(numbers) - 1):
            return None
        del elements[count :: count + 1]
        packed = packing(count * len(numbers), "f")(*elements)
    except (orjson.JSONDecodeError, OverflowError, struct.error):
        return None
    return np.frombuffer(packed, DTYPES["FP32"]).reshape(len(numbers), count)
