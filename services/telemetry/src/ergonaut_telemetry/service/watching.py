"""Shows each sample to whoever watches. A watcher that is slow misses totals in between, never the newest."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace

from ergonaut.errors import NotFound, Unavailable
from ergonaut_common.clock import Clock
from ergonaut_telemetry import figures
from ergonaut_telemetry.domain import ComponentTotal, HostTotals, RunKey, RunTotals, Turn
from ergonaut_telemetry.ports import Spool

PATIENCE_SECONDS = 30.0
"""How long a watcher may be earlier than the run's first sample: a client asks as soon as the run's id is known."""

WATCHERS_MAX = 500
"""Watchers at once; each costs a little at every sample, and the host is there for its runs."""


class _Newest:
    """Room for one thing; putting another in replaces it. A bounded queue whose bound is one."""

    def __init__(self) -> None:
        self._turn: Turn | None = None
        self._filled = asyncio.Event()

    def put(self, turn: Turn | None) -> None:
        """Put in a turn; None says that there will be no more."""
        self._turn = turn
        self._filled.set()

    async def take(self) -> Turn:
        await self._filled.wait()
        self._filled.clear()
        if self._turn is None:
            raise Unavailable("the agent is stopping; watch again in a moment")
        return self._turn


class Watching:
    """Who watches what."""

    def __init__(self, spool: Spool, clock: Clock) -> None:
        self._spool = spool
        self._clock = clock
        self._watchers: set[_Newest] = set()
        self._sums: dict[str, ComponentTotal] = {}
        self._host = HostTotals(clock.now())
        self._living: dict[RunKey, RunTotals] = {}
        self._stopping = False

    def stop(self) -> None:
        """End every watch, so that the door need not wait for them."""
        self._stopping = True
        for watcher in self._watchers:
            watcher.put(None)

    def show(self, turn: Turn) -> None:
        """Hand a sample to everybody who watches, now."""
        self._host = replace(turn.host, components=tuple(self._summed(total) for total in turn.host.components))
        self._living = dict(turn.memory.runs)
        figures.show(turn)
        for watcher in self._watchers:
            watcher.put(turn)

    def newest_host(self) -> HostTotals:
        """The host as of the last sample."""
        return self._host

    async def host(self) -> AsyncIterator[HostTotals]:
        """The host after every sample; energy counts from the first one on."""
        beginning = {total.component: total.energy_joules or 0.0 for total in self._host.components}
        with self._watching() as newest:
            while True:
                await newest.take()
                since = (_since(total, beginning.get(total.component, 0.0)) for total in self._host.components)
                yield replace(self._host, components=tuple(since))

    async def run(self, tenant: str, run_id: str) -> AsyncIterator[RunTotals]:
        """A run's totals after every sample, to its last. Raises NotFound where the tenant has no such run in good time."""
        key = (tenant, run_id)
        with self._watching() as newest:
            totals = self._living.get(key) or self._spool.run(*key) or await self._first(key, newest)
            yield totals
            while not totals.ended:
                turn = await newest.take()
                # A watcher that was slow may have missed the run's end; then the spool tells it.
                totals = self._of(turn, key) or self._spool.run(*key) or totals
                yield totals

    async def _first(self, key: RunKey, newest: _Newest) -> RunTotals:
        give_up_at = self._clock.monotonic() + PATIENCE_SECONDS
        while self._clock.monotonic() < give_up_at:
            turn = await _within(self._clock, give_up_at - self._clock.monotonic(), newest)
            if turn is not None and (totals := self._of(turn, key)) is not None:
                return totals
        raise NotFound(f"run {key[1]!r}: this host has seen no process of it; it may be elsewhere, or not have begun")

    @staticmethod
    def _of(turn: Turn, key: RunKey) -> RunTotals | None:
        return next((run for run in turn.runs if (run.tenant, run.run_id) == key), None)

    def _summed(self, total: ComponentTotal) -> ComponentTotal:
        known = self._sums.get(total.component)
        if known is not None and known.energy_joules is not None:
            total = replace(total, energy_joules=known.energy_joules + (total.energy_joules or 0.0))
        self._sums[total.component] = total
        return total

    @contextmanager
    def _watching(self) -> Iterator[_Newest]:
        if len(self._watchers) >= WATCHERS_MAX:
            raise Unavailable(f"{WATCHERS_MAX} watchers are there already; try again later")
        newest = _Newest()
        if self._stopping:
            newest.put(None)
        self._watchers.add(newest)
        try:
            yield newest
        finally:
            self._watchers.discard(newest)


async def _within(clock: Clock, seconds: float, newest: _Newest) -> Turn | None:
    """The next turn, or None when this much time has passed."""
    taking, waiting = asyncio.ensure_future(newest.take()), asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({taking, waiting}, return_when=asyncio.FIRST_COMPLETED)
        return taking.result() if taking.done() else None
    finally:
        taking.cancel()
        waiting.cancel()


def _since(total: ComponentTotal, beginning_joules: float) -> ComponentTotal:
    if total.energy_joules is None:
        return total
    return replace(total, energy_joules=max(0.0, total.energy_joules - beginning_joules))
