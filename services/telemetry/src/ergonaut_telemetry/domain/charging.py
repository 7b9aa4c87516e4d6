"""Who owes which joule of an interval: differences of two readings, split by the metering library's rules."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ergonaut.events.telemetry import Method, Share
from ergonaut.metering import CounterMark, HostUse, Reading, RunKey, Split, attribute
from ergonaut.metering.processes import used_between
from ergonaut.metering.rapl import counted_microjoules
from ergonaut.runcontext import RunContext
from ergonaut_telemetry.domain.readings import ComponentReading, HostReading, RunReading


@dataclass(frozen=True, slots=True)
class Charge:
    """What one payer owes for one component over an interval; without a run it is the host's. None: not measured."""

    share: Share
    run: RunContext | None
    component: str
    method: Method
    source: str
    range_fraction: float | None
    energy_joules: float | None


def charges_between(before: HostReading, now: HostReading) -> tuple[Charge, ...]:
    """All charges of the interval between two readings of one boot."""
    use = _use(before, now)
    contexts = {run.key: run.context for run in now.runs}
    same_agent = before.agent == now.agent
    earlier = {(known.reading.component, known.reading.method): known for known in before.components}
    charges: list[Charge] = []
    for component in now.components:
        reading = component.reading
        known = earlier.get((reading.component, reading.method))
        joules = joules_between(known, component, seconds=use.seconds, same_agent=same_agent)
        if joules is None:
            charges += _unmeasured(reading, contexts.values())
        else:
            charges += _shared(reading, attribute(reading.component, joules, use, reading.idle_fraction), contexts)
    return tuple(charges)


def joules_per_cpu_second(charges: Iterable[Charge], busy_cpu_seconds: float) -> float | None:
    """What a CPU-second was charged, whoever used it: by it a program that counts its own reckons as it is charged here."""
    joules = [
        charge.energy_joules
        for charge in charges
        if charge.share is not Share.IDLE and charge.energy_joules is not None and _follows_work(charge.component)
    ]
    return sum(joules) / busy_cpu_seconds if joules and busy_cpu_seconds > 0 else None


def _follows_work(component: str) -> bool:
    return component != "dram" and not component.startswith("gpu")


def joules_between(
    before: ComponentReading | None, now: ComponentReading, *, seconds: float, same_agent: bool
) -> float | None:
    """What a component used between two readings; None where there is no meter, or its counter began anew in between."""
    if before is None or before.reading.energy_joules is None or now.reading.energy_joules is None:
        return None
    if not same_agent and now.reading.marks:
        return _between_marks(before.reading.marks, now.reading.marks, seconds)
    if not same_agent and not now.lasting:
        return None
    joules = now.reading.energy_joules - before.reading.energy_joules
    return joules if joules >= 0 else None


def _between_marks(before: tuple[CounterMark, ...], now: tuple[CounterMark, ...], seconds: float) -> float | None:
    """Joules between marks; a counter may have wrapped once, since it takes far longer for that than is ever bridged."""
    if [mark.name for mark in before] != [mark.name for mark in now]:
        return None
    steps = [
        counted_microjoules(later.value_microjoules - mark.value_microjoules, later.wraps_at_microjoules, seconds)
        for mark, later in zip(before, now, strict=True)
    ]
    return None if None in steps else sum(step or 0 for step in steps) / 1e6


def cpu_seconds_between(before: HostReading, now: HostReading) -> dict[RunKey, float]:
    """Each run's CPU-seconds in the interval."""
    earlier = {run.key: run for run in before.runs}
    if before.agent == now.agent:
        return {run.key: _counted_on(earlier.get(run.key), run) for run in now.runs}
    since_seconds = before.process_clock_seconds
    return {run.key: _bridged(earlier.get(run.key), run, since_seconds) for run in now.runs}


def _counted_on(before: RunReading | None, now: RunReading) -> float:
    # A run that was gone and has processes again is counted from zero again.
    if before is None or now.cpu_seconds < before.cpu_seconds:
        return now.cpu_seconds
    return now.cpu_seconds - before.cpu_seconds


def _bridged(before: RunReading | None, now: RunReading, since_seconds: float) -> float:
    """What a run used while the agent was away. Without a control group of its own, what began and ended then is lost."""
    if before is not None and before.group == now.group and before.group_cpu_seconds and now.group_cpu_seconds:
        return max(0.0, now.group_cpu_seconds - before.group_cpu_seconds)
    then = {stat.pid: stat for stat in before.members} if before else {}
    same = {stat.pid: stat for stat in now.members if stat.pid in then and then[stat.pid].started == stat.started}
    gone = {pid: stat for pid, stat in then.items() if pid not in same}
    new = (stat for stat in now.members if stat.pid not in same and stat.started >= since_seconds)
    return used_between({pid: then[pid] for pid in same}, same, gone) + sum(stat.total_cpu_seconds for stat in new)


def _use(before: HostReading, now: HostReading) -> HostUse:
    weights: dict[str, dict[RunKey, float]] = defaultdict(dict)
    for holder in now.holders:
        weights[holder.component][holder.run] = holder.weight
    return HostUse(
        seconds=now.load.at_seconds - before.load.at_seconds,
        logical_cpus=now.load.logical_cpus,
        busy_cpu_seconds=now.load.busy_cpu_seconds - before.load.busy_cpu_seconds,
        memory_bytes=now.load.memory_bytes,
        memory_used_bytes=now.load.memory_used_bytes,
        run_cpu_seconds=cpu_seconds_between(before, now),
        run_resident_bytes={run.key: run.resident_bytes for run in now.runs},
        gpu_weights=weights,
    )


def _unmeasured(reading: Reading, runs: Iterable[RunContext]) -> Iterable[Charge]:
    measured = reading.energy_joules is not None
    source = f"{reading.source}; counting began anew in this interval" if measured else reading.source
    component, method = reading.component, Method.NOT_MEASURED
    for run in runs:
        yield Charge(Share.RUN, run, component, method, source, None, None)
    yield Charge(Share.IDLE, None, component, method, source, None, None)


def _shared(reading: Reading, split: Split, contexts: Mapping[RunKey, RunContext]) -> Iterable[Charge]:
    component, method, source, span = reading.component, reading.method, reading.source, reading.range_fraction
    for key, context in contexts.items():
        yield Charge(Share.RUN, context, component, method, source, span, split.runs.get(key, 0.0))
    yield Charge(Share.OTHERS, None, component, method, source, span, split.others)
    yield Charge(Share.IDLE, None, component, method, source, span, split.idle)
