"""What comes by columns, checked: packed matrices, ids and payloads become the rows and batches that shards take.

Every rule on input that is not told in `schema.py` is here, and names the field that breaks it. The doors call.
"""

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ergonaut.errors import Refused
from ergonaut_vectors.domain.payload import documents
from ergonaut_vectors.domain.payload.fields import Payload
from ergonaut_vectors.domain.payload.filters import Filter, parsed
from ergonaut_vectors.domain.schema import BATCH_MAX, ID_CHARACTERS_MAX, NUMBER_MAX, Schema
from ergonaut_vectors.domain.segments.writes import Changes, Deletes, Upserts
from ergonaut_vectors.domain.space import Element, Metric, Rows

FILTER_CHARACTERS_MAX = 262_144
"""4,096 ids of 64 characters; whoever needs more asks several times."""

HALF_MAX = 65504.0
"""The greatest number of float16."""

_TAKEN_AS: dict[Element, "np.dtype[Any]"] = {
    Element.FLOAT32: np.dtype("<f4"),
    Element.FLOAT16: np.dtype("<f2"),
    Element.UINT8: np.dtype("u1"),
    Element.INT8: np.dtype("i1"),
    Element.BINARY: np.dtype("u1"),
}


def rows_of(schema: Schema, content: bytes, told: Element | None, where: str, *, count: int = 0) -> Rows:
    """The vectors of packed bytes, as the collection keeps them. Raises Refused.

    `told` is what a number is in the bytes; None says that it is as the collection keeps it. A count of 0 leaves it to the bytes.
    """
    space = schema.space
    element = _element(told or space.element, space.element, where)
    width = space.width if element is Element.BINARY else space.dimension
    number_bytes = _TAKEN_AS[element].itemsize
    if not content or len(content) % (width * number_bytes) or count * width * number_bytes not in (0, len(content)):
        raise Refused(
            f"has {_size_of(content, count, number_bytes)}; the collection needs {width} for a vector", field=where
        )
    rows = np.frombuffer(content, _TAKEN_AS[element]).reshape(-1, width)
    if len(rows) > BATCH_MAX:
        raise Refused(f"has {len(rows)} entries; 1 to {BATCH_MAX} are taken at once", field=where)
    return checked_rows(schema, rows, where)


def checked_rows(schema: Schema, rows: npt.NDArray[Any], where: str, *, each: str = "") -> Rows:
    """Vectors of numbers, as the collection keeps them, or Refused naming the first that is wrong: `<where>[<row>]<each>`."""
    space = schema.space
    check = partial(_check_each, where=where, each=each)
    if rows.shape[1] != space.width:
        raise Refused(f"has {rows.shape[1]} numbers, the collection needs {space.width}", field=f"{where}[0]")
    if rows.dtype.kind == "f":
        low, high = _bounds(space.element)
        # At float32, for as float16 the bounds would be infinite.
        wide = rows.astype(np.float32, copy=False)
        # What is no number is neither the least nor the greatest, nor within any bounds.
        if not (wide.min(initial=0.0) >= low and wide.max(initial=0.0) <= high):
            check(np.isfinite(rows).all(axis=1), "holds a number that is not finite")
            message = f"holds a number beyond {low:g} to {high:g}, which {space.element} cannot keep; scale the vectors"
            check(((wide >= low) & (wide <= high)).all(axis=1), message)
        if space.element in (Element.UINT8, Element.INT8):
            rows = np.rint(rows)
    if space.metric is Metric.COSINE:
        check(rows.any(axis=1), "has length zero; the cosine needs a direction")
    if space.element is Element.BINARY and space.dimension % 8:
        spare = rows[:, -1] >> (space.dimension % 8)
        check(spare == 0, "has bits set behind its last dimension")
    return np.ascontiguousarray(rows, space.dtype)


def checked_write(schema: Schema, ids: Sequence[str], rows: Rows, payloads: Sequence[bytes], where: str) -> Upserts:
    """A batch to write, or Refused naming the first thing that is wrong."""
    check_ids(ids, f"{where}.ids")
    if len(rows) != len(ids):
        raise Refused(f"has {len(rows)} vectors for {len(ids)} ids", field=f"{where}.vectors")
    if len(set(ids)) != len(ids):
        seen: set[str] = set()
        at = next(at for at, name in enumerate(ids) if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise Refused(f"{ids[at]!r} is there already; a request writes an id once", field=f"{where}.ids[{at}]")
    if len(payloads) not in (0, len(ids)):
        raise Refused(f"has {len(payloads)} entries for {len(ids)} ids", field=f"{where}.payloads")
    told = [payload_of(schema, each, f"{where}.payloads[{at}]") for at, each in enumerate(payloads)]
    return Upserts(ids, rows, told if any(told) else ())


def checked_change(schema: Schema, ids: Sequence[str], payloads: Sequence[bytes], *, merged: bool) -> Changes:
    """Payloads to write anew, one for each id or one for all, or Refused naming the first thing that is wrong."""
    check_ids(ids, "ids")
    if len(payloads) not in (1, len(ids)):
        raise Refused(f"has {len(payloads)} entries for {len(ids)} ids; one for each or one for all", field="payloads")
    told = [payload_of(schema, each, f"payloads[{at}]") for at, each in enumerate(payloads)]
    return Changes(ids, told if len(told) == len(ids) else told * len(ids), merged)


def checked_removal(ids: Sequence[str]) -> Deletes:
    """Ids to remove, or Refused naming the first that is wrong."""
    check_ids(ids, "ids")
    return Deletes(tuple(dict.fromkeys(ids)))


def check_ids(ids: Sequence[str], where: str) -> None:
    """Raise Refused unless these may be ids, and are as many as a request may have."""
    if not 1 <= len(ids) <= BATCH_MAX:
        raise Refused(f"has {len(ids)} entries; 1 to {BATCH_MAX} are taken at once", field=where)
    for at, name in enumerate(ids):
        if not 1 <= len(name) <= ID_CHARACTERS_MAX:
            message = f"has {len(name)} characters; 1 to {ID_CHARACTERS_MAX} are taken"
            raise Refused(message, field=f"{where}[{at}]")


def payload_of(schema: Schema, content: bytes, where: str) -> Payload:
    """The payload that JSON in UTF-8 says, or Refused naming the part that is wrong. None is an empty one."""
    if not content:
        return {}
    if len(content) > documents.PAYLOAD_BYTES_MAX:
        message = f"has {len(content)} bytes as JSON; at most {documents.PAYLOAD_BYTES_MAX} are taken"
        raise Refused(message, field=where)
    told = _json(content, where)
    return documents.Written(told, documents.checked(told, schema.fields, where))


def filter_of(text: str, where: str = "options.filter") -> Filter | None:
    """The filter that JSON says, None for an empty text. Raises Refused."""
    if not text:
        return None
    if len(text) > FILTER_CHARACTERS_MAX:
        raise Refused(f"has {len(text)} characters; at most {FILTER_CHARACTERS_MAX} are taken", field=where)
    return parsed(_json(text, where), where=where)


def _size_of(content: bytes, count: int, number_bytes: int) -> str:
    """What bytes are that are no vectors of the collection."""
    told, spare = divmod(len(content), number_bytes * max(count, 1))
    if not content or spare:
        return f"{len(content)} bytes ({number_bytes} to a number)"
    return f"{told} numbers for each of {count} vectors" if count > 1 else f"{told} numbers"


def _json(content: bytes | str, where: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Refused(f"is no JSON: {error}", field=where) from error


def _element(told: Element, kept: Element, where: str) -> Element:
    """How the bytes are read: as they were told, where the collection can keep that."""
    if told is kept or (told is Element.FLOAT32 and kept is not Element.BINARY):
        return told
    if told is Element.UINT8 and kept is Element.BINARY:
        return kept  # bits that were packed before are bytes to whoever sends them
    if told is Element.FLOAT16 and kept is Element.FLOAT32:
        return told
    raise Refused(f"holds {told}, but the collection keeps {kept}", field=where)


def _bounds(element: Element) -> tuple[float, float]:
    if element is Element.UINT8:
        return 0.0, 255.0
    if element is Element.INT8:
        return -128.0, 127.0
    return (-HALF_MAX, HALF_MAX) if element is Element.FLOAT16 else (-NUMBER_MAX, NUMBER_MAX)


def _check_each(good: npt.ArrayLike, message: str, *, where: str, each: str) -> None:
    bad = np.flatnonzero(~np.asarray(good, np.bool_))
    if len(bad):
        raise Refused(message, field=f"{where}[{bad[0]}]{each}")
