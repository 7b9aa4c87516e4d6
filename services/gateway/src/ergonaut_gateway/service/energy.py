"""What each model version uses: every second the process's CPU time is shared out to what ran and was answered since, and becomes
joules at what a CPU-second is charged then. Nothing of it is done for a single request, but for one that asks."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.energy import Meter, Moment, Rate, Sharing, Used, footprint
from ergonaut_gateway.service.batching import Engine
from ergonaut_gateway.service.counting import Board, Key, Served

LOOK_SECONDS = 1.0
"""As often as telemetry tells what a CPU-second is charged."""

REMEMBERED = 0.8
"""How much what a request used beside its run counts against the next moment's; the last five or so are remembered."""

Counted = tuple[float, int]
"""A version's CPU-seconds of runs, and its requests, as far as they were shared out."""

log = get_logger(__name__)


def unknown_rate() -> Rate | None:
    """The rate where nobody tells one."""
    return None


def no_seconds() -> float:
    """What others count where there are none."""
    return 0.0


class Energy(Collector):
    """Shares out what a gateway's process uses."""

    def __init__(
        self, board: Board, engine: Engine, clock: Clock, process_seconds: Callable[[], float] = time.process_time
    ) -> None:
        self.rate: Callable[[], Rate | None] = unknown_rate
        """What a CPU-second is charged now."""
        self.idle = Used()
        """What the process uses when nobody asks."""
        self.elsewhere: Callable[[], float] = no_seconds
        """CPU-seconds of the process that others count, so that they are nobody's here."""
        self._board = board
        self._engine = engine
        self._clock = clock
        self._process_seconds = process_seconds
        self._sharing = Sharing()
        self._counted: dict[Key, Counted] = {}
        self._looked_at = clock.monotonic()
        self._had_seconds = process_seconds()
        self._request_seconds = 0.0

    def look(self) -> None:
        """Share out what was used since the last look."""
        now, has_seconds = self._clock.monotonic(), self._process_seconds() - self.elsewhere()
        counted = {key: _counted(served) for key, served in self._board.served.items()}
        grown = {key: _grown(each, self._counted.get(key, (0.0, 0))) for key, each in counted.items()}
        moment = Moment(
            seconds=now - self._looked_at,
            process_seconds=has_seconds - self._had_seconds,
            run_seconds=sum(seconds for seconds, _ in grown.values()),
            unfinished_seconds=self._engine.unfinished_seconds(),
            requests=sum(requests for _, requests in grown.values()),
        )
        self._looked_at, self._had_seconds, self._counted = now, has_seconds, counted
        shared, rate = self._sharing.share(moment), self.rate()
        for key, (run_seconds, requests) in grown.items():
            served = self._board.served[key]
            seconds = run_seconds * shared.run_scale + requests * shared.request_seconds
            served.used.add(seconds, rate if served.is_measured else None)
        self.idle.add(shared.idle_seconds, rate)
        if moment.requests:
            known = self._request_seconds or shared.request_seconds
            self._request_seconds = REMEMBERED * known + (1.0 - REMEMBERED) * shared.request_seconds

    async def keep_looking(self) -> None:
        """Look again and again, for ever."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            try:
                self.look()
            except Exception:
                # To count must not end what is counted; the next look has what this one missed.
                log.exception("what was used is not shared out")

    def footprint(self, meter: Meter) -> Mapping[str, Any]:
        """What a request used: its part of runs, and what requests used lately beside."""
        seconds = meter.cpu_seconds + self._request_seconds
        return footprint(self.rate(), seconds, is_measured=meter.is_measured, elsewhere=meter.told)

    def collect(self) -> Iterator[Metric]:
        """The figures at the moment of a scrape."""
        labels = ("tenant", "model", "version")
        seconds = CounterMetricFamily(
            "ergonaut_inference_cpu_seconds", "CPU time of runs, and of reading and writing.", labels=labels
        )
        joules = CounterMetricFamily(
            "ergonaut_inference_energy_joules",
            "Estimate by CPU time, idling left out. Absent where it is not measured.",
            labels=(*labels, "method"),
        )
        idle = CounterMetricFamily(
            "ergonaut_inference_idle_energy_joules", "What the process uses when nobody asks.", labels=("method",)
        )
        for served in list(self._board.served.values()):
            named = tuple(str(part) for part in served.key)
            seconds.add_metric(named, served.used.cpu_seconds)
            for method, amount in served.used.joules.items():
                joules.add_metric((*named, method), amount)
        for method, amount in self.idle.joules.items():
            idle.add_metric((method,), amount)
        yield from (seconds, joules, idle)


def _counted(served: Served) -> Counted:
    return served.lane.cpu_seconds, served.tally.requests


def _grown(now: Counted, before: Counted) -> Counted:
    # A version that was removed and is served again is counted from 0 again.
    return now if now[1] < before[1] else (now[0] - before[0], now[1] - before[1])
