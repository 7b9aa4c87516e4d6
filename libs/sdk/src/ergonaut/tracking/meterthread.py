"""The thread that samples the meters every second and writes down what the run used; it never fails the user's program."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from datetime import datetime

from ergonaut.events.telemetry import Method, PowerSample, PowerSampled, Share
from ergonaut.ids import derived_id
from ergonaut.journal import EntryKind, JournalEntry
from ergonaut.metering import Charge, HostInterval, HostSampler, ProcessScan, discover
from ergonaut.runcontext import RunContext
from ergonaut.tracking.options import Options
from ergonaut.tracking.summary import RENT_COMPONENT, Totals
from ergonaut.units import SECONDS_PER_HOUR, carbon_grams, kwh_from_joules

# A sample takes milliseconds; a thread that has not come back by then is stuck in a driver and is left behind.
_STOP_SECONDS_MAX = 5.0


class MeterThread:
    """Meters the processes that it is told to; those and all their descendants are the run."""

    def __init__(
        self,
        context: RunContext,
        options: Options,
        write: Callable[[JournalEntry], None],
        belongs: Callable[[int], bool],
    ) -> None:
        self._context = context
        self._options = options
        self._write = write
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._sequence = 0
        self._totals = Totals()
        self._warned = False
        self._sampler = HostSampler(discover(), ProcessScan(lambda pid: context if belongs(pid) else None))
        self._thread = threading.Thread(target=self._sample_regularly, name="ergonaut-meter", daemon=True)

    @property
    def totals(self) -> Totals:
        """What the run has used up to the last sample."""
        return self._totals

    def start(self) -> None:
        """Begin to sample."""
        self._thread.start()

    def sample(self) -> None:
        """Sample now. In a forked child, where the thread does not live, nothing happens."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            interval = self._sampler.sample()
            self._sequence += 1
            entry = self._entry(interval)
            self._totals.add(entry)
            self._write(entry)

    def stop(self) -> None:
        """Take the last sample and give the meters back."""
        self._stopping.set()
        self._thread.join(_STOP_SECONDS_MAX)
        if self._thread.is_alive():
            return
        self._sample_safely()
        self._sampler.close()

    def _sample_regularly(self) -> None:
        while not self._stopping.wait(self._options.interval_seconds):
            self._sample_safely()

    def _sample_safely(self) -> None:
        try:
            self.sample()
        except Exception as error:
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if self._warned:
            return
        self._warned = True
        with contextlib.suppress(OSError, ValueError):
            print(f"ergonaut: a sample failed and later ones will bridge it: {error!r}", file=sys.stderr)  # noqa: T201

    def _entry(self, interval: HostInterval) -> JournalEntry:
        samples = [self._sample(charge) for charge in interval.charges if charge.share is Share.RUN]
        if self._options.rent_usd_per_hour:
            samples.append(self._rent(interval.started_at, interval.ended_at))
        intensity = self._options.intensity
        event = PowerSampled(
            event_id=derived_id("event", self._context.run_id, str(self._sequence)),
            tenant=self._context.tenant,
            occurred_at=interval.ended_at,
            host=self._options.host,
            producer=self._context.run_id,
            sequence=self._sequence,
            zone=intensity.zone,
            intensity_grams_per_kwh=intensity.grams_per_kwh,
            intensity_kind=intensity.kind,
            intensity_source=intensity.source,
            pue=self._options.pue,
            samples=tuple(samples),
        )
        return JournalEntry(
            kind=EntryKind.SAMPLE,
            at=interval.ended_at,
            sampled=event,
            idle_joules=_joules(interval, Share.IDLE),
            others_joules=_joules(interval, Share.OTHERS),
        )

    def _sample(self, charge: Charge) -> PowerSample:
        joules, price = charge.energy_joules, self._options.electricity_usd_per_kwh
        grams_per_kwh = self._options.intensity.grams_per_kwh
        return PowerSample(
            share=Share.RUN,
            run_id=self._context.run_id,
            job_id=self._context.job_id,
            component=charge.reading.component,
            method=charge.reading.method,
            source=charge.reading.source,
            range_fraction=charge.reading.range_fraction,
            started_at=charge.started_at,
            ended_at=charge.ended_at,
            energy_joules=joules,
            carbon_grams_co2e=None if joules is None else carbon_grams(joules * self._options.pue, grams_per_kwh),
            cost_usd=None if joules is None or price is None else kwh_from_joules(joules) * price,
        )

    def _rent(self, started_at: datetime, ended_at: datetime) -> PowerSample:
        hours = max(0.0, (ended_at - started_at).total_seconds()) / SECONDS_PER_HOUR
        return PowerSample(
            share=Share.RUN,
            run_id=self._context.run_id,
            job_id=self._context.job_id,
            component=RENT_COMPONENT,
            method=Method.NOT_MEASURED,
            source=f"rent of {self._options.rent_usd_per_hour:g} USD an hour",
            started_at=started_at,
            ended_at=ended_at,
            cost_usd=hours * self._options.rent_usd_per_hour,
        )


def _joules(interval: HostInterval, share: Share) -> float:
    return sum(charge.energy_joules or 0.0 for charge in interval.charges if charge.share is share)
