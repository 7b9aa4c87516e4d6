"""What a collection is, and the bounds of what it holds and is asked. What comes by columns is checked by `checking.py`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain

from ergonaut.errors import Refused
from ergonaut.ids import NAME_RULE, is_name
from ergonaut_vectors.domain.indexes.port import Kind
from ergonaut_vectors.domain.payload.fields import Field
from ergonaut_vectors.domain.space import Element, Metric, Space

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

    def otherwise(self, wanted: "Schema") -> str:
        """In what it is other than the one that is wanted; empty where it is not, whatever index is wished for."""
        parts = ("dimension", "metric", "element", "links", "candidates_build", "shards", "replicas")
        told = [
            f"{part} {getattr(self, part)}, not {getattr(wanted, part)}"
            for part in parts
            if getattr(self, part) != getattr(wanted, part)
        ]
        return "; ".join(told + ["fields declared otherwise"] * (self.fields != wanted.fields))

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


def _check_within(value: int, low: int, high: int, where: str) -> None:
    if not low <= value <= high:
        raise Refused(f"is {value}, but must be {low} to {high}", field=where)
