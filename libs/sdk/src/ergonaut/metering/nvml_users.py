"""Which processes use one NVIDIA card, and by how much: the weights by which its energy is split."""

import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from ergonaut.metering.meters import NOBODYS_PID, USERS_NOT_TOLD
from ergonaut.metering.visibility import PidVisibility

_FOREIGN = "; processes of other containers cannot be told apart here and are charged to others"
_MIG = "; its slices (MIG) share this counter and are charged by their size, free ones to nobody"
_ENABLED = 1


class CardUsers:
    """Weights since the last call: by work where the driver tells it, in turn from its samples and from its accounting.

    Slices (MIG) have no samples of work: a slice that a process holds weighs by its compute units, and within a slice memory
    decides. Where no work was done at all, the memory held decides.
    """

    def __init__(self, nvml: Any, handle: Any, visibility: PidVisibility) -> None:
        self._nvml = nvml
        self._handle = handle
        self._visibility = visibility
        self._seen_until_microseconds = 0
        self._accounts = self._enabled("nvmlDeviceGetAccountingMode")
        self._sums = True
        self._accounted: Mapping[int, float] | None = None
        self._sliced = self._enabled("nvmlDeviceGetMigMode")
        self._met_foreign = False
        self._tells_holders = True
        # The driver keeps samples of some time; what was done before this beginning is not of the first interval.
        self._sampled_work()

    @property
    def caveat(self) -> str:
        """What a reader of the card's figures must know about how they are split; empty where nothing is special."""
        told = "" if self._tells_holders else USERS_NOT_TOLD
        return (_MIG if self._sliced else "") + (_FOREIGN if self._met_foreign else "") + told

    def since_last(self) -> Mapping[int, float] | None:
        """Each process's weight; those that cannot be told from others stand under negative numbers. None where none are told."""
        holders = self._holders()
        if holders is None:
            return None
        if self._sliced:
            return self._visible(self._by_slice(holders))
        work = self._sampled_work() or self._accounted_work(holders)
        if any(weight > 0 for weight in work.values()):
            # One that has ended since did its work all the same, and those that remain must not pay for it.
            return self._visible(dict.fromkeys((holder.pid for holder in holders), 0.0) | work)
        return self._visible({holder.pid: _memory(holder) for holder in holders})

    def _visible(self, weights: Mapping[int, float]) -> Mapping[int, float]:
        seen = {self._visibility.as_seen_here(pid): weight for pid, weight in weights.items()}
        self._met_foreign = self._met_foreign or any(pid < 0 for pid in seen)
        return seen

    def _holders(self) -> list[Any] | None:
        """The processes on the card; None where the driver tells none of any kind, as a guest's or one under Windows does."""
        names = ("nvmlDeviceGetGraphicsRunningProcesses", "nvmlDeviceGetComputeRunningProcesses")
        told = [processes for name in names if (processes := self._asked(name, default=None)) is not None]
        self._tells_holders = bool(told)
        holders = {holder.pid: holder for processes in told for holder in processes}
        return list(holders.values()) if told else None

    def _sampled_work(self) -> dict[int, float]:
        # The driver answers with an error when nothing ran since, and on cards that cannot tell.
        samples = self._asked("nvmlDeviceGetProcessUtilization", self._seen_until_microseconds, default=())
        work: dict[int, float] = defaultdict(float)
        for sample in samples:
            # The driver's ring holds samples that were never written, and sometimes some that were asked for before.
            if sample.timeStamp > self._seen_until_microseconds:
                work[sample.pid] += sample.smUtil
        self._seen_until_microseconds = max([self._seen_until_microseconds, *(sample.timeStamp for sample in samples)])
        return work

    def _accounted_work(self, holders: list[Any]) -> dict[int, float]:
        if not self._accounts:
            return {}
        totals = {holder.pid: self._total_work(holder.pid) for holder in holders}
        # What was done before the first look is not known to be of this interval; a process that came since began at zero.
        before = totals if self._accounted is None else self._accounted
        self._accounted = totals
        return {pid: max(0.0, total - before.get(pid, 0.0)) for pid, total in totals.items()}

    def _total_work(self, pid: int) -> float:
        """How long a process has kept the card busy since it began: a sum of percents, or percent-microseconds."""
        if self._sums:
            stats = self._asked("nvmlDeviceGetAccountingStats_v2", pid, default=None)
            if stats is not None:
                return float(stats.sumGpuUtil)
        stats = self._asked("nvmlDeviceGetAccountingStats", pid, default=None)
        if stats is None:
            return 0.0
        # A driver that knows only the older call knows no sums for any process, and the two have different units.
        self._sums = False
        return float(stats.gpuUtilization * max(0.0, time.time() * 1e6 - stats.startTime))

    def _by_slice(self, holders: list[Any]) -> dict[int, float]:
        members: dict[int, list[Any]] = defaultdict(list)
        for holder in holders:
            members[getattr(holder, "gpuInstanceId", 0)].append(holder)
        sizes = self._sizes()
        weights: dict[int, float] = {}
        for instance, inside in members.items():
            memory = sum(_memory(holder) for holder in inside)
            for holder in inside:
                weights[holder.pid] = sizes.get(instance, 1) * _memory(holder) / memory
        free = sum(size for instance, size in sizes.items() if instance not in members)
        return weights | {NOBODYS_PID: float(free)} if free else weights

    def _sizes(self) -> dict[int, int]:
        """How many of the card's compute units each instance has."""
        sizes: dict[int, int] = {}
        for index in range(self._asked("nvmlDeviceGetMaxMigDeviceCount", default=0)):
            device = self._asked("nvmlDeviceGetMigDeviceHandleByIndex", index, default=None)
            if device is None:
                continue
            instance = self._asked("nvmlDeviceGetGpuInstanceId", default=None, handle=device)
            attributes = self._asked("nvmlDeviceGetAttributes", default=None, handle=device)
            if instance is not None and attributes is not None:
                sizes[instance] = attributes.gpuInstanceSliceCount
        return sizes

    def _enabled(self, name: str) -> bool:
        answer = self._asked(name, default=0)
        current = answer[0] if isinstance(answer, (list, tuple)) else answer
        return bool(current == _ENABLED)

    def _asked(self, name: str, *arguments: Any, default: Any, handle: Any = None) -> Any:
        # An older driver or module lacks the newer functions; a card that cannot tell answers with an error.
        function = getattr(self._nvml, name, None)
        if function is None:
            return default
        try:
            return function(handle if handle is not None else self._handle, *arguments)
        except self._nvml.NVMLError:
            return default


def _memory(holder: Any) -> float:
    # A driver that hides how much memory each holds says None; then all count alike.
    return float(holder.usedGpuMemory or 1)
