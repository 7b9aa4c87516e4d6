"""Exact search as an index: every row is compared, by codes of a quarter of the size first where rows have such. What other
indexes fall back to, and what they are measured by.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from ergonaut_vectors.domain.indexes.away import Away
from ergonaut_vectors.domain.indexes.codes import CODE_ROWS_MIN, Codes, codes_with_room, quantise, searched
from ergonaut_vectors.domain.indexes.port import Arrays, Asked, Built, Found, Kind, Parameters, Plan, Progress
from ergonaut_vectors.domain.space import Rows, Space

_NOTHING: Mapping[str, int] = {}


@dataclass(frozen=True, slots=True)
class FlatIndex:
    """Compares with every row."""

    space: Space
    rows: Rows
    codes: Codes
    away: Away
    kind: Kind = Kind.FLAT

    @property
    def arrays(self) -> Arrays:
        """The codes, where rows have any."""
        return self.codes._asdict() if len(self.codes.values) else {}

    @property
    def parameters(self) -> Parameters:
        """None."""
        return _NOTHING

    def search(self, queries: Rows, asked: Asked) -> Found:
        """The nearest allowed rows to each query."""
        found = self.away.nearest(queries, asked)
        return searched(self.space, self.codes, self.rows, queries, asked) if found is None else found


class FlatBuilder:
    """Makes codes."""

    def build(self, space: Space, rows: Rows, plan: Plan, progress: Progress | None = None) -> Built:  # noqa: ARG002
        """The index over rows as they are."""
        return Built(flat_over(space, rows, codes_of(space, rows)))

    def open(self, space: Space, rows: Rows, arrays: Arrays, parameters: Parameters) -> FlatIndex:  # noqa: ARG002
        """The same, of its codes."""
        return flat_over(space, rows, Codes(arrays["values"], arrays["factors"]) if arrays else None)


def flat_over(space: Space, rows: Rows, codes: Codes | None = None) -> FlatIndex:
    """The index over rows, which may have codes."""
    return FlatIndex(space, rows, codes or no_codes(space), Away(space, rows))


@lru_cache(maxsize=64)
def no_codes(space: Space) -> Codes:
    """None at all; one for all shards of a space, for most tenants are small."""
    return codes_with_room(space, 0)


def codes_of(space: Space, rows: Rows, capacity: int = 0) -> Codes:
    """Codes of these rows, with room for more; none where they are so few that all are compared in full."""
    if max(len(rows), capacity) < CODE_ROWS_MIN:
        return no_codes(space)
    codes = codes_with_room(space, max(len(rows), capacity))
    quantise(space, codes, 0, rows)
    return codes
