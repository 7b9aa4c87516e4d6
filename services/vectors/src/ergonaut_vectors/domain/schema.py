"""What a collection may hold and what may be asked of it: every rule on input is here, and names the field that breaks it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import numpy.typing as npt

from ergonaut.errors import Refused
from ergonaut.ids import NAME_RULE, is_name
from ergonaut_vectors.domain.indexes.port import Kind
from ergonaut_vectors.domain.payload.fields import Field
from ergonaut_vectors.domain.space import Element, Floats, Metric, Space

DIMENSION_MAX = 4096
BATCH_MAX = 1024
"""Points, ids or queries of one request: as much as is applied or searched without holding others up for long."""

ID_CHARACTERS_MAX = 128
ATTRIBUTES_MAX = 32
ATTRIBUTE_KEY_CHARACTERS_MAX = 64
ATTRIBUTE_CHARACTERS_MAX = 4096
"""Of all keys and values of one point together: attributes are labels, not documents, and they are kept in memory."""

NUMBER_MAX = 1e16
"""The squared distance of two vectors of 4096 such numbers is just below the greatest float32; beyond, distances overflow."""

LIMIT_MAX = 1000
LIMIT_DEFAULT = 10
CANDIDATES_MAX = 4096
CANDIDATES_DEFAULT = 64
LINKS_DEFAULT = 16
CANDIDATES_BUILD_DEFAULT = 100

RECALL_DEFAULT = 0.95
SHARDS_MAX = 1024
REPLICAS_MAX = 3
"""Of three, one may be lost while another is mended; more only cost."""


@dataclass(frozen=True, slots=True)
class IndexWish:
    """Which index a collection should have; the one part of a schema that may change."""

    kind: Kind | None = None
    """None leaves the choice to size, dimension and recall, again whenever the collection has grown."""
    recall: float = RECALL_DEFAULT
    """Of the ten nearest, the part that a search of no told effort should find."""
    small: bool = False
    """Rather little memory than speed."""

    def check(self) -> None:
        """Raise Refused unless every part is within its bounds."""
        if not 0.5 <= self.recall <= 1:
            raise Refused(f"is {self.recall:g}, but must be 0.5 to 1", field="collection.index.recall")


@dataclass(frozen=True, slots=True)
class Schema:
    """What a collection is; fixed when it is made, but for the index that is wished for."""

    name: str
    dimension: int
    metric: Metric = Metric.L2
    links: int = LINKS_DEFAULT
    candidates_build: int = CANDIDATES_BUILD_DEFAULT
    element: Element = Element.FLOAT32
    fields: Mapping[str, Field] = field(default_factory=dict)
    """Of payloads, as declared."""
    index: IndexWish = field(default_factory=IndexWish)
    shards: int = 1
    replicas: int = 1

    @property
    def space(self) -> Space:
        """What its vectors are."""
        return Space(self.dimension, self.metric, self.element)

    def check(self) -> None:
        """Raise Refused unless every part is within its bounds."""
        if (self.metric is Metric.HAMMING) != (self.element is Element.BINARY):
            raise Refused("hamming and binary go together, and with nothing else", field="collection.metric")
        self.index.check()
        _check_within(self.shards, 1, SHARDS_MAX, "collection.shards")
        _check_within(self.replicas, 1, REPLICAS_MAX, "collection.replicas")
        if not is_name(self.name):
            raise Refused(f"{self.name!r} cannot name a collection; it must be {NAME_RULE}", field="collection.name")
        _check_within(self.dimension, 1, DIMENSION_MAX, "collection.dimension")
        _check_within(self.links, 4, 64, "collection.links")
        _check_within(self.candidates_build, 8, 1024, "collection.candidates_build")


@dataclass(frozen=True, slots=True)
class Point:
    """A vector to write, not yet checked."""

    id: str
    vector: Floats
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Upserts:
    """Vectors that are written together; an id stands in it once."""

    ids: tuple[str, ...]
    vectors: Floats  # [len(ids), dimension]
    attributes: tuple[Mapping[str, str], ...]


@dataclass(frozen=True, slots=True)
class Deletes:
    """Ids that are removed together."""

    ids: tuple[str, ...]


Batch = Upserts | Deletes


@dataclass(frozen=True, slots=True)
class Ask:
    """How to search: neighbours for each query, candidates kept, or an exact comparison with all."""

    limit: int = LIMIT_DEFAULT
    candidates: int = CANDIDATES_DEFAULT
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Hit:
    """A vector found, with its distance by the collection's metric; smaller is nearer."""

    id: str
    distance: float
    attributes: Mapping[str, str]


def checked_upserts(schema: Schema, points: Sequence[Point]) -> Upserts:
    """The points as a batch, or Refused naming the first thing that is wrong."""
    _check_size(len(points), "points")
    ids: dict[str, int] = {}
    for at, point in enumerate(points):
        where = f"points[{at}]"
        _check_id(point.id, f"{where}.id")
        if ids.setdefault(point.id, at) != at:
            message = f"{point.id!r} is the id of points[{ids[point.id]}] already; a request writes an id once"
            raise Refused(message, field=f"{where}.id")
        check_attributes(point.attributes, f"{where}.attributes")
    vectors = _matrix(schema, [point.vector for point in points], "points")
    return Upserts(tuple(ids), vectors, tuple(point.attributes for point in points))


def checked_deletes(ids: Sequence[str]) -> Deletes:
    """The ids as a batch, or Refused naming the first thing that is wrong."""
    _check_size(len(ids), "ids")
    for at, name in enumerate(ids):
        _check_id(name, f"ids[{at}]")
    return Deletes(tuple(dict.fromkeys(ids)))


def checked_queries(schema: Schema, vectors: Sequence[Floats]) -> Floats:
    """The queries as one matrix, or Refused naming the first thing that is wrong."""
    _check_size(len(vectors), "queries")
    return _matrix(schema, vectors, "queries")


def checked_ask(limit: int, candidates: int, *, exact: bool) -> Ask:
    """How to search, with 0 replaced by the defaults, or Refused naming what is out of bounds."""
    limit = limit or LIMIT_DEFAULT
    _check_within(limit, 1, LIMIT_MAX, "limit")
    candidates = candidates or max(CANDIDATES_DEFAULT, limit)
    _check_within(candidates, 1, CANDIDATES_MAX, "candidates")
    if candidates < limit:
        raise Refused(f"is {candidates}, but must be at least limit, {limit}", field="candidates")
    return Ask(limit, candidates, exact)


def _matrix(schema: Schema, vectors: Sequence[Floats], where: str) -> Floats:
    for at, vector in enumerate(vectors):
        if len(vector) != schema.dimension:
            message = f"has {len(vector)} numbers, the collection needs {schema.dimension}"
            raise Refused(message, field=f"{where}[{at}].vector")
    matrix = np.stack(vectors).astype(np.float32, copy=False)
    _check_rows(np.isfinite(matrix).all(axis=1), where, "holds a number that is not finite")
    within = (np.abs(matrix) <= NUMBER_MAX).all(axis=1)
    _check_rows(within, where, f"holds a number beyond ±{NUMBER_MAX:g}, where distances overflow; scale the vectors")
    if schema.metric is Metric.COSINE:
        _check_rows(matrix.any(axis=1), where, "has length zero; the cosine needs a direction")
    return matrix


def _check_rows(good: npt.ArrayLike, where: str, message: str) -> None:
    bad = np.flatnonzero(~np.asarray(good, np.bool_))
    if len(bad):
        raise Refused(message, field=f"{where}[{bad[0]}].vector")


def _check_size(size: int, where: str) -> None:
    if not 1 <= size <= BATCH_MAX:
        raise Refused(f"has {size} entries; 1 to {BATCH_MAX} are taken at once", field=where)


def _check_within(value: int, low: int, high: int, where: str) -> None:
    if not low <= value <= high:
        raise Refused(f"is {value}, but must be {low} to {high}", field=where)


def _check_id(name: str, where: str) -> None:
    if not 1 <= len(name) <= ID_CHARACTERS_MAX:
        raise Refused(f"has {len(name)} characters; 1 to {ID_CHARACTERS_MAX} are taken", field=where)


def check_attributes(attributes: Mapping[str, str], where: str) -> None:
    """Raise Refused unless these may be the attributes of a point."""
    if len(attributes) > ATTRIBUTES_MAX:
        raise Refused(f"has {len(attributes)} entries; at most {ATTRIBUTES_MAX} are taken", field=where)
    for key in attributes:
        if not 1 <= len(key) <= ATTRIBUTE_KEY_CHARACTERS_MAX:
            message = f"a key has {len(key)} characters; 1 to {ATTRIBUTE_KEY_CHARACTERS_MAX} are taken"
            raise Refused(message, field=where)
    size = sum(map(len, chain(attributes, attributes.values())))
    if size > ATTRIBUTE_CHARACTERS_MAX:
        message = f"has {size} characters in keys and values; at most {ATTRIBUTE_CHARACTERS_MAX} are taken"
        raise Refused(message, field=where)
