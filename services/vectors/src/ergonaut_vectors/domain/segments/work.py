"""Work on a shard's segments that takes long: sealing a head, merging segments, indexing one anew. Planned and installed by the
shard's writer, done by `done` in another thread meanwhile.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

from ergonaut_vectors.domain.indexes.port import Kind, Plan, Progress
from ergonaut_vectors.domain.payload import bits
from ergonaut_vectors.domain.payload.fields import Fields
from ergonaut_vectors.domain.schema import CANDIDATES_BUILD_DEFAULT, LINKS_DEFAULT, IndexWish
from ergonaut_vectors.domain.segments.recall import tuned
from ergonaut_vectors.domain.segments.segment import Origin, Segment, Source, built
from ergonaut_vectors.domain.segments.view import Part, Tuned
from ergonaut_vectors.domain.space import Space, Words


@dataclass(frozen=True, slots=True)
class Policy:
    """When work is due, and on how much."""

    head_rows_max: int = 8192
    """Rows of a head before it is sealed: all of them are compared with every query."""
    head_bytes_max: int = 32 * 1024 * 1024
    """The same in bytes of vectors."""
    replay_max: int = 20_000
    """Messages that a restart may have to replay; a head is sealed for their sake however small it is."""
    merged_together: int = 4
    """Segments of about one size before they become one; fewer means more building, more means slower searches."""
    tidied_ratio_max: int = 8
    """How much larger than all smaller ones together a segment may be to be built anew with them while nobody writes."""
    tidied_head_rows_min: int = 1024
    """Rows of a head that are worth a segment while nobody writes; fewer are searched and replayed as fast."""
    segment_rows_max: int = 2_000_000
    """Rows that are merged into one segment; a larger one takes too long to build again."""
    dead_fraction_max: float = 0.2
    """The part of a segment's rows that may be dead before it is built anew."""
    recall_slack: float = 0.02
    """How far below what is wished for recall may be found before a segment from which rows have died is built anew."""
    checked_fraction_min: float = 0.9
    """Where fewer than this part of the rows that lived then live now, an index is checked again."""
    graph_rows_min: int = 0
    """From so many rows on a segment gets a graph; 0 leaves the choice to `choosing.py`."""
    links: int = LINKS_DEFAULT
    """Neighbours that a row of a graph keeps, twice as many at its lowest level; the default leaves it to `choosing.py`."""
    candidates_build: int = CANDIDATES_BUILD_DEFAULT
    """Candidates that a graph's build keeps while it looks for neighbours."""
    build_threads: int = 1
    """Threads that build one index; by one alone the same rows give the same index."""
    wish: IndexWish = field(default_factory=IndexWish)
    """Which index, how good; a shard whose policy is replaced by one with another wish works towards it."""


class Job(StrEnum):
    """What kind of work; a shard does one of each kind at a time."""

    SEAL = "seal"
    """Make a head a segment; the state as of its end can then be written down."""
    MERGE = "merge"
    """Make several segments one, or one anew."""
    CHECK = "check"
    """See how well a segment's index finds what is near, and how hard it has to look."""


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """What is to be done, on which state."""

    job: Job
    name: str
    """Of the segment that will come of it."""
    space: Space
    fields: Fields
    parts: tuple[Part, ...]
    """What becomes one segment, as of a position before or at that of every state it will be put into."""
    plan: Plan
    planned: Kind
    """The index that the segment is to have in the end."""
    wanted: float = 0.0
    """The recall that a check is to reach."""

    @property
    def rows(self) -> int:
        """Living rows to be written."""
        return sum(part.count for part in self.parts)


@dataclass(frozen=True, slots=True, eq=False)
class Done:
    """Work that was done; its segment is None where nothing lives."""

    work: Work
    segment: Segment | None
    origin: Origin
    tuned: Tuned | None = None
    """What a check found."""

    def part_in(self, parts: tuple[Part, ...]) -> Part | None:
        """The segment with its living rows, in a state where its sources are these parts: deaths meanwhile are carried over."""
        if self.segment is None:
            return None
        if all(now.count == planned.count for now, planned in zip(parts, self.work.parts, strict=True)):
            return Part(self.segment, bits.all_of(self.segment.count), self.segment.count)
        lives = np.empty(self.segment.count, np.bool_)
        for at, part in enumerate(parts):
            mine = self.origin.part == at
            lives[mine] = _mask(part.live, part.store.count)[self.origin.row[mine]]
        words = bits.of_mask(lives)
        return Part(self.segment, words, bits.counted(words))


def done(work: Work, progress: Progress | None = None) -> Done:
    """Do the work; takes long, changes nothing, may be done in any thread or process and may be given up at any moment."""
    parts = [part for part in work.parts if part.count]
    if work.job is Job.CHECK or not parts:
        seen = tuned(work.space, work.parts[0], work.wanted, int(work.name)) if parts else None
        return Done(work, None, Origin(np.empty(0, np.int32), np.empty(0, np.int64)), seen)
    sources = [_source(part) for part in work.parts]
    segment, origin = built(work.name, work.space, sources, work.fields, (work.plan, progress))
    if work.planned is not work.plan.kind:
        segment = replace(segment, planned=work.planned, is_makeshift=True)
    return Done(work, segment, origin)


def _source(part: Part) -> Source:
    store = part.store
    return Source(store.rows, store.table, store.sequences, store.columns, bits.rows_of(part.live, store.count))


def _mask(live: Words, count: int) -> bits.Mask:
    return bits.mask_of(live, count)
