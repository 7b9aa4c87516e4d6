"""What routes and mirrors of endpoints did, told to Prometheus when it asks, so that counting itself costs next to nothing."""

import weakref
from collections.abc import Iterator

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ergonaut_gateway.service.traffic import EndpointPlan

_LABELS = ("tenant", "endpoint", "route")
Key = tuple[str, str]
Labels = tuple[str, str, str]
Counts = dict[Labels, tuple[float, ...]]
ROUTES = ("requests", "failures", "slow_requests", "seconds")
MIRRORS = ("mirrored_requests", "mirrored_failures", "mirrors_dropped")


class Board:
    """The endpoints of one gateway process and what they did, over all their revisions."""

    def __init__(self) -> None:
        self.plans: dict[Key, EndpointPlan] = {}
        self._routes: Counts = {}
        self._mirrors: Counts = {}
        _collector.boards.add(self)

    def put(self, key: Key, plan: EndpointPlan) -> None:
        """An endpoint is answered by this plan from now on; what the one before counted stays counted."""
        before = self.plans.get(key)
        self.plans[key] = plan
        if before is not None:
            self._routes = _added(self._routes, _of_routes(before))
            self._mirrors = _added(self._mirrors, _of_mirrors(before))

    def drop(self, key: Key) -> None:
        """An endpoint is gone, and its counts with it."""
        self.plans.pop(key, None)
        self._routes = {labels: counts for labels, counts in self._routes.items() if labels[:2] != key}
        self._mirrors = {labels: counts for labels, counts in self._mirrors.items() if labels[:2] != key}

    def routes(self) -> Counts:
        """What routes did, by tenant, endpoint and route."""
        counts = self._routes
        for plan in list(self.plans.values()):
            counts = _added(counts, _of_routes(plan))
        return counts

    def mirrors(self) -> Counts:
        """What mirrors did, by tenant, endpoint and `model@version`."""
        counts = self._mirrors
        for plan in list(self.plans.values()):
            counts = _added(counts, _of_mirrors(plan))
        return counts


def _of_routes(plan: EndpointPlan) -> Counts:
    return {
        (plan.tenant, plan.name, route.name): (each.requests, each.failed, each.slow, each.seconds)
        for route, each in zip(plan.routes, plan.counts, strict=True)
    }


def _of_mirrors(plan: EndpointPlan) -> Counts:
    return {
        (plan.tenant, plan.name, f"{each.mirror.model}@{each.mirror.version}"): (
            each.requests,
            each.failed,
            each.dropped,
        )
        for each in plan.mirrors
    }


def _added(some: Counts, more: Counts) -> Counts:
    total = dict(some)
    for labels, counts in more.items():
        before = total.get(labels, (0.0,) * len(counts))
        total[labels] = tuple(one + other for one, other in zip(before, counts, strict=True))
    return total


class _Collector(Collector):
    """Reads the counts of all gateways of this process when Prometheus asks."""

    def __init__(self) -> None:
        self.boards: weakref.WeakSet[Board] = weakref.WeakSet()

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        families = {
            "requests": _counter("requests", "Requests that a route answered, well or not."),
            "failures": _counter("failures", "Of these, those that failed by no fault of the caller."),
            "slow_requests": _counter("slow_requests", "Of these, those slower than the endpoint's limit."),
            "seconds": _counter("seconds", "Time from a request to its answer, summed up."),
            "mirrored_requests": _counter("mirrored_requests", "Requests that were also answered elsewhere."),
            "mirrored_failures": _counter("mirrored_failures", "Of these, those that failed there."),
            "mirrors_dropped": _counter("mirrors_dropped", "Requests not mirrored, since too much was at work."),
        }
        shares = GaugeMetricFamily("ergonaut_endpoint_share", "Of the requests that a route is to get.", labels=_LABELS)
        for board in list(self.boards):
            for names, counted in ((ROUTES, board.routes()), (MIRRORS, board.mirrors())):
                for labels, counts in counted.items():
                    for name, value in zip(names, counts, strict=True):
                        families[name].add_metric(labels, value)
            for plan in list(board.plans.values()):
                total = sum(route.weight for route in plan.routes)
                for route in plan.routes:
                    shares.add_metric((plan.tenant, plan.name, route.name), route.weight / total)
        yield from (*families.values(), shares)


def _counter(name: str, told: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"ergonaut_endpoint_{name}", told, labels=_LABELS)


_collector = _Collector()
REGISTRY.register(_collector)
