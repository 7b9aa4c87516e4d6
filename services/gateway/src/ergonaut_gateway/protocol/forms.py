"""Forms of requests over HTTP. Whoever asks for predictions again and again sends the same bytes each time, but for the numbers
and the id; of such requests the numbers alone are read, those of many requests in one go.

A form is learned from a request that was read whole. All that it has in its place is then again what it was there, since JSON's
values stand each for itself: what is put in the place of a list or a text changes the meaning of nothing around it, as long as
it is a list or a text.
"""

import math
import struct
from collections.abc import Hashable, Sequence
from typing import Any

import msgspec
import numpy as np
import orjson

from ergonaut_gateway.domain.tensors import DTYPES, Tensor
from ergonaut_gateway.protocol.bounds import ID_CHARACTERS_MAX
from ergonaut_gateway.protocol.http_wire import USUAL, Terms
from ergonaut_gateway.protocol.json_tensors import packing

FORM_BYTES_MAX = 1_024
"""Of all that is the same in each request. A connection keeps one form, so that a thousand keep a MiB or two."""

NUMBERS_MAX = 4_096
"""In a row; of more the numbers take so long that nothing is gained."""

RAW_BYTES_MAX = 2_048
"""Of a row that comes as it is in memory; larger ones are not copied together, since they can be used where they are."""

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
    data: msgspec.Raw = msgspec.Raw()
    parameters: dict[str, Any] = {}


class _Unread(msgspec.Struct):
    inputs: list[_UnreadInput]
    id: msgspec.Raw = msgspec.Raw()


_unread = msgspec.json.Decoder(_Unread)


class Form:
    """What all requests of a form have in common: they ask for one row of one input, and for nothing more."""

    __slots__ = ("_after", "_before_id", "_beginning", "_id", "_middle", "dtype", "name", "shape", "terms")

    def __init__(self, given: _UnreadInput, terms: Terms, request_id: bytes, around: tuple[bytes, bytes]) -> None:
        self.name = given.name
        """Of the input."""
        self.shape = tuple(given.shape[1:])
        """Of a row."""
        self.dtype = DTYPES[given.datatype]
        self.terms = terms
        self._id = request_id
        self._beginning, self._after = around
        self._before_id = self._middle = b""

    @property
    def key(self) -> Hashable:
        """Requests of forms with the same key, of the same model, are alike."""
        return self.name, self.shape, self.dtype, self.is_binary, self.terms is USUAL

    @property
    def is_binary(self) -> bool:
        """Whether numbers come as bytes of memory."""
        return not self._after

    def let_id_vary(self) -> None:
        """Take requests with other ids, too, where the id comes before the numbers."""
        before, id_, middle = self._beginning.partition(b'"%b"' % self._id)
        if id_:
            self._before_id, self._middle = before + b'"', b'"' + middle

    def cut(self, body: bytes) -> tuple[bytes, bytes] | None:
        """The id and the numbers of a request, neither of them read; None for one of another form. What stands in the place of
        the numbers may be anything: `rows` tells."""
        request_id, begin = self._id, len(self._beginning)
        if not body.startswith(self._beginning):
            if not self._before_id or not body.startswith(self._before_id):
                return None
            id_at = len(self._before_id)
            id_ends = body.find(b'"', id_at, id_at + ID_CHARACTERS_MAX + 1)
            request_id = body[id_at:id_ends]
            if id_ends < 0 or not body.startswith(self._middle, id_ends) or request_id.translate(None, _PLAIN):
                return None
            if id_ends + len(self._middle) != begin and self.is_binary:
                # Where the JSON ends is said beside the body, and so not where it does here.
                return None
            begin = id_ends + len(self._middle)
        end = len(body) - len(self._after)
        if not begin < end < BODY_BYTES_MAX or not body.endswith(self._after):
            return None
        return request_id, body[begin:end]

    def rows(self, numbers: Sequence[bytes]) -> Tensor | None:
        """As many rows as there are pieces, exactly as if each had been read by itself. None where any of them is something else,
        or odd; each must be read by itself then."""
        count = math.prod(self.shape)
        if not self.is_binary:
            rows = rows_of(numbers, count)
        elif {len(piece) for piece in numbers} == {count * self.dtype.itemsize}:
            rows = np.frombuffer(b"".join(numbers), self.dtype)
        else:
            rows = None
        return rows.reshape(len(numbers), *self.shape) if rows is not None else None


def form_of(body: bytes, json_bytes: int | None, terms: Terms) -> Form | None:
    """The form of a request that was read and found right, which is JSON up to so many bytes, or all of it. None where it asks
    for more than a row, or is too long to be kept."""
    try:
        document = _unread.decode(body[:json_bytes])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    given = document.inputs[0] if len(document.inputs) == 1 else None
    id_text = bytes(document.id)
    if given is None or given.shape[:1] != [1] or id_text[1:-1].translate(None, _PLAIN):
        return None
    around = _around_text(body, given) if json_bytes is None else _around_raw(body, json_bytes, given)
    if around is None or len(around[0]) + len(around[1]) > FORM_BYTES_MAX:
        return None
    form = Form(given, terms, id_text[1:-1], around)
    # Only one text is as the id is, so it is the id.
    if id_text and body[:json_bytes].count(id_text) == 1:
        form.let_id_vary()
    return form


def _around_text(body: bytes, given: _UnreadInput) -> tuple[bytes, bytes] | None:
    """What is around numbers that are written in JSON."""
    numbers, count = bytes(given.data), math.prod(given.shape)
    if given.datatype != "FP32" or given.parameters or not 0 < count <= NUMBERS_MAX or body.count(numbers) != 1:
        return None
    if rows_of([numbers[1:-1]], count) is None:
        return None
    before, _, after = body.partition(numbers)
    return before + b"[", b"]" + after


def _around_raw(body: bytes, json_bytes: int, given: _UnreadInput) -> tuple[bytes, bytes] | None:
    """What is around numbers that follow the JSON as they are in memory: nothing after them."""
    raw_bytes, dtype = len(body) - json_bytes, DTYPES[given.datatype]
    if given.parameters != {"binary_data_size": raw_bytes} or dtype.kind not in "iuf" or bytes(given.data):
        return None
    return (body[:json_bytes], b"") if 0 < raw_bytes <= RAW_BYTES_MAX else None


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
