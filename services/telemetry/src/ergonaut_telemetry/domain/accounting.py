"""One sample, decided: given what was remembered and what the host says now, what to tell, to show and to remember."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ergonaut.carbon import Intensity, PueSource, zone_code
from ergonaut.events import PowerSample, PowerSampled
from ergonaut.ids import derived_id
from ergonaut.metering import Place
from ergonaut.runcontext import RunContext
from ergonaut_telemetry.domain.charging import Charge, charges_between, joules_per_cpu_second
from ergonaut_telemetry.domain.readings import HostReading, RunKey
from ergonaut_telemetry.domain.stamping import Grid, Interval, Machine, Site, held, intensity_at, stamped
from ergonaut_telemetry.domain.totals import HostTotals, RunTotals, added, summed
from ergonaut_telemetry.domain.turns import Memory, Turn

_HOUR = timedelta(hours=1)

SAMPLES_PER_EVENT_MAX = 1_000
"""At about 500 bytes a sample, an event stays under the bus's limit of 1 MiB a message."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the host's owner has set, and who numbers the events."""

    host: str
    producer: str
    tenant: str = "default"
    zone: str = ""
    pue: float = 1.0
    electricity_microusd_per_kwh: int | None = None
    bridge_seconds_max: float = 300.0
    pue_source: PueSource = PueSource.NOT_TOLD
    embodied_grams_co2e_per_hour: float = 0.0
    """Of the whole machine; shared by the runs on it, and the idling's when there is none. 0 where not known."""
    embodied_basis: str = ""
    """Where that comes from and how far it may be off, where it is an estimate."""

    intensity: Intensity | None = None
    """A figure of the owner's own for the host's electricity, which goes before what pricing tells; None where none is set."""

    def intensity_at(self, grid: Grid, zone: str, at: datetime) -> Intensity:
        """How clean the host's electricity is at a time, for who uses it at a zone."""
        return self.intensity or intensity_at(grid, zone, at)

    def placed(self, place: Place) -> "Terms":
        """The same at the place that a host's cloud tells; what was set goes before that."""
        at_place = self if self.zone else replace(self, zone=place.zone)
        if place.pue is None or self.pue_source is not PueSource.NOT_TOLD:
            return at_place
        return replace(at_place, pue=place.pue, pue_source=PueSource.PROVIDER)

    def site(self, run: RunContext | None) -> Site:
        """Where a payer's energy is used. The host knows its zone best; a run's placement knows the building's overhead."""
        zone = self.zone or (zone_code(run.zone) if run else "")
        if run is not None and run.pue > 1:
            return Site(zone, run.pue, PueSource.PROVIDER)
        return Site(zone, self.pue, self.pue_source)


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """Whose energy it is, where it was used, and how clean the electricity was then: what the samples of an event share."""

    tenant: str
    site: Site
    intensity: Intensity


class _Places:
    """The places of one interval, one object each, so that samples are put together without comparing what they share."""

    def __init__(self, terms: Terms, grid: Grid) -> None:
        self._terms = terms
        self._grid = grid
        self._known: dict[tuple[str, Site, Intensity], _Place] = {}

    def of(self, run: RunContext | None, at: datetime) -> _Place:
        """Where a payer is charged for energy of this moment."""
        site, tenant = self._terms.site(run), run.tenant if run else self._terms.tenant
        intensity = self._terms.intensity_at(self._grid, site.zone, at)
        return self._known.setdefault((tenant, site, intensity), _Place(tenant, site, intensity))


@dataclass(frozen=True, slots=True)
class _Sampled:
    """A sample and where it belongs."""

    place: _Place
    sample: PowerSample


@dataclass(frozen=True, slots=True)
class _Numbered:
    """Samples that make one event, and its number."""

    place: _Place
    sequence: int
    samples: tuple[PowerSample, ...]


def account(memory: Memory, now: HostReading, terms: Terms, grid: Grid) -> Turn:
    """Decide one sample. The first after a boot, or after too long an absence, only remembers where the meters are."""
    before = memory.reading
    if before is None or not _bridged(before, now, terms.bridge_seconds_max):
        runs = _runs_after(memory.runs, now, {}, grid, terms)
        return _turn(replace(memory, reading=now), HostTotals(now.at), (), runs)
    seconds = now.load.at_seconds - before.load.at_seconds
    interval = Interval(now.at - timedelta(seconds=seconds), now.at)
    charges = charges_between(before, now)
    places = _Places(terms, grid)
    sampled = [*_stamped(charges, interval, terms, places), *_held(now, interval, terms, places)]
    rate = joules_per_cpu_second(charges, now.load.busy_cpu_seconds - before.load.busy_cpu_seconds)
    told = _ours_to_tell(sampled, now)
    events = tuple(_event(each, now, terms, rate) for each in _numbered(told, memory.sequences))
    sequences = {**memory.sequences, **{event.tenant: event.sequence for event in events}}
    host = HostTotals(now.at, added((), tuple(one.sample for one in sampled)))
    runs = _runs_after(memory.runs, now, _by_run(sampled), grid, terms)
    return _turn(Memory(now, sequences, memory.runs), host, events, runs)


def _bridged(before: HostReading, now: HostReading, bridge_seconds_max: float) -> bool:
    seconds = now.load.at_seconds - before.load.at_seconds
    return before.boot_id == now.boot_id and 0 < seconds <= bridge_seconds_max


def hours_of(interval: Interval) -> tuple[Interval, ...]:
    """An interval's parts by the hours of the clock, each of which has an intensity of its own."""
    parts, started_at = [], interval.started_at
    while started_at < interval.ended_at:
        next_hour = started_at.replace(minute=0, second=0, microsecond=0) + _HOUR
        parts.append(Interval(started_at, min(next_hour, interval.ended_at)))
        started_at = next_hour
    return tuple(parts)


def _stamped(charges: Sequence[Charge], interval: Interval, terms: Terms, places: _Places) -> Iterable[_Sampled]:
    for part in hours_of(interval):
        # Within one interval nothing tells when the energy was used, so the hours share it by their time.
        fraction = (part.ended_at - part.started_at) / (interval.ended_at - interval.started_at)
        # By the payer's identity: each is one object in all its charges, and comparing contexts would cost more than stamping.
        place_of: dict[int, _Place] = {}
        for charge in charges:
            run = charge.run
            place = place_of.get(id(run)) or place_of.setdefault(id(run), places.of(run, part.started_at))
            price = run.electricity_microusd_per_kwh if run else terms.electricity_microusd_per_kwh
            owed = charge if charge.energy_joules is None or fraction == 1 else _scaled(charge, fraction)
            yield _Sampled(place, stamped(owed, part, place.site, place.intensity, price))


def _scaled(charge: Charge, fraction: float) -> Charge:
    return replace(charge, energy_joules=(charge.energy_joules or 0.0) * fraction)


def _held(now: HostReading, interval: Interval, terms: Terms, places: _Places) -> Iterable[_Sampled]:
    """Rent and embodied carbon: those of a run's own lease, else an even part of the host's making for each run on it."""
    # No hour changes their grams, so they stand beside the samples of the interval's last.
    last_moment = interval.ended_at - timedelta(microseconds=1)
    seconds = (interval.ended_at - interval.started_at).total_seconds()
    # A run's first interval began before it did; its oldest process says when it came. Of one without a process left nothing
    # tells how long it was there.
    runs = [run for run in now.runs if not run.told_by_tracker]
    ages = [
        now.process_clock_seconds - min(stat.started for stat in run.members) if run.members else 0.0 for run in runs
    ]
    present = [min(seconds, max(0.0, age)) for age in ages]
    part = terms.embodied_grams_co2e_per_hour * seconds / (sum(present) or 1.0)
    for run, run_seconds in zip((run.context for run in runs), present, strict=True):
        # Weighted by presence, so that what the runs are charged adds up to the host's interval.
        of_lease = run.embodied_grams_co2e_per_hour
        basis = "" if of_lease else terms.embodied_basis
        machine = Machine(run_seconds, run.price_microusd_per_hour, of_lease or part, basis)
        if machine.counts:
            yield _Sampled(places.of(run, last_moment), held(run, interval, machine))
    if terms.embodied_grams_co2e_per_hour and not sum(present):
        idle = Machine(seconds, 0, terms.embodied_grams_co2e_per_hour, terms.embodied_basis)
        yield _Sampled(places.of(None, last_moment), held(None, interval, idle))


def _ours_to_tell(sampled: Sequence[_Sampled], now: HostReading) -> Sequence[_Sampled]:
    """All but the samples of those runs whose own trackers tell of them: a joule is told once."""
    told = {run.key for run in now.runs if run.told_by_tracker}
    if not told:
        return sampled
    return [one for one in sampled if (one.place.tenant, one.sample.run_id) not in told]


def _numbered(sampled: Sequence[_Sampled], sequences: Mapping[str, int]) -> Iterable[_Numbered]:
    """One event for each tenant; more where its runs are at different sites, an hour was full, or the samples are very many."""
    groups: dict[_Place, list[PowerSample]] = {}
    for one in sampled:
        groups.setdefault(one.place, []).append(one.sample)
    last = dict(sequences)
    for place, samples in groups.items():
        for first in range(0, len(samples), SAMPLES_PER_EVENT_MAX):
            last[place.tenant] = last.get(place.tenant, 0) + 1
            part = tuple(samples[first : first + SAMPLES_PER_EVENT_MAX])
            yield _Numbered(place, last[place.tenant], part)


def _event(numbered: _Numbered, now: HostReading, terms: Terms, rate: float | None) -> PowerSampled:
    tenant, site, intensity = numbered.place.tenant, numbered.place.site, numbered.place.intensity
    sequence = numbered.sequence
    return PowerSampled(
        event_id=derived_id("event", terms.producer, tenant, str(sequence)),
        tenant=tenant,
        occurred_at=now.at,
        host=terms.host,
        producer=terms.producer,
        sequence=sequence,
        zone=site.zone,
        intensity_grams_per_kwh=intensity.grams_per_kwh,
        intensity_kind=intensity.kind,
        intensity_source=intensity.source,
        intensity_signal=intensity.signal,
        intensity_accounting=intensity.accounting,
        intensity_boundary=intensity.boundary,
        pue=site.pue,
        pue_source=site.pue_source.value,
        joules_per_cpu_second=rate,
        samples=numbered.samples,
    )


def _by_run(sampled: Iterable[_Sampled]) -> dict[RunKey, tuple[PowerSample, ...]]:
    grouped: dict[RunKey, tuple[PowerSample, ...]] = {}
    for one in sampled:
        if one.sample.run_id:
            key = (one.place.tenant, one.sample.run_id)
            grouped[key] = (*grouped.get(key, ()), one.sample)
    return grouped


def _runs_after(
    known: Mapping[RunKey, RunTotals],
    now: HostReading,
    samples: Mapping[RunKey, tuple[PowerSample, ...]],
    grid: Grid,
    terms: Terms,
) -> tuple[RunTotals, ...]:
    """The totals of every run that is here or was until lately."""
    present = {run.key: run.context for run in now.runs}
    gone = [
        replace(
            totals, sampled_at=now.at, components=added(totals.components, ()), samples_gone=totals.samples_gone + 1
        )
        for key, totals in known.items()
        if key not in present
    ]
    here = []
    for key, context in present.items():
        intensity = terms.intensity_at(grid, terms.site(context).zone, now.at)
        fresh = replace(
            known.get(key) or RunTotals(*key, sampled_at=now.at),
            sampled_at=now.at,
            intensity_grams_per_kwh=intensity.grams_per_kwh,
            intensity_source=intensity.kind,
            samples_gone=0,
        )
        here.append(summed(fresh, samples.get(key, ())))
    return (*here, *gone)


def _turn(memory: Memory, host: HostTotals, events: tuple[PowerSampled, ...], runs: tuple[RunTotals, ...]) -> Turn:
    going_on = {(run.tenant, run.run_id): run for run in runs if not run.ended}
    return Turn(replace(memory, runs=going_on), host, events, runs)
