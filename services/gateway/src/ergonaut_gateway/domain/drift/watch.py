"""One side of one model version, its inputs or its outputs, watched: first the reference is gathered, then windows are compared
with it, block by block. Driven by rows, not by time, so that the same rows always give the same findings."""

from collections import deque
from dataclasses import dataclass

import numpy as np

from ergonaut.errors import Refused
from ergonaut_gateway.domain.drift.grids import Flags, Matrix
from ergonaut_gateway.domain.drift.rule import CALM_FACTOR, Episode, Finding, Thresholds, findings
from ergonaut_gateway.domain.drift.sketches import Sketch, merged, reference_of, sketch_of
from ergonaut_gateway.domain.drift.statistics import jensen_shannon, ks, psi


@dataclass(frozen=True, slots=True)
class Windows:
    """How many rows are gathered and compared."""

    reference_rows: int = 1_000
    window_rows: int = 300
    """Compared with the reference at once; fewer hide what is slight, more find late."""
    block_rows: int = 100
    """The window moves by so many rows, and is checked then."""


@dataclass(frozen=True, slots=True)
class Drift:
    """An episode that began: the features that drift, the worst first, and what was compared."""

    findings: tuple[Finding, ...]
    rows_reference: int
    rows_window: int


@dataclass(frozen=True, slots=True)
class Distances:
    """The largest distance of any feature between reference and window."""

    psi: float
    ks: float
    jensen_shannon: float


class DriftWatch:
    """Takes rows, or blocks of other workers, and says when drift begins."""

    def __init__(self, categorical: Flags, windows: Windows, thresholds: Thresholds) -> None:
        self._categorical = categorical
        self._sizes = windows
        self._thresholds = thresholds
        self._gathered: list[Matrix] = []
        self._blocks: deque[Sketch] = deque()
        self._begun: Sketch | None = None
        self._episode = Episode()
        self.reference: Sketch | None = None

    @property
    def drifting(self) -> bool:
        """Whether an episode is going on."""
        return self._episode.open

    @property
    def window(self) -> Sketch | None:
        """What is compared with the reference now; None before the first block."""
        return merged(self._blocks) if self._blocks else None

    def refer_to(self, reference: Sketch) -> None:
        """Compare with this from now on, say with the data that the model was trained on, or what another worker gathered."""
        self.reference = reference
        self._gathered.clear()
        self._blocks.clear()
        self._begun = None
        self._episode = Episode()

    def blocks_of(self, rows: Matrix) -> list[Sketch]:
        """Cut rows into blocks; what is no whole block waits for the next rows. Before the reference is full there are none."""
        if self.reference is None:
            rows = self._gather(rows)
        blocks = []
        while len(rows):
            assert self.reference is not None, "rows that are left were not needed for the reference"
            begun = [self._begun] if self._begun is not None else []
            room = self._sizes.block_rows - sum(sketch.rows for sketch in begun)
            block = merged([*begun, sketch_of(self.reference.grid, rows[:room])])
            rows = rows[room:]
            is_full = block.rows == self._sizes.block_rows
            self._begun = None if is_full else block
            blocks += [block] * is_full
        return blocks

    def take(self, block: Sketch) -> Drift | None:
        """Move the window by a block, and say whether drift begins. Raises Refused for a block on another reference."""
        reference = self.reference
        assert reference is not None, "a block is made on a reference"
        if not block.grid.same_as(reference.grid):
            raise Refused("the block was made on another reference; give all workers the same one", field="sketch")
        self._blocks.append(block)
        rows = sum(kept.rows for kept in self._blocks)
        while rows - self._blocks[0].rows >= self._sizes.window_rows:
            rows -= self._blocks.popleft().rows
        if rows < self._sizes.window_rows:
            return None
        window = merged(self._blocks)
        found = findings(reference, window, self._thresholds, rows_new=block.rows)
        calm = not found and not (
            self.drifting and findings(reference, window, self._thresholds, rows_new=block.rows, factor=CALM_FACTOR)
        )
        if not self._episode.begins(found, calm=calm):
            return None
        return Drift(tuple(found), reference.rows, window.rows)

    def observe(self, rows: Matrix) -> list[Drift]:
        """Take rows, one column a feature; give the episodes that began."""
        return [drift for block in self.blocks_of(rows) if (drift := self.take(block)) is not None]

    def distances(self) -> Distances | None:
        """How far the window is from the reference; None while there is nothing to compare."""
        window = self.window
        if self.reference is None or window is None or not self.reference.grid.features:
            return None
        sides = (self.reference.counts, window.counts)
        return Distances(*(float(distance(*sides).max()) for distance in (psi, ks, jensen_shannon)))

    def _gather(self, rows: Matrix) -> Matrix:
        """Keep rows for the reference and make it when they are enough; give those that are beyond."""
        missing = self._sizes.reference_rows - sum(map(len, self._gathered))
        self._gathered.append(rows[:missing].copy())
        if len(rows) >= missing:
            self.reference = reference_of(np.concatenate(self._gathered), self._categorical)
            self._gathered.clear()
        return rows[missing:]
