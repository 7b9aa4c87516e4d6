"""Finds the meters of this host by entry points, and picks the best for each component."""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ergonaut.events.telemetry import Method
from ergonaut.metering.meters import (
    ENTRY_POINT_GROUP,
    PLATFORM,
    HostContext,
    Meter,
    MeterFactory,
    NotMeasured,
    Reading,
)
from ergonaut.metering.rest import WithRest

_ORDER = (Method.COUNTER, Method.POWER_SAMPLES, Method.MODEL, Method.NOT_MEASURED)
_MEASURED = (Method.COUNTER, Method.POWER_SAMPLES)
# What every host has, or at least is asked about; a host for which nobody says anything is told to have no such meter.
_ASKED_FOR = ("cpu", "dram", "gpu")


def discover(
    powercap: Path | None = None,
    nvml: Any = None,
    *,
    host: HostContext | None = None,
    factories: Mapping[str, MeterFactory] | None = None,
) -> list[Meter]:
    """The best meter for each component of this host; what cannot be measured is among them and says why.

    A counter is better than power samples, those than a model; among equals, the one with the narrower range. A factory that
    fails is among the result as a component of its own name that is not measured; it never keeps others from being opened.
    `powercap` and `nvml` stand in for /sys/class/powercap and the module `pynvml`; `factories` for all entry points.
    """
    host = host or HostContext(powercap=powercap, modules={"pynvml": nvml} if nvml is not None else {})
    offers = [
        offer
        for name, factory in (entry_points() if factories is None else factories).items()
        for offer in _offers(name, factory, host)
    ]
    chosen = _standing_alone(_best(offers))
    kept = {id(offer.meter) for offer in chosen.values()}
    _close_quietly(offer.meter for offer in offers if id(offer.meter) not in kept)
    meters = _grouped(chosen, offers)
    return [WithRest(meters)] if PLATFORM in chosen and len(chosen) > 1 and not _alone(chosen) else meters


def entry_points() -> dict[str, MeterFactory]:
    """The factories that installed distributions name, by name; one that cannot be imported fails only when it is called."""
    from importlib import metadata

    found = metadata.entry_points(group=ENTRY_POINT_GROUP)
    return {entry.name: lambda host, entry=entry: entry.load()(host) for entry in sorted(found)}  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class _Offer:
    """One component as one meter reads it."""

    meter: Meter
    reading: Reading

    @property
    def rank(self) -> tuple[int, float]:
        spread = self.reading.range_fraction
        return (_ORDER.index(self.reading.method), 1.0 if spread is None else spread)


class _Chosen:
    """A meter without the components that another reads better, and with the reasons why no better one reads its own."""

    def __init__(self, meter: Meter, reasons: Mapping[str, str]) -> None:
        self._meter = meter
        self._reasons = reasons
        self.accelerators: tuple[str, ...] = tuple(getattr(meter, "accelerators", ()))

    def read(self) -> Sequence[Reading]:
        try:
            readings = [_checked(reading) for reading in self._meter.read()]
            return [self._explained(reading) for reading in readings if reading.component in self._reasons]
        except Exception as error:
            # A meter is anybody's code; whatever it raises, the others are to be read.
            return [Reading(name, Method.NOT_MEASURED, f"the meter failed: {error!r}") for name in self._reasons]

    def users(self) -> Mapping[str, Mapping[int, float]]:
        try:
            return {name: _weights(users) for name, users in self._meter.users().items() if name in self._reasons}
        except Exception:
            return {}

    def close(self) -> None:
        _close_quietly([self._meter])

    def _explained(self, reading: Reading) -> Reading:
        reason = self._reasons[reading.component]
        return replace(reading, source=f"{reading.source}; {reason}") if reason else reading


def _offers(name: str, factory: MeterFactory, host: HostContext) -> list[_Offer]:
    meters: Sequence[Meter] = ()
    try:
        meters = factory(host)
        return [_Offer(meter, _checked(reading)) for meter in meters for reading in meter.read()]
    except Exception as error:
        # A factory is anybody's code over anybody's driver; whatever it raises, the others are to be opened.
        _close_quietly(meters or ())
        failed = NotMeasured(name, f"the meter {name!r} could not be opened: {error!r}")
        return [_Offer(failed, failed.read()[0])]


def _checked(reading: Reading) -> Reading:
    """The reading, or that there is none where it tells no energy. Raises TypeError for what is no reading at all."""
    if not isinstance(reading, Reading) or reading.method not in _ORDER:
        raise TypeError(f"it reads {reading!r}, which is no Reading")
    if reading.energy_joules is None or math.isfinite(reading.energy_joules):
        return reading
    # One such figure would make every later sum one, of this component and of all others.
    because = f"{reading.source} tells {reading.energy_joules} J, which is no energy"
    return Reading(reading.component, Method.NOT_MEASURED, because)


def _weights(users: Mapping[int, float]) -> Mapping[int, float]:
    return {int(pid): float(weight) for pid, weight in users.items() if 0 <= weight < math.inf}


def _best(offers: Sequence[_Offer]) -> dict[str, _Offer]:
    chosen: dict[str, _Offer] = {}
    for offer in sorted(offers, key=lambda offer: offer.rank):
        chosen.setdefault(offer.reading.component, offer)
    if any(name.startswith("gpu") and offer.reading.measured for name, offer in chosen.items()):
        # That one maker's driver is not there means nothing where another's cards are.
        chosen.pop("gpu", None)
    for component in _ASKED_FOR:
        if not any(name.startswith(component) for name in chosen):
            missing = NotMeasured(component, f"no meter for {component} is installed")
            chosen[component] = _Offer(missing, missing.read()[0])
    return chosen


def _alone(chosen: Mapping[str, _Offer]) -> bool:
    """Whether the host's meter is the only thing measured here, and always is: then it is better than models of the parts."""
    platform = chosen[PLATFORM]
    parts = [offer for name, offer in chosen.items() if name != PLATFORM]
    steady = platform.reading.measured and not getattr(platform.meter, "intermittent", False)
    return steady and not any(offer.reading.method in _MEASURED for offer in parts)


def _standing_alone(chosen: dict[str, _Offer]) -> dict[str, _Offer]:
    if PLATFORM not in chosen or not _alone(chosen):
        return chosen
    return {name: offer for name, offer in chosen.items() if offer.reading.method is not Method.MODEL}


def _close_quietly(meters: Iterable[Meter]) -> None:
    for meter in meters:
        # What somebody's meter raises on its way out concerns nobody any more.
        with suppress(Exception):
            meter.close()


def _grouped(chosen: Mapping[str, _Offer], offers: Sequence[_Offer]) -> list[Meter]:
    reasons: dict[int, dict[str, str]] = {}
    meters: dict[int, Meter] = {}
    for component in sorted(chosen):
        offer = chosen[component]
        unread = [
            other.reading.source
            for other in offers
            if other.reading.component == component and not other.reading.measured and other.meter is not offer.meter
        ]
        # One reason is enough, and nobody asks why a counter was not another.
        reason = unread[0] if unread and offer.reading.method is Method.MODEL else ""
        meters[id(offer.meter)] = offer.meter
        reasons.setdefault(id(offer.meter), {})[component] = reason
    return [_Chosen(meter, reasons[key]) for key, meter in meters.items()]
