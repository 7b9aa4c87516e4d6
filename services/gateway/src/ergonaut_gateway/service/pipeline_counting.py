"""What the steps of pipelines did, told to Prometheus when it asks, so that counting itself costs next to nothing."""

import weakref
from collections.abc import Iterator

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from ergonaut_gateway.service.pipeline_runs import PipelinePlan

_LABELS = ("tenant", "pipeline", "node", "step")
Key = tuple[str, str]
Counts = dict[tuple[str, str, str, str], tuple[int, int, float]]


class Board:
    """The pipelines of one gateway process and what their steps did, over all their revisions."""

    def __init__(self) -> None:
        self._plans: dict[Key, PipelinePlan] = {}
        self._before: Counts = {}
        _collector.boards.add(self)

    def put(self, key: Key, plan: PipelinePlan) -> None:
        """A pipeline is answered by this plan from now on. What the one before counted stays counted, but for steps that are no
        more, so that many revisions take no more room than one."""
        before = self._plans.get(key)
        self._plans[key] = plan
        if before is not None:
            known = _counts(key, plan)
            total = _added(self._before, _counts(key, before))
            self._before = {labels: each for labels, each in total.items() if labels[:2] != key or labels in known}

    def drop(self, key: Key) -> None:
        """A pipeline is gone, and its counts with it."""
        self._plans.pop(key, None)
        self._before = {labels: counts for labels, counts in self._before.items() if labels[:2] != key}

    def counts(self) -> Counts:
        """Requests, failures and seconds by tenant, pipeline, node and step."""
        told = dict(self._before)
        for key, plan in list(self._plans.items()):
            told = _added(told, _counts(key, plan))
        return told


def _counts(key: Key, plan: PipelinePlan) -> Counts:
    counted: Counts = {}
    for step in plan.counts.values():
        # A node that is asked at several places is counted as one.
        told = {(*key, step.node, step.step): (step.requests, step.failures, step.seconds)}
        counted = _added(counted, told)
    return counted


def _added(some: Counts, more: Counts) -> Counts:
    total = dict(some)
    for labels, (requests, failures, seconds) in more.items():
        before = total.get(labels, (0, 0, 0.0))
        total[labels] = (before[0] + requests, before[1] + failures, before[2] + seconds)
    return total


class _Collector(Collector):
    """Reads the counts of all gateways of this process when Prometheus asks."""

    def __init__(self) -> None:
        self.boards: weakref.WeakSet[Board] = weakref.WeakSet()

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "ergonaut_pipeline_step_requests",
            "Requests that a step of a pipeline answered, well or not.",
            labels=_LABELS,
        )
        failures = CounterMetricFamily(
            "ergonaut_pipeline_step_failures",
            "Of these, those that failed, also where the pipeline went on.",
            labels=_LABELS,
        )
        seconds = CounterMetricFamily(
            "ergonaut_pipeline_step_seconds", "Time from a step's request to its answer, summed up.", labels=_LABELS
        )
        for board in list(self.boards):
            for labels, counted in board.counts().items():
                for family, value in zip((requests, failures, seconds), counted, strict=True):
                    family.add_metric(labels, value)
        yield from (requests, failures, seconds)


_collector = _Collector()
REGISTRY.register(_collector)
