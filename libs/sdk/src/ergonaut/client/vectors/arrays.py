"""Arrays as they travel: numpy matrices to packed bytes and back. Used by the client's calls about vectors.

An answer's arrays lie on the bytes that came over the wire, without a copy, and are read only for that. What is sent is copied
once, into the message. numpy is imported when the first array is met: whoever has none does without.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.errors import Refused

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

T = TypeVar("T")

ROWS_MAX = 1024
"""Rows of one message: as many as the door takes."""

BATCH_BYTES_MAX = 4 * 1024 * 1024
"""Bytes of one message: far below what the door takes, so that several may be under way; payloads come on top."""

ELEMENTS = {
    "float32": pb.ELEMENT_FLOAT32,
    "float16": pb.ELEMENT_FLOAT16,
    "uint8": pb.ELEMENT_UINT8,
    "int8": pb.ELEMENT_INT8,
    "binary": pb.ELEMENT_BINARY,
}
_DTYPES = {
    pb.ELEMENT_UNSPECIFIED: "<f4",
    pb.ELEMENT_FLOAT32: "<f4",
    pb.ELEMENT_FLOAT16: "<f2",
    pb.ELEMENT_UINT8: "u1",
    pb.ELEMENT_INT8: "i1",
    pb.ELEMENT_BINARY: "u1",
}


class Encoded(NamedTuple):
    """A matrix that is ready to be cut into messages."""

    rows: "Array"
    element: "pb.Element.ValueType"

    def matrix(self, first: int = 0, after: int | None = None) -> pb.Matrix:
        """These of its rows."""
        rows = self.rows[first:after]
        return pb.Matrix(rows=rows.tobytes(), element=self.element, count=len(rows))


def numpy() -> Any:
    """The package. Raises Refused where it is missing."""
    try:
        import numpy
    except ImportError as error:
        raise Refused("arrays need numpy: pip install 'ergonaut[vectors]'") from error
    return numpy


def encoded(vectors: Any, *, where: str) -> Encoded:
    """Vectors, one a row, as they travel; a single one is a matrix of one row. Raises Refused.

    Bytes stand for numbers from 0 to 255, or for packed bits where the collection keeps bits; booleans are packed into bits.
    """
    np = numpy()
    try:
        rows = np.atleast_2d(np.asarray(vectors))
    except ValueError as error:
        raise Refused(_uneven(vectors) or f"is no matrix: {error}", field=where) from error
    if rows.ndim != 2:
        raise Refused(f"has {rows.ndim} dimensions; one row for each vector is needed", field=where)
    if rows.dtype == np.bool_:
        return Encoded(np.packbits(rows, axis=1, bitorder="little"), pb.ELEMENT_BINARY)
    if rows.dtype.name not in ("float16", "uint8", "int8"):
        if rows.dtype.kind not in "fiu":
            kinds = {"U": "texts", "S": "texts", "O": "nulls, objects or other things"}
            raise Refused(f"holds {kinds.get(rows.dtype.kind, rows.dtype.name)}, which are no numbers", field=where)
        return Encoded(np.ascontiguousarray(rows, "<f4"), pb.ELEMENT_FLOAT32)
    element = ELEMENTS[rows.dtype.name]
    return Encoded(np.ascontiguousarray(rows, _DTYPES[element]), element)


def _uneven(vectors: Any) -> str:
    """Which row has not as many numbers as the first; empty where that is not what is wrong."""
    lengths = [len(row) if isinstance(row, Sequence) else -1 for row in vectors]
    at = next((at for at, length in enumerate(lengths) if length != lengths[0]), 0)
    return (
        f"has {lengths[0]} numbers in its first row and {lengths[at]} in row {at}" if min(lengths) >= 0 and at else ""
    )


def batches(rows: Encoded, most: int = ROWS_MAX) -> Iterator[tuple[int, int]]:
    """Where to cut: first row, and the row behind the last."""
    row_bytes = max(1, rows.rows.shape[1] * rows.rows.itemsize)
    step = max(1, min(most, BATCH_BYTES_MAX // row_bytes))
    for first in range(0, len(rows.rows), step):
        yield first, min(first + step, len(rows.rows))


def decoded(matrix: pb.Matrix, count: int) -> "Array":
    """The rows of an answer's matrix, on its own bytes."""
    np = numpy()
    flat = np.frombuffer(matrix.rows, _DTYPES[matrix.element])
    rows: Array = flat.reshape(count, len(flat) // count if count else 0)
    return rows


def decoded_distances(packed: pb.PackedNeighbours) -> "Array":
    """[queries, most of a query]; infinite behind the last of a query that has fewer. Without a copy where all have as many."""
    np = numpy()
    flat = np.frombuffer(packed.distances, "<f4")
    counts = list(packed.counts)
    width = max(counts, default=0)
    if all(count == width for count in counts):
        whole: Array = flat.reshape(len(counts), width)
        return whole
    distances: Array = np.full((len(counts), width), np.inf, np.float32)
    distances[np.arange(width) < np.array(counts)[:, None]] = flat
    return distances


def cut(flat: Sequence[Any], counts: Sequence[int]) -> list[list[Any]]:
    """One list for each query."""
    pieces, first = [], 0
    for count in counts:
        pieces.append(list(flat[first : first + count]))
        first += count
    return pieces


def metric_of(name: str) -> "pb.Metric.ValueType":
    """The metric of a name. Raises Refused."""
    return meaning_of(METRICS, name, "metric")


def element_of(name: str) -> "pb.Element.ValueType":
    """The element of a name. Raises Refused."""
    return meaning_of(ELEMENTS, name, "element")


def index_of(*, kind: str = "", recall: float = 0.0, small: bool = False) -> pb.IndexWish:
    """The index that is wished for. Raises Refused."""
    return pb.IndexWish(kind=meaning_of(INDEXES, kind, "index.kind"), recall=recall, small=small)


METRICS = {
    "l2": pb.METRIC_L2,
    "cosine": pb.METRIC_COSINE,
    "inner-product": pb.METRIC_INNER_PRODUCT,
    "hamming": pb.METRIC_HAMMING,
}
INDEXES = {
    "": pb.INDEX_KIND_UNSPECIFIED,
    "flat": pb.INDEX_KIND_FLAT,
    "hnsw": pb.INDEX_KIND_HNSW,
    "ivf": pb.INDEX_KIND_IVF,
    "ivf-pq": pb.INDEX_KIND_IVF_PQ,
}


def name_of(known: Mapping[str, Any], value: int) -> str:
    """What a value of one of the enumerations above is called; empty where it is none of them."""
    return next((name for name, each in known.items() if each == value), "")


def meaning_of(names: Mapping[str, T], name: str, where: str) -> T:
    """What a name stands for. Raises Refused, with the names that there are."""
    if name not in names:
        raise Refused(f"{name!r} is unknown; known are {', '.join(filter(None, names))}", field=where)
    return names[name]
