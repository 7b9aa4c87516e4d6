"""NVIDIA GPUs, through the driver's own library (NVML): energy counters, or power readings summed up on older cards."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ergonaut.events.telemetry import Method
from ergonaut.metering.meters import Reading

# NVIDIA states +-5 % for the board's power sensor, on which the counter rests as well (arXiv 2312.02741 finds the same);
# sums of momentary readings miss what happens between them.
_COUNTER_RANGE_FRACTION = 0.05
_POWER_SAMPLES_RANGE_FRACTION = 0.1


@dataclass(slots=True)
class _Gpu:
    """One card: its handle, and what has been summed up of its power where it has no counter."""

    component: str
    handle: Any
    name: str
    counts: bool = True
    summed_joules: float = 0.0
    last_watts: float | None = None
    last_at_seconds: float = 0.0
    seen_until_microseconds: int = 0


class NvmlMeter:
    """Components `gpu0`, `gpu1` and so on, in the driver's order. Slices of one card (MIG) share its counter."""

    def __init__(self, nvml: Any) -> None:
        """Open every card; `nvml` is the module `pynvml`. Raises its NVMLError where there is no driver."""
        self._nvml = nvml
        nvml.nvmlInit()
        self._open = True
        self._gpus = [self._opened(index) for index in range(nvml.nvmlDeviceGetCount())]

    @property
    def accelerators(self) -> tuple[str, ...]:
        """The cards' names, one for each."""
        return tuple(gpu.name for gpu in self._gpus)

    def read(self) -> Sequence[Reading]:
        return [self._read(gpu) for gpu in self._gpus]

    def users(self) -> Mapping[str, Mapping[int, float]]:
        """Who holds each card: by the work done on it since the last call, else by the memory held on it."""
        return {gpu.component: self._users(gpu) for gpu in self._gpus}

    def close(self) -> None:
        if self._open:
            self._open = False
            self._nvml.nvmlShutdown()

    def _opened(self, index: int) -> _Gpu:
        handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
        name = self._nvml.nvmlDeviceGetName(handle)
        return _Gpu(f"gpu{index}", handle, name.decode() if isinstance(name, bytes) else name)

    def _read(self, gpu: _Gpu) -> Reading:
        try:
            if gpu.counts:
                return self._count(gpu)
            return self._sum_up(gpu)
        except self._nvml.NVMLError as error:
            return Reading(gpu.component, Method.NOT_MEASURED, f"NVML {gpu.name}: {error}")

    def _count(self, gpu: _Gpu) -> Reading:
        try:
            joules = self._nvml.nvmlDeviceGetTotalEnergyConsumption(gpu.handle) / 1000
        except self._nvml.NVMLError as error:
            if error.value != self._nvml.NVML_ERROR_NOT_SUPPORTED:
                raise
            gpu.counts = False
            return self._sum_up(gpu)
        source = f"NVML energy counter, {gpu.name}"
        return Reading(gpu.component, Method.COUNTER, source, _COUNTER_RANGE_FRACTION, joules)

    def _sum_up(self, gpu: _Gpu) -> Reading:
        watts, now = self._nvml.nvmlDeviceGetPowerUsage(gpu.handle) / 1000, time.monotonic()
        if gpu.last_watts is not None:
            gpu.summed_joules += (watts + gpu.last_watts) / 2 * (now - gpu.last_at_seconds)
        gpu.last_watts, gpu.last_at_seconds = watts, now
        source = f"NVML power readings, {gpu.name}"
        return Reading(gpu.component, Method.POWER_SAMPLES, source, _POWER_SAMPLES_RANGE_FRACTION, gpu.summed_joules)

    def _users(self, gpu: _Gpu) -> Mapping[int, float]:
        try:
            holders = self._nvml.nvmlDeviceGetComputeRunningProcesses(gpu.handle)
        except self._nvml.NVMLError:
            return {}
        work = self._work(gpu)
        if any(work.get(holder.pid, 0.0) > 0 for holder in holders):
            return {holder.pid: work.get(holder.pid, 0.0) for holder in holders}
        # A driver that hides how much memory each holds says None; then all count alike.
        return {holder.pid: float(holder.usedGpuMemory or 1) for holder in holders}

    def _work(self, gpu: _Gpu) -> Mapping[int, float]:
        try:
            samples = self._nvml.nvmlDeviceGetProcessUtilization(gpu.handle, gpu.seen_until_microseconds)
        except self._nvml.NVMLError:
            # The driver answers so when nothing ran since, and on cards and slices that cannot tell.
            return {}
        work: dict[int, float] = defaultdict(float)
        for sample in samples:
            gpu.seen_until_microseconds = max(gpu.seen_until_microseconds, sample.timeStamp)
            work[sample.pid] += sample.smUtil
        return work
