"""What is written to a shard: batches of one message of its log, all of which is seen at once. Made by whoever reads the log."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ergonaut_vectors.domain.compute.cpu.unit_rows import bring_to_length_one
from ergonaut_vectors.domain.indexes.prepared import read_only
from ergonaut_vectors.domain.payload.fields import Payload
from ergonaut_vectors.domain.space import Element, Metric, Rows, Space


@dataclass(frozen=True, slots=True)
class Upserts:
    """Vectors that are written together; of an id that stands in it more than once the last counts."""

    ids: Sequence[str]
    rows: Rows
    """[len(ids), width] of the space's type, checked, of any length where the metric is the cosine."""
    payloads: Sequence[Payload] = ()
    """One for each id; none at all where no vector has any."""


@dataclass(frozen=True, slots=True)
class Deletes:
    """Ids that are removed together; those that are not there are passed over."""

    ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class Changes:
    """Payloads written anew, while the vectors stay; ids that are not there are passed over."""

    ids: Sequence[str]
    payloads: Sequence[Payload]
    merged: bool = False
    """Whether a payload's names are put over those that are there, or the payload takes the other's place."""


Write = Upserts | Deletes | Changes


def prepared(space: Space, rows: Rows) -> Rows:
    """Rows or queries as indexes take them: contiguous, of the space's type, of length one where the cosine is asked for."""
    if space.metric is not Metric.COSINE or space.element not in (Element.FLOAT32, Element.FLOAT16):
        return np.ascontiguousarray(rows, space.dtype)
    wide = np.ascontiguousarray(rows, np.float32)
    brought = np.empty_like(wide)
    bring_to_length_one(read_only(wide), brought)
    return brought.astype(space.dtype, copy=False)
