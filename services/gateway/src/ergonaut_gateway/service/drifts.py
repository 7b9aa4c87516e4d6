"""Each model version's inputs and outputs watched for drift. On the way of a request they are only copied, and not all of them;
counting and comparing come later, in pieces so short that no request waits for them."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ergonaut.errors import ErgonautError, NotFound, Refused
from ergonaut.events import DriftFound
from ergonaut.events.quality import OTHERS_MAX
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.drift.features import Features, features_of
from ergonaut_gateway.domain.drift.grids import Matrix
from ergonaut_gateway.domain.drift.rule import Thresholds
from ergonaut_gateway.domain.drift.sketches import Sketch, merged, packed, reference_of, unpacked
from ergonaut_gateway.domain.drift.watch import Distances, Drift, DriftWatch, Windows
from ergonaut_gateway.domain.models import ModelRecord
from ergonaut_gateway.domain.tensors import Tensor
from ergonaut_gateway.ports import References

SIDES = ("inputs", "outputs")

VERSIONS_MAX = 64
"""Versions watched at once; each holds up to some MiB of rows and counts. One that is asked no more makes room for a new one."""

INTAKE_BYTES_MAX = 4 * 1024 * 1024
"""Rows of one side kept until they are counted; a burst beyond it is not observed."""

VALUES_AT_ONCE = 8_192
"""Values counted before the loop's other work has its turn: about 0.3 ms."""

REFERENCE_BYTES_MAX = 900 * 1024
"""The largest reference that is kept for other workers and later starts: what fits into one message of NATS."""

Version = tuple[str, str, int]

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Watching:
    """How closely versions are watched; 0 rows per second is not at all."""

    rows_per_second: int = 0
    check_seconds: float = 2.0
    windows: Windows = field(default_factory=Windows)
    thresholds: Thresholds = field(default_factory=Thresholds)


@dataclass(frozen=True, slots=True)
class DriftState:
    """How one side of a version stands."""

    side: str
    rows: int
    rows_unobserved: int
    is_drifting: bool
    distances: Distances | None


@dataclass(slots=True, eq=False)
class _Side:
    """One side of a version: its rows since the last check, and what watches them."""

    record: ModelRecord
    side: str
    features: Features
    watch: DriftWatch
    intake: npt.NDArray[np.floating]
    filled: int = 0
    rows: int = 0
    unobserved: int = 0
    is_settled: bool = False
    """Whether it was asked if a reference is kept already."""
    is_exported: bool = False
    """Whether another worker adds up what this one counts."""
    outgoing: Sketch | None = None
    """What was counted since that worker last asked."""

    def put(self, tensors: Mapping[str, Tensor]) -> int:
        """Copy rows as far as there is room; how many there were."""
        rows = self.features.rows_of(tensors)
        if rows:
            kept = min(rows, len(self.intake) - self.filled)
            if kept:
                self.features.write(tensors, rows, self.intake[self.filled : self.filled + kept])
                self.filled += kept
            self.unobserved += rows - kept
        return rows

    def taken(self) -> npt.NDArray[np.floating]:
        """The rows since the last time."""
        rows = self.intake[: self.filled].copy()
        self.filled = 0
        return rows


@dataclass(slots=True, eq=False)
class _Version:
    """A version's sides, and which of its calls are observed."""

    sides: dict[str, _Side] = field(default_factory=dict)
    every: int = 1
    """One in so many calls is observed, so that a rate above the bound is thinned evenly instead of cut off."""
    calls: int = 0
    calls_checked: int = 0
    calls_missed: int = 0
    """Since the last check, for want of room."""
    calls_seen: int = 0
    rows_seen: int = 0
    is_full: bool = False

    def adapt(self, rows_wanted: float) -> None:
        """Choose which calls are observed until the next check, by how many came since the last."""
        rows_per_call = self.rows_seen / self.calls_seen if self.calls_seen else 0.0
        for side in self.sides.values():
            side.unobserved += round(self.calls_missed * rows_per_call)
        self.every = max(1, round((self.calls - self.calls_checked) * rows_per_call / rows_wanted))
        self.calls_checked, self.calls_missed, self.calls_seen, self.rows_seen = self.calls, 0, 0, 0
        self.is_full = False


class Drifts:
    """Watches all versions; `check` tells what drifts."""

    def __init__(self, watching: Watching, references: References) -> None:
        self._watching = watching
        self._references = references
        self._versions: dict[Version, _Version] = {}

    def observe(self, record: ModelRecord, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        """Take in one batch."""
        version = self._versions.get((record.tenant, record.name, record.version))
        if version is None and (version := self._begin(record)) is None:
            return
        version.calls += 1
        if version.calls % version.every:
            return
        if version.is_full:
            version.calls_missed += 1
            return
        version.calls_seen += 1
        sides = version.sides
        for side, tensors in (("inputs", inputs), ("outputs", outputs)):
            if side not in sides:
                self._open(version, record, side, tensors)
            if side in sides:
                rows = sides[side].put(tensors)
                if side == "inputs":
                    version.rows_seen += rows
        version.is_full = bool(sides) and all(side.filled == len(side.intake) for side in sides.values())

    async def check(self) -> list[DriftFound]:
        """Count and compare what came since the last check; the facts of the episodes that began."""
        found = []
        rows_wanted = max(1.0, self._watching.rows_per_second * self._watching.check_seconds)
        for version in list(self._versions.values()):
            version.adapt(rows_wanted)
            for side in list(version.sides.values()):
                found += await self._fold(side)
        return found

    def refer_to(self, record: ModelRecord, side: str, tensors: Mapping[str, Tensor]) -> None:
        """Compare a side of a version with these rows from now on, say with what it was trained on. Raises Refused."""
        opened = self._side(record, side, tensors)
        rows = opened.features.rows_of(tensors)
        if not rows:
            raise Refused(f"the reference has no rows of the model's {side}", field="reference")
        written = np.empty((rows, len(opened.features.names)), dtype=opened.features.dtype)
        opened.features.write(tensors, rows, written)
        opened.watch.refer_to(reference_of(written.astype(np.float64), opened.features.categorical))
        opened.is_settled = True

    def exported(self, record: ModelRecord, side: str) -> bytes | None:
        """What a side counted since this was last asked, for the worker that adds up those of all; None for nothing.
        The first question only begins it. Raises NotFound."""
        known = self._known(record, side)
        known.is_exported, outgoing, known.outgoing = True, known.outgoing, None
        return packed(outgoing) if outgoing is not None else None

    def absorb(self, record: ModelRecord, side: str, block: bytes) -> DriftFound | None:
        """Add what another worker counted, each row once. Raises Refused where its reference was another."""
        known = self._known(record, side)
        sketch = unpacked(block)
        if known.watch.reference is None:
            raise Refused("there is no reference yet that the other worker can have had", field="sketch")
        drift = known.watch.take(sketch)
        known.rows += sketch.rows
        return _fact(known, drift) if drift else None

    def states(self) -> Iterator[tuple[Version, DriftState]]:
        """How each side of each version stands."""
        for key, version in list(self._versions.items()):
            for side in list(version.sides.values()):
                watch = side.watch
                yield key, DriftState(side.side, side.rows, side.unobserved, watch.drifting, watch.distances())

    def _begin(self, record: ModelRecord) -> _Version | None:
        """A place for a version; None while all are taken by versions in use."""
        if len(self._versions) >= VERSIONS_MAX:
            idle = (key for key, version in self._versions.items() if version.calls == version.calls_checked)
            if (key := next(idle, None)) is None:
                return None
            del self._versions[key]
        version = self._versions[record.tenant, record.name, record.version] = _Version()
        return version

    def _open(self, version: _Version, record: ModelRecord, side: str, tensors: Mapping[str, Tensor]) -> None:
        """Begin to watch a side with the first call that has all its tensors; outputs may be asked for one by one."""
        specs = record.signature.inputs if side == "inputs" else record.signature.outputs
        if any(spec.name not in tensors for spec in specs):
            return
        features = features_of(side, specs, tensors)
        if not features.names:
            return
        row_bytes = len(features.names) * np.dtype(features.dtype).itemsize
        room = int(self._watching.rows_per_second * self._watching.check_seconds)
        rows = max(1, min(room, INTAKE_BYTES_MAX // row_bytes))
        watch = DriftWatch(features.categorical, self._watching.windows, self._watching.thresholds)
        intake = np.empty((rows, len(features.names)), dtype=features.dtype)
        version.sides[side] = _Side(record, side, features, watch, intake)

    def _side(self, record: ModelRecord, side: str, tensors: Mapping[str, Tensor]) -> _Side:
        version = self._versions.get((record.tenant, record.name, record.version)) or self._begin(record)
        if version is None:
            raise Refused(f"{VERSIONS_MAX} versions are watched, which is the most", field="reference")
        if side not in version.sides:
            self._open(version, record, side, tensors)
        if side not in version.sides:
            raise Refused(f"lacks some of the model's {side}", field="reference")
        return version.sides[side]

    def _known(self, record: ModelRecord, side: str) -> _Side:
        version = self._versions.get((record.tenant, record.name, record.version))
        if version is None or side not in version.sides:
            raise NotFound(f"the {side} of model {record.name} version {record.version} are not watched yet")
        return version.sides[side]

    async def _fold(self, side: _Side) -> list[DriftFound]:
        if not side.is_settled:
            await self._settle(side, None)
        rows, found = side.taken(), []
        step = max(1, VALUES_AT_ONCE // len(side.features.names))
        for at in range(0, len(rows), step):
            found += await self._count(side, rows[at : at + step].astype(np.float64))
            await asyncio.sleep(0)
        return found

    async def _count(self, side: _Side, rows: Matrix) -> list[DriftFound]:
        watch, found = side.watch, []
        was_gathering = watch.reference is None
        blocks = watch.blocks_of(rows)
        if was_gathering and (own := watch.reference) is not None:
            await self._settle(side, packed(own))
            if watch.reference is not own:
                # These blocks cannot be compared with what another worker gathered; they are few.
                return []
        for block in blocks:
            side.rows += block.rows
            if side.is_exported:
                side.outgoing = merged([block] if side.outgoing is None else [side.outgoing, block])
            if drift := watch.take(block):
                found.append(_fact(side, drift))
        return found

    async def _settle(self, side: _Side, own: bytes | None) -> None:
        """Compare with the reference that is kept, so that all workers and later starts compare with the same; keep ours where
        there is none. While nobody can be asked, ours does."""
        side.is_settled = True
        name = (side.record, side.side)
        try:
            if own is not None and len(own) > REFERENCE_BYTES_MAX:
                log.warning("reference too large to be kept", model=side.record.name, size_bytes=len(own))
                return
            kept = await (self._references.get(*name) if own is None else self._references.keep(*name, own))
            if kept is not None and kept != own:
                reference = unpacked(kept)
                if reference.grid.features == len(side.features.names):
                    side.watch.refer_to(reference)
        except ErgonautError as error:
            log.warning("reference not shared", model=side.record.name, side=side.side, error=str(error))


def _fact(side: _Side, drift: Drift) -> DriftFound:
    worst, names = drift.findings[0], side.features.names
    return DriftFound(
        tenant=side.record.tenant,
        model=side.record.name,
        version=side.record.version,
        side=side.side,
        feature=names[worst.feature],
        statistic=worst.statistic,
        value=worst.value,
        threshold=worst.threshold,
        p_value=worst.p_value,
        window_rows=drift.rows_window,
        reference_rows=drift.rows_reference,
        rows=side.rows,
        features_drifting=len(drift.findings),
        features_watched=len(names),
        others=tuple(names[finding.feature] for finding in drift.findings[1 : 1 + OTHERS_MAX]),
        mean_reference=_finite(worst.mean_reference),
        mean_window=_finite(worst.mean_window),
        missing_share_reference=worst.missing_share_reference,
        missing_share_window=worst.missing_share_window,
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
