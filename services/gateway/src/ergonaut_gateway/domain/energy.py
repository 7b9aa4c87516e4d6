"""What predictions use: CPU-seconds shared out to those that caused them, and joules by what a CPU-second is charged.

A run's CPU time is measured around it; what else the process does (reading, writing, counting) is shared by all requests alike,
but for what it does while there are none. Nothing is lost and nothing is counted twice: the parts are the process's CPU time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ergonaut_gateway.domain.electricity import Electricity

CALIBRATED, MODELLED, SEVERAL, NOT_MEASURED = "calibrated", "model", "several", "not-measured"
"""How joules came to be: by what telemetry charges a CPU-second of this host, by a model of the CPU, by both in turn, or not."""

UNTOLD_SECONDS = 1e-9
"""For a part of which nothing is told: enough for the sum not to be known."""

IDLE_LEARNING = 0.2
"""How much a moment without requests counts against those before; the last five or so are remembered."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What a CPU-second is charged, idling left out, and what a joule weighs and costs where that is known."""

    joules_per_cpu_second: float
    range_fraction: float | None
    """The true figure is within plus or minus this; None where nobody tells."""
    method: str
    source: str
    grams_per_joule: float | None = None
    usd_per_joule: float | None = None
    electricity: Electricity | None = None
    """What this host draws, where telemetry tells."""


@dataclass(slots=True)
class Used:
    """CPU-seconds and their joules so far. `unknown_seconds` had no rate: while there are any, the sum of joules is not known."""

    cpu_seconds: float = 0.0
    unknown_seconds: float = 0.0
    joules: dict[str, float] = field(default_factory=dict)
    """By method."""
    joules_low: float = 0.0
    joules_high: float = 0.0
    grams: float = 0.0
    usd: float = 0.0
    unranged: int = 0
    unweighed: int = 0
    unpriced: int = 0
    """How often the range, the grams and the dollars were not known; any makes its sum unknown."""

    def add(self, cpu_seconds: float, rate: Rate | None) -> None:
        """Count CPU-seconds at a rate; None where they are not measured."""
        if cpu_seconds <= 0.0:
            return
        self.cpu_seconds += cpu_seconds
        if rate is None:
            self.unknown_seconds += cpu_seconds
            return
        joules = cpu_seconds * rate.joules_per_cpu_second
        self.joules[rate.method] = self.joules.get(rate.method, 0.0) + joules
        self.joules_low += joules * max(0.0, 1.0 - (rate.range_fraction or 0.0))
        self.joules_high += joules * (1.0 + (rate.range_fraction or 0.0))
        self.grams += joules * (rate.grams_per_joule or 0.0)
        self.usd += joules * (rate.usd_per_joule or 0.0)
        self.unranged += rate.range_fraction is None
        self.unweighed += rate.grams_per_joule is None
        self.unpriced += rate.usd_per_joule is None

    def add_told(self, told: Mapping[str, Any]) -> None:
        """Count what another gateway tells of its part, in the words of `figures`; what it does not tell is not known."""
        seconds, joules = told.get("cpu_seconds", 0.0), told.get("energy_joules")
        self.cpu_seconds += seconds
        if joules is None:
            self.unknown_seconds += max(seconds, UNTOLD_SECONDS)
            return
        low, high = told.get("energy_joules_low"), told.get("energy_joules_high")
        grams, usd = told.get("carbon_grams_co2e"), told.get("cost_usd")
        method = told.get("energy_method", SEVERAL)
        self.joules[method] = self.joules.get(method, 0.0) + joules
        self.joules_low += low or 0.0
        self.joules_high += high or 0.0
        self.grams += grams or 0.0
        self.usd += usd or 0.0
        self.unranged += low is None or high is None
        self.unweighed += grams is None
        self.unpriced += usd is None

    def copied(self) -> "Used":
        """The same, which no longer changes."""
        return replace(self, joules=dict(self.joules))

    def since(self, earlier: "Used") -> "Used":
        """Only what came after an earlier copy."""
        return Used(
            self.cpu_seconds - earlier.cpu_seconds,
            self.unknown_seconds - earlier.unknown_seconds,
            {method: joules - earlier.joules.get(method, 0.0) for method, joules in self.joules.items()},
            self.joules_low - earlier.joules_low,
            self.joules_high - earlier.joules_high,
            self.grams - earlier.grams,
            self.usd - earlier.usd,
            self.unranged - earlier.unranged,
            self.unweighed - earlier.unweighed,
            self.unpriced - earlier.unpriced,
        )

    def figures(self) -> dict[str, Any]:
        """What is known, in the words of `InferenceServed`.

        >>> used = Used()
        >>> used.add(2.0, Rate(3.0, 0.5, "calibrated", "a counter"))
        >>> used.figures()["energy_joules"], used.figures()["energy_joules_high"], "cost_usd" in used.figures()
        (6.0, 9.0, False)
        """
        told: dict[str, Any] = {"cpu_seconds": max(self.cpu_seconds, 0.0)}
        methods = [method for method, joules in self.joules.items() if joules > 0.0]
        if self.unknown_seconds > 0.0 or not methods:
            return told | {"energy_method": NOT_MEASURED}
        told["energy_method"] = methods[0] if len(methods) == 1 else SEVERAL
        told["energy_joules"] = sum(self.joules[method] for method in methods)
        if not self.unranged:
            told |= {"energy_joules_low": self.joules_low, "energy_joules_high": self.joules_high}
        if not self.unweighed:
            told["carbon_grams_co2e"] = self.grams
        if not self.unpriced:
            told["cost_usd"] = self.usd
        return told


class Meter:
    """What one request used, for a caller who asks; the steps of a pipeline count on the same one."""

    __slots__ = ("cpu_seconds", "is_measured", "told", "trace")

    def __init__(self, trace: object = None) -> None:
        self.trace = trace
        """What spans of its runs are put under, where they are wanted."""
        self.cpu_seconds = 0.0
        self.is_measured = True
        """Whether all of it was work of the CPU, which alone is measured."""
        self.told: list[Mapping[str, Any]] = []
        """What other gateways tell of their parts."""

    def count(self, cpu_seconds: float, *, is_measured: bool) -> None:
        """Add its part of a run."""
        self.cpu_seconds += cpu_seconds
        self.is_measured = self.is_measured and is_measured


@dataclass(frozen=True, slots=True)
class Shared:
    """Whose the CPU-seconds of a moment are: those of runs times `run_scale`, so much of each request, and of nobody."""

    run_scale: float = 1.0
    request_seconds: float = 0.0
    idle_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Moment:
    """What happened since the last look."""

    seconds: float
    process_seconds: float
    """CPU time of the whole process."""
    run_seconds: float
    """CPU time of the runs that ended."""
    unfinished_seconds: float
    """What runs that have not ended have taken by now, in all; an estimate."""
    requests: int
    """That were answered."""


class Sharing:
    """Shares the process's CPU time, moment by moment."""

    def __init__(self) -> None:
        self._unfinished_seconds = 0.0
        self._kept_seconds = 0.0
        """What was not given to anybody yet, or, below 0, what was given before the process's clock had it."""
        self._idle_ratio = 0.0
        """CPU-seconds a second that the process uses when nobody asks."""

    def share(self, moment: Moment) -> Shared:
        """Share what was used since the last look."""
        grown = moment.unfinished_seconds - self._unfinished_seconds
        self._unfinished_seconds = moment.unfinished_seconds
        rest = moment.process_seconds - moment.run_seconds - grown + self._kept_seconds
        self._kept_seconds = 0.0
        if rest < 0.0:
            return self._overdrawn(moment, rest)
        if moment.requests:
            idle = min(rest, self._idle_ratio * moment.seconds)
            return Shared(1.0, (rest - idle) / moment.requests, idle)
        if moment.run_seconds or moment.unfinished_seconds:
            self._kept_seconds = rest
            return Shared()
        if moment.seconds > 0.0:
            self._idle_ratio += IDLE_LEARNING * (rest / moment.seconds - self._idle_ratio)
        return Shared(idle_seconds=rest)

    def _overdrawn(self, moment: Moment, rest: float) -> Shared:
        """More was counted for runs than the process used: those still at work were taken for busier than they are, or several
        threads' runs at once counted each other's time."""
        if moment.unfinished_seconds or not moment.run_seconds:
            self._kept_seconds = rest
            return Shared()
        return Shared(run_scale=max(0.0, 1.0 + rest / moment.run_seconds))


def footprint(
    rate: Rate | None, cpu_seconds: float, *, is_measured: bool, elsewhere: Sequence[Mapping[str, Any]] = ()
) -> Mapping[str, Any]:
    """What so much CPU time used, and what others tell of their parts, as an answer tells it: the figures that are known, how
    they came to be, and from what."""
    used = Used()
    used.add(cpu_seconds, rate if is_measured else None)
    for part in elsewhere:
        used.add_told(part)
    told = used.figures()
    if told["energy_method"] == NOT_MEASURED:
        source = "nothing tells what a CPU-second of this host uses" if is_measured else "it ran on an accelerator"
    else:
        source = f"estimate by CPU time; {rate.source}" if rate is not None else ""
    others = [str(part.get("energy_source", "it tells nothing")) for part in elsewhere]
    return told | {"energy_source": "; in another gateway: ".join((source, *others))}
