"""NVIDIA GPUs, through the driver's own library (NVML): energy counters, or power readings summed up on older cards."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ergonaut.events.telemetry import Method
from ergonaut.metering.meters import HostContext, Meter, NotMeasured, Reading
from ergonaut.metering.nvml_users import CardUsers
from ergonaut.metering.powersum import PowerSum, TooFarApart
from ergonaut.metering.visibility import PidVisibility

# NVIDIA states +-5 % for the board's power sensor, on which the counter rests as well (arXiv 2312.02741 finds the same);
# sums of momentary readings miss what happens between them.
_COUNTER_RANGE_FRACTION = 0.05
_POWER_SAMPLES_RANGE_FRACTION = 0.1


def open_meters(host: HostContext) -> Sequence[Meter]:
    """One meter for all cards; a host without a driver or a card says so."""
    try:
        nvml = host.module("pynvml")
    except ImportError as error:
        return [NotMeasured("gpu", f"NVIDIA's module pynvml is not installed: {error}")]
    try:
        meter = NvmlMeter(nvml, PidVisibility(host.path("/proc")), host.seconds)
    except nvml.NVMLError as error:
        return [NotMeasured("gpu", f"no NVIDIA driver answers: {error}")]
    if not meter.read():
        meter.close()
        return [NotMeasured("gpu", "the NVIDIA driver shows no card")]
    return [meter]


@dataclass(slots=True)
class _Gpu:
    """One card: its handle, who uses it, and what has been summed up of its power where it has no counter."""

    component: str
    handle: Any
    name: str
    users: CardUsers
    summed: PowerSum
    counts: bool = True


class NvmlMeter:
    """Components `gpu0`, `gpu1` and so on, in the driver's order. Slices of one card (MIG) share its counter."""

    def __init__(
        self, nvml: Any, visibility: PidVisibility | None = None, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        """Open every card; `nvml` is the module `pynvml`. Raises its NVMLError where there is no driver."""
        self._nvml = nvml
        self._visibility = visibility or PidVisibility()
        self._seconds = seconds
        nvml.nvmlInit()
        self._open = True
        self._gpus: list[_Gpu] = []
        self._lost: list[Reading] = []
        for index in range(nvml.nvmlDeviceGetCount()):
            try:
                self._gpus.append(self._opened(index))
            except nvml.NVMLError as error:
                # A card that has fallen off its bus says nothing about the others.
                because = f"NVML card {index} cannot be opened: {error}"
                self._lost.append(Reading(f"gpu{index}", Method.NOT_MEASURED, because))

    @property
    def accelerators(self) -> tuple[str, ...]:
        """The cards' names, one for each."""
        return tuple(gpu.name for gpu in self._gpus)

    def read(self) -> Sequence[Reading]:
        return [*(self._read(gpu) for gpu in self._gpus), *self._lost]

    def users(self) -> Mapping[str, Mapping[int, float]]:
        """Who holds each card: by the work done on it since the last call, else by the memory held on it."""
        users = {gpu.component: gpu.users.since_last() for gpu in self._gpus}
        return {component: weights for component, weights in users.items() if weights is not None}

    def close(self) -> None:
        if self._open:
            self._open = False
            self._nvml.nvmlShutdown()

    def _opened(self, index: int) -> _Gpu:
        handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
        name = self._nvml.nvmlDeviceGetName(handle)
        users = CardUsers(self._nvml, handle, self._visibility)
        name = name.decode() if isinstance(name, bytes) else name
        return _Gpu(f"gpu{index}", handle, name, users, PowerSum(self._seconds))

    def _read(self, gpu: _Gpu) -> Reading:
        try:
            if gpu.counts:
                return self._count(gpu)
            return self._sum_up(gpu)
        except self._nvml.NVMLError as error:
            gpu.summed.interrupt()
            return Reading(gpu.component, Method.NOT_MEASURED, f"NVML {gpu.name}: {error}")
        except TooFarApart as gap:
            return Reading(gpu.component, Method.NOT_MEASURED, f"NVML {gpu.name}: {gap}")

    def _count(self, gpu: _Gpu) -> Reading:
        try:
            joules = self._nvml.nvmlDeviceGetTotalEnergyConsumption(gpu.handle) / 1000
        except self._nvml.NVMLError as error:
            if error.value != self._nvml.NVML_ERROR_NOT_SUPPORTED:
                raise
            gpu.counts = False
            return self._sum_up(gpu)
        source = f"NVML energy counter, {gpu.name}{gpu.users.caveat}"
        return Reading(gpu.component, Method.COUNTER, source, _COUNTER_RANGE_FRACTION, joules)

    def _sum_up(self, gpu: _Gpu) -> Reading:
        joules = gpu.summed.add(self._nvml.nvmlDeviceGetPowerUsage(gpu.handle) / 1000)
        source = f"NVML power readings, {gpu.name}{gpu.users.caveat}"
        return Reading(gpu.component, Method.POWER_SAMPLES, source, _POWER_SAMPLES_RANGE_FRACTION, joules)
