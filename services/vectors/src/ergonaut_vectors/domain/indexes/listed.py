"""What searches by lists have in common, whatever codes their rows have: how far to look, with filters, and the exact end."""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.compute.cpu.lists import Coarse, Probes, count_met
from ergonaut_vectors.domain.indexes.away import Away
from ergonaut_vectors.domain.indexes.coarse import COARSE_ARRAYS, probed, query_wide, wide_loop
from ergonaut_vectors.domain.indexes.exact import compared, scanned
from ergonaut_vectors.domain.indexes.port import NONE, Arrays, Asked, Found, Kind, Parameters
from ergonaut_vectors.domain.indexes.prepared import (
    ALL_ROWS,
    allowed_for,
    empty_answer,
    queries_for,
    read_only,
)
from ergonaut_vectors.domain.space import Floats, Rows, Space, Words

MET_MIN = 0.5
"""The part of the allowed rows to be expected that the nearest lists must hold. With fewer the filter keeps what is far from
the query, whose nearest lie in any list: they are found by comparing all that are allowed."""

SCAN_ROWS_MIN = 1024
"""So few allowed rows are compared exactly whatever the effort: it takes no longer than the lists would."""


@dataclass(frozen=True, slots=True, eq=False)
class Lookup:
    """One search, as codes are asked it."""

    wide: Floats
    """The queries as floats, as they lie beside codes."""
    exact: npt.NDArray[Any]
    """The queries as exact kernels take them."""
    probes: Probes
    enough: int
    """Rows that are looked at before no further list is, as kernels count them (`Within`)."""
    allowed: Words


class Sort(Protocol):
    """Codes of rows in lists."""

    @property
    def kept(self) -> float:
        """Candidates that are compared exactly, as a multiple of those asked for; 0 where codes are the rows themselves."""
        ...

    def candidates(self, lookup: Lookup, coarse: Coarse, found: Found) -> None:
        """Fill an answer with the nearest by codes."""
        ...

    def exactly(self, rows: Rows, queries: Rows, asked: Asked) -> Found:
        """The nearest of all allowed rows, all being compared; not so few that most of the rows are passed over."""
        ...


def coarse_in(arrays: Arrays) -> Coarse:
    """The lists that an index's arrays tell of."""
    return Coarse(*(read_only(arrays[name]) for name in COARSE_ARRAYS))


def origin_in(arrays: Arrays) -> Floats:
    """That about which they were made; indexes of the first version had none."""
    return arrays["origin"] if "origin" in arrays else np.zeros(arrays["coarse_values"].shape[1], np.float32)


def allowed_count(asked: Asked, count: int) -> int:
    """How many of the rows count."""
    if asked.allowed is None:
        return count
    return asked.allowed_count if asked.allowed_count >= 0 else int(np.bitwise_count(asked.allowed).sum())


@dataclass(frozen=True, slots=True, eq=False)
class Listed:
    """Rows in lists, and codes of one sort of them."""

    space: Space
    rows: Rows
    origin: Floats
    """About which lists and codes were made."""
    coarse: Coarse
    sort: Sort
    effort: int
    """Lists that are looked into where a search does not say."""
    away: Away

    def search(self, queries: Rows, asked: Asked) -> Found:
        """The nearest allowed rows to each query; those that lists give too few for are compared with all.

        Where few rows are allowed the nearest lie farther: lists are looked into as `worth_looking` says, and as far as that
        takes where the nearest lists hold half of the allowed rows to be expected.
        """
        count, limit = len(self.rows), asked.limit
        allowed = allowed_count(asked, count)
        lists = len(self.coarse.offsets) - 1
        looked = min(asked.effort or self.effort, lists)
        enough = max(1, count * looked // lists)
        if not limit or allowed <= max(SCAN_ROWS_MIN, min(enough, 8 * limit)) or limit >= allowed:
            return scanned(self.space, self.rows, queries, asked)
        floats, words = query_wide(self.space, queries, self.origin), ALL_ROWS
        until, reach = count + 1, looked
        if allowed < count:
            words, until = allowed_for(asked), enough
            reach = min(lists, math.ceil(looked * math.sqrt(count / (MET_MIN * allowed))))
        probes = probed(wide_loop(self.space), self.coarse, floats, reach)
        lookup = Lookup(floats, queries_for(self.space, queries), probes, until, words)
        found = self._away(queries, asked, probes) or self._compared(queries, lookup, limit)
        short = found.rows[:, -1] == NONE
        if allowed < count:
            met = np.empty((len(queries), 2), np.int64)
            count_met(self.coarse, probes, looked, words, met)
            short |= met[:, 0] * count < MET_MIN * allowed * met[:, 1]
        return self._completed(queries, asked, found, np.flatnonzero(short))

    def _compared(self, queries: Rows, lookup: Lookup, limit: int) -> Found:
        if not self.sort.kept:
            found = empty_answer(len(queries), limit)
            self.sort.candidates(lookup, self.coarse, found)
            return found
        rough = empty_answer(len(queries), max(limit, int(self.sort.kept * limit)))
        self.sort.candidates(lookup, self.coarse, rough)
        return compared(self.space, self.rows, queries, rough.rows, limit)

    def _away(self, queries: Rows, asked: Asked, probes: Probes) -> Found | None:
        """The nearest in the lists by full rows elsewhere, where that is worth the way."""
        if not self.away.is_worth(queries):
            return None
        first = self.coarse.offsets[probes.lists]
        runs = np.stack([first, self.coarse.offsets[probes.lists + 1]], axis=2)
        return self.away.nearest(queries, asked, runs)

    def _completed(self, queries: Rows, asked: Asked, found: Found, short: npt.NDArray[np.intp]) -> Found:
        if len(short):
            exact = self.sort.exactly(self.rows, queries[short], asked)
            found.rows[short], found.distances[short] = exact.rows, exact.distances
        return found


def listed(
    space: Space, rows: Rows, arrays: Arrays, parameters: Parameters, sort: Sort, kind: Kind = Kind.LISTS
) -> "ListedIndex":
    """The index that these arrays are, with codes of this sort."""
    effort, away = int(parameters["effort"]), Away(space, rows)
    lists = Listed(space, rows, origin_in(arrays), coarse_in(arrays), sort, effort, away)
    return ListedIndex(lists, arrays, parameters, kind)


@dataclass(frozen=True, slots=True, eq=False)
class ListedIndex:
    """IVF over codes, or IVF-PQ: which of the two is what its rows' codes are."""

    listed: Listed
    arrays: Arrays
    parameters: Parameters
    kind: Kind

    @property
    def space(self) -> Space:
        """That of its rows."""
        return self.listed.space

    @property
    def rows(self) -> Rows:
        """In the order of lists."""
        return self.listed.rows

    def search(self, queries: Rows, asked: Asked) -> Found:
        """The nearest allowed rows to each query; the effort is lists to look into."""
        return self.listed.search(queries, asked)
