"""AMD GPUs, through the module `amdsmi` that comes with the host's ROCm; without it `hwmon` reads their power.

ROCm's module fits ROCm's library, so that no version of it can be a dependency: pip install /opt/rocm/share/amd_smi.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ergonaut.events.telemetry import Method
from ergonaut.metering.meters import HostContext, Meter, NotMeasured, Reading
from ergonaut.metering.powersum import PowerSum, TooFarApart
from ergonaut.metering.visibility import PidVisibility

# AMD states no accuracy for its cards' sensors; NVIDIA's +-5 % stands for them twice.
_COUNTER_RANGE_FRACTION = 0.1
_POWER_SAMPLES_RANGE_FRACTION = 0.15
_JOULES_PER_MICROJOULE = 1e-6
# No card comes near it: the largest take 1.4 kW (AMD Instinct MI355X).
_CARD_WATTS_MAX = 10_000


def open_meters(host: HostContext) -> Sequence[Meter]:
    """One meter for all cards; nothing where neither module nor card is there."""
    try:
        smi = host.module("amdsmi")
    except ImportError:
        return []
    except Exception as error:
        # The module looks for its library while it is imported, and raises whatever it happens upon.
        return [NotMeasured("gpu", f"AMD's module amdsmi finds no library: {error!r}")]
    try:
        meter = AmdMeter(smi, PidVisibility(host.path("/proc"), "/dev/kfd"), host.seconds)
    except smi.AmdSmiException as error:
        return [NotMeasured("gpu", f"no AMD driver answers: {error}")]
    if not meter.accelerators:
        meter.close()
        return []
    return [meter]


@dataclass(slots=True)
class _Card:
    component: str
    handle: Any
    name: str
    summed: PowerSum
    counts: bool = True
    worked_nanoseconds: Mapping[int, float] | None = None


class AmdMeter:
    """Components `gpu-amd0`, `gpu-amd1` and so on, in the driver's order."""

    def __init__(
        self, smi: Any, visibility: PidVisibility | None = None, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        """Open every card; `smi` is the module `amdsmi`. Raises its AmdSmiException where there is no driver."""
        self._smi = smi
        self._visibility = visibility or PidVisibility(device="/dev/kfd")
        smi.amdsmi_init(smi.AmdSmiInitFlags.INIT_AMD_GPUS)
        self._open = True
        handles = smi.amdsmi_get_processor_handles()
        self._cards = [
            _Card(f"gpu-amd{index}", handle, self._name(handle), PowerSum(seconds))
            for index, handle in enumerate(handles)
        ]

    @property
    def accelerators(self) -> tuple[str, ...]:
        """The cards' names, one for each."""
        return tuple(card.name for card in self._cards)

    def read(self) -> Sequence[Reading]:
        return [self._read(card) for card in self._cards]

    def users(self) -> Mapping[str, Mapping[int, float]]:
        """Who holds each card: by the time its engines worked for each since the last call, else by memory."""
        users = {card.component: self._users(card) for card in self._cards}
        return {component: weights for component, weights in users.items() if weights is not None}

    def close(self) -> None:
        if self._open:
            self._open = False
            self._smi.amdsmi_shut_down()

    def _name(self, handle: Any) -> str:
        try:
            return str(self._smi.amdsmi_get_gpu_asic_info(handle)["market_name"])
        except (self._smi.AmdSmiException, KeyError):
            return "AMD GPU"

    def _read(self, card: _Card) -> Reading:
        try:
            joules = self._counted(card) if card.counts else None
            if joules is not None:
                source = f"AMD SMI energy counter, {card.name}"
                return Reading(card.component, Method.COUNTER, source, _COUNTER_RANGE_FRACTION, joules)
            joules = card.summed.add(_watts(self._smi.amdsmi_get_power_info(card.handle)))
        except (self._smi.AmdSmiException, ValueError) as error:
            card.summed.interrupt()
            return Reading(card.component, Method.NOT_MEASURED, f"AMD SMI {card.name}: {error}")
        except TooFarApart as gap:
            return Reading(card.component, Method.NOT_MEASURED, f"AMD SMI {card.name}: {gap}")
        source = f"AMD SMI power readings, {card.name}"
        return Reading(card.component, Method.POWER_SAMPLES, source, _POWER_SAMPLES_RANGE_FRACTION, joules)

    def _counted(self, card: _Card) -> float | None:
        """The counter's joules; None, for good, where the card has none or it stands at zero."""
        try:
            count = self._smi.amdsmi_get_energy_count(card.handle)
        except self._smi.AmdSmiLibraryException as error:
            if error.get_error_code() != self._smi.amdsmi_wrapper.AMDSMI_STATUS_NOT_SUPPORTED:
                raise
            count = {}
        # Until ROCm 6.2 the accumulator was called `power`.
        ticks = count.get("energy_accumulator", count.get("power", 0))
        if not ticks:
            card.counts = False
            return None
        return float(ticks) * float(count["counter_resolution"]) * _JOULES_PER_MICROJOULE

    def _users(self, card: _Card) -> Mapping[int, float] | None:
        try:
            holders = self._smi.amdsmi_get_gpu_process_list(card.handle)
        except self._smi.AmdSmiException:
            return None
        totals = {int(holder["pid"]): _worked(holder) for holder in holders}
        before = totals if card.worked_nanoseconds is None else card.worked_nanoseconds
        card.worked_nanoseconds = totals
        work = {pid: max(0.0, total - before.get(pid, 0.0)) for pid, total in totals.items()}
        if not any(work.values()):
            work = {int(holder["pid"]): float(holder.get("mem") or 1) for holder in holders}
        seen: dict[int, float] = defaultdict(float)
        for pid, weight in work.items():
            seen[self._visibility.as_seen_here(pid)] += weight
        return seen


def _worked(holder: Mapping[str, Any]) -> float:
    engines = holder.get("engine_usage") or {}
    return float(sum(value for value in engines.values() if isinstance(value, (int, float))))


def _watts(info: Mapping[str, Any]) -> float:
    # What a card does not tell is `N/A`, zero, or the largest number of 16 or 32 bits, by the module's version. MI300 tells the
    # moment, older cards an average.
    for name in ("current_socket_power", "average_socket_power", "socket_power"):
        if isinstance(info.get(name), (int, float)) and 0 < info[name] < _CARD_WATTS_MAX:
            return float(info[name])
    raise ValueError("the card tells no power")
