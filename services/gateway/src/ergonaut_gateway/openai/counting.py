"""What the OpenAI-compatible door served, counted by tenant and route: told as events for the ledger, and to Prometheus."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ergonaut_common.clock import Clock
from ergonaut_gateway.domain.electricity import Electricity
from ergonaut_gateway.openai.domain.tallies import Completions
from ergonaut_gateway.openai.domain.usage import Figures
from ergonaut_gateway.service.telling import Telling

_LABELS = ("tenant", "route")

LeftAlone = Callable[[], Mapping[str, int]]
"""How many upstreams of each route are left alone now."""


class Counting(Collector):
    """Adds up; `report` tells what came together since it was last called. Tenants come from our keys, routes from our file."""

    def __init__(self, telling: Telling, clock: Clock, left_alone: LeftAlone) -> None:
        self._telling = telling
        self._clock = clock
        self._left_alone = left_alone
        self._untold: dict[tuple[str, str], dict[Electricity | None, Completions]] = {}
        """By what grams rest on: one for each upstream's place, and one more where the hour changes. Grams of a contract's hour
        and of a year are never one number."""
        self._all: dict[tuple[str, str], Completions] = {}

    def served(self, tenant: str, route: str, used: Figures | None, *, failed: bool) -> None:
        """One more request was answered, or failed after an upstream had been asked."""
        key = (tenant, route)
        untold = self._untold_of(key, used)
        for sums in (untold, self._all.setdefault(key, Completions(untold.started_at))):
            sums.add(used, failed=failed)

    def _untold_of(self, key: tuple[str, str], used: Figures | None) -> Completions:
        """The sums that an answer belongs to. One without figures goes with those that are there, or with the first that come."""
        kept = self._untold.setdefault(key, {})
        if used is None and kept:
            return next(reversed(kept.values()))
        electricity = used.electricity if used is not None else None
        if electricity not in kept:
            waits = kept.get(None)
            takes_over = waits is not None and waits.has_no_figures
            kept[electricity] = kept.pop(None) if takes_over else Completions(self._clock.now())
        return kept[electricity]

    async def report(self) -> None:
        """Tell what was served since the last report, and what could not be told before."""
        now = self._clock.now()
        window, self._untold = self._untold, {}
        await self._telling.tell(
            [sums.told(*key, now) for key, by_basis in window.items() for sums in by_basis.values()]
        )

    async def keep_reporting(self, *, every_seconds: float) -> None:
        """Report again and again, for ever."""
        while True:
            await self._clock.sleep(every_seconds)
            await self.report()

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        """The figures at the moment of a scrape."""
        requests = CounterMetricFamily(
            "ergonaut_completions_requests", "Requests for which an upstream was asked.", labels=_LABELS
        )
        failures = CounterMetricFamily(
            "ergonaut_completions_failures", "Of these, those without a whole answer.", labels=_LABELS
        )
        tokens = CounterMetricFamily(
            "ergonaut_completions_tokens", "Tokens that upstreams told.", labels=(*_LABELS, "direction")
        )
        energy = CounterMetricFamily(
            "ergonaut_completions_energy_joules", "Estimates from output tokens, where known.", labels=_LABELS
        )
        cost = CounterMetricFamily(
            "ergonaut_completions_cost_usd", "By the routes' prices, where known.", labels=_LABELS
        )
        for key, sums in list(self._all.items()):
            requests.add_metric(key, sums.requests)
            failures.add_metric(key, sums.failed)
            tokens.add_metric((*key, "in"), sums.tokens_in)
            tokens.add_metric((*key, "out"), sums.tokens_out)
            if sums.energy_joules is not None and sums.energy_joules[0]:
                energy.add_metric(key, sums.energy_joules[0])
            if sums.cost_usd:
                cost.add_metric(key, sums.cost_usd)
        alone = GaugeMetricFamily(
            "ergonaut_completions_upstreams_left_alone",
            "Upstreams that are not asked after failures.",
            labels=("route",),
        )
        for route, count in self._left_alone().items():
            alone.add_metric((route,), count)
        yield from (requests, failures, tokens, energy, cost, alone)
