"""Which builder builds and opens which kind of index. Indexes are imported when the first of their kind is needed."""

from collections.abc import Callable

from ergonaut.errors import Broken
from ergonaut_vectors.domain.indexes.flat import FlatBuilder
from ergonaut_vectors.domain.indexes.port import Builder, Kind


def _graphs() -> Builder:
    from ergonaut_vectors.domain.indexes.graph import GraphBuilder

    return GraphBuilder()


def _lists() -> Builder:
    from ergonaut_vectors.domain.indexes.lists import ListsBuilder

    return ListsBuilder()


def _products() -> Builder:
    from ergonaut_vectors.domain.indexes.product import ProductBuilder

    return ProductBuilder()


BUILDERS: dict[Kind, Callable[[], Builder]] = {
    Kind.FLAT: FlatBuilder,
    Kind.GRAPH: _graphs,
    Kind.LISTS: _lists,
    Kind.PRODUCT: _products,
}
"""The kinds that can be built here."""


def builder_of(kind: Kind) -> Builder:
    """The builder of a kind; Broken where there is none, as for a file of a newer version."""
    if kind not in BUILDERS:
        raise Broken(f"an index of kind {kind} cannot be built or opened by this version")
    return BUILDERS[kind]()
