"""Models that nobody asks for let go of their memory, and take it again when somebody does; `holding` has requests wait."""

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from ergonaut.errors import Unavailable
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.batching import Traits
from ergonaut_gateway.domain.models import ModelRecord, Signature
from ergonaut_gateway.domain.tensors import Tensor
from ergonaut_gateway.ports import Runner, Stop

if TYPE_CHECKING:
    from ergonaut_gateway.service.lanes import Lane

LOOKS_PER_IDLE = 4
"""How often within the time after which a model dozes off it is looked whether that is over: it is at most a quarter late."""

_LABELS = ("tenant", "model", "version")

Load = Callable[[], Awaitable[Runner]]
"""Loads the model once more. Raises what keeps it from being loaded."""

log = get_logger(__name__)


class Dozing:
    """A runner that may be asleep. What it is like is known all the while; to compute it must be awake."""

    def __init__(self, runner: Runner, load: Load, clock: Clock) -> None:
        self._runner: Runner | None = runner
        self._signature = runner.signature
        self._traits = runner.traits
        self._load = load
        self._monotonic = clock.monotonic
        self._used_seconds = clock.monotonic()
        self._crews_before = 0.0
        self._one_at_a_time = asyncio.Lock()
        self.lanes: weakref.WeakSet[Lane] = weakref.WeakSet()
        """Where requests wait for it."""
        self.wakes = 0

    @property
    def signature(self) -> Signature:
        return self._signature

    @property
    def traits(self) -> Traits:
        return self._traits

    @property
    def asleep(self) -> bool:
        """Whether it must be woken before it can compute."""
        return self._runner is None

    def crew_seconds(self) -> float | None:
        now = self._runner.crew_seconds() if self._runner is not None else 0.0
        return None if now is None else self._crews_before + now

    def stop(self) -> Stop:
        return self._awake().stop()

    def compute(self, inputs: Mapping[str, Tensor], outputs: Sequence[str], stop: Stop | None) -> dict[str, Tensor]:
        self._used_seconds = self._monotonic()
        return self._awake().compute(inputs, outputs, stop)

    async def wake(self) -> None:
        """Load the model if it is asleep. Raises what keeps it from being loaded."""
        async with self._one_at_a_time:
            if self._runner is None:
                self._runner = await self._load()
                self._used_seconds = self._monotonic()
                self.wakes += 1

    def doze(self, idle_seconds: float) -> bool:
        """Let go of the model where it was not used for so long and nobody waits for it; whether it fell asleep now."""
        is_idle = self._monotonic() - self._used_seconds >= idle_seconds
        if self.asleep or not is_idle or any(lane.in_flight for lane in self.lanes):
            return False
        if self._runner is not None:
            self._crews_before += self._runner.crew_seconds() or 0.0
        self._runner = None
        return True

    def _awake(self) -> Runner:
        if self._runner is None:
            raise Unavailable("the model is asleep; ask again")
        return self._runner


class Dozers(Collector):
    """The versions of this process that may doze off after a time without requests."""

    def __init__(self, clock: Clock, idle_seconds: float) -> None:
        self._clock = clock
        self._idle_seconds = idle_seconds
        self._known: weakref.WeakKeyDictionary[Dozing, ModelRecord] = weakref.WeakKeyDictionary()

    def wrapped(self, record: ModelRecord, runner: Runner, load: Load) -> Runner:
        """The runner of a version, from now on one that may doze off."""
        dozing = Dozing(runner, load, self._clock)
        self._known[dozing] = record
        return dozing

    def look(self) -> None:
        """Let those doze off whose time has come."""
        for dozing, record in list(self._known.items()):
            if dozing.doze(self._idle_seconds):
                log.info("model asleep", tenant=record.tenant, model=record.name, version=record.version)

    async def keep_looking(self) -> None:
        """Look again and again, for ever."""
        while True:
            await self._clock.sleep(self._idle_seconds / LOOKS_PER_IDLE)
            self.look()

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        """The figures at the moment of a scrape."""
        asleep = GaugeMetricFamily(
            "ergonaut_model_asleep",
            "Whether a version has let go of its memory, which the next request undoes.",
            labels=_LABELS,
        )
        wakes = CounterMetricFamily("ergonaut_model_wakes", "Times that a version was loaded again.", labels=_LABELS)
        # One that was replaced may linger for a moment; each version is told once.
        versions = {(of.tenant, of.name, str(of.version)): dozing for dozing, of in list(self._known.items())}
        for labels, dozing in versions.items():
            asleep.add_metric(labels, float(dozing.asleep))
            wakes.add_metric(labels, dozing.wakes)
        yield from (asleep, wakes)
