"""A segment: rows that never change, with their ids, payloads and an index over them. Built by work, mapped from files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.compute.cpu.gathering import copy_rows
from ergonaut_vectors.domain.compute.cpu.id_table import IdTable
from ergonaut_vectors.domain.indexes.exact import scanned
from ergonaut_vectors.domain.indexes.port import Asked, Found, Index, Kind, Plan, Progress
from ergonaut_vectors.domain.payload.columns import Columns, Readable
from ergonaut_vectors.domain.payload.fields import Fields
from ergonaut_vectors.domain.payload.making import joined, reordered
from ergonaut_vectors.domain.segments import ids
from ergonaut_vectors.domain.segments.builders import builder_of
from ergonaut_vectors.domain.space import Rows, Space

Sequences = npt.NDArray[np.int64]
RowNumbers = npt.NDArray[np.int64]
Arrays = Mapping[str, npt.NDArray[Any]]

_PAYLOAD, _INDEX = "payload_", "index_"


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Rows and all that belongs to them, in the order that the index wants."""

    name: str
    table: IdTable
    sequences: Sequences
    """The position of the message that wrote each row."""
    columns: Columns
    index: Index
    planned: Kind
    """The index it is to have; a builder may have seen that another does better."""
    is_makeshift: bool = False
    """Whether it was built with less, so as to be there soon."""

    @property
    def rows(self) -> Rows:
        """The vectors, prepared."""
        return self.index.rows

    @property
    def count(self) -> int:
        """Rows, dead ones too."""
        return len(self.sequences)

    @property
    def arrays(self) -> Arrays:
        """All of it, as a file has it."""
        return {
            "rows": self.rows,
            "ids_blob": self.table.blob,
            "ids_offsets": self.table.offsets,
            "ids_entries": self.table.entries,
            "sequences": self.sequences,
            **{_PAYLOAD + name: array for name, array in self.columns.arrays.items()},
            **{_INDEX + name: array for name, array in self.index.arrays.items()},
        }

    @property
    def about(self) -> dict[str, Any]:
        """What a file says beside the arrays; JSON."""
        index = {"kind": str(self.index.kind), "parameters": dict(self.index.parameters), "planned": str(self.planned)}
        return {"index": index, "is_makeshift": self.is_makeshift}

    def search(self, queries: Rows, asked: Asked) -> Found:
        """By the index."""
        return self.index.search(queries, asked)

    def search_exactly(self, queries: Rows, asked: Asked) -> Found:
        """By comparing all."""
        return scanned(self.index.space, self.rows, queries, asked)

    @classmethod
    def open(cls, name: str, space: Space, arrays: Arrays, about: Mapping[str, Any]) -> "Segment":
        """The segment that these arrays are; nothing is copied or checked here, who reads the file has done that."""
        told = about["index"]
        index = builder_of(Kind(told["kind"])).open(space, arrays["rows"], _named(arrays, _INDEX), told["parameters"])
        table = IdTable(arrays["ids_blob"], arrays["ids_offsets"], arrays["ids_entries"])
        columns, planned = Columns.open(_named(arrays, _PAYLOAD)), Kind(told["planned"])
        return cls(name, table, arrays["sequences"], columns, index, planned, about["is_makeshift"])


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Rows that go into a segment: chosen ones of another segment or of a head."""

    rows: Rows
    table: IdTable
    sequences: Sequences
    columns: Readable
    chosen: RowNumbers


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """Where the rows of a built segment came from."""

    part: npt.NDArray[np.int32]
    row: RowNumbers


def built(
    name: str, space: Space, sources: Sequence[Source], fields: Fields, how: tuple[Plan, Progress | None]
) -> tuple[Segment, Origin]:
    """A segment of the chosen rows with its index; takes long, and holds up nobody."""
    plan, progress = how
    rows = _rows_of(space, sources)
    made = builder_of(plan.kind).build(space, rows, plan, progress)
    names = ids.gathered([(source.table, source.chosen) for source in sources])
    sequences = np.concatenate([source.sequences[source.chosen] for source in sources])
    columns = joined([(source.columns, source.chosen) for source in sources], fields)
    part = np.repeat(np.arange(len(sources), dtype=np.int32), [len(source.chosen) for source in sources])
    origin = Origin(part, np.concatenate([source.chosen for source in sources]))
    if made.order is not None:
        names = names.only(made.order)
        sequences, columns = sequences[made.order], reordered(columns, made.order)
        origin = Origin(part[made.order], origin.row[made.order])
    return Segment(name, ids.table_of(names), sequences, columns, made.index, plan.kind), origin


def _rows_of(space: Space, sources: Sequence[Source]) -> Rows:
    rows = np.empty((sum(len(source.chosen) for source in sources), space.width), space.dtype)
    first = 0
    for source in sources:
        after = first + len(source.chosen)
        copy_rows(source.rows.view(np.uint8), source.chosen, rows[first:after].view(np.uint8))
        first = after
    return rows


def _named(arrays: Arrays, prefix: str) -> dict[str, npt.NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
