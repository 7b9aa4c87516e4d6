"""One page of metrics from those of all workers. Pure: families in, families out."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
from prometheus_client import Metric
from prometheus_client.registry import Collector


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One series at a moment."""

    name: str
    labels: dict[str, str]
    value: float


class Family(msgspec.Struct, frozen=True, array_like=True):
    """The series of one metric, as they cross from a worker to the parent."""

    name: str
    documentation: str
    kind: str
    samples: list[Sample]


Combine = Callable[[Sequence[float]], float]

GROWING = ("counter", "histogram", "summary")
"""Kinds that only grow, so that what a worker had counted stays counted when it is gone."""


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


NOT_SUMMED: Mapping[str, Combine] = {
    "process_start_time_seconds": min,
    "process_max_fds": max,
    "python_info": max,
    # Each worker watches the rows that came to it: drift is going on where one has found it, as far as the farthest.
    "ergonaut_drift_open": max,
    "ergonaut_drift_distance": max,
    "ergonaut_quality_score": _mean,
    # The same in each.
    "ergonaut_endpoint_share": max,
    # What each tells of all gateways together.
    "ergonaut_gateway_cores_in_use": max,
    "ergonaut_gateway_cores_expected": max,
    "ergonaut_gateway_replicas_wanted": max,
    "ergonaut_gateway_peers": max,
    # Where one of them holds a model, it is not asleep.
    "ergonaut_model_asleep": min,
    "ergonaut_completions_upstreams_left_alone": max,
}
"""Gauges whose sum over workers would say nothing."""


def told(metrics: Iterable[Metric]) -> list[Family]:
    """A worker's metrics, to be sent."""
    return [
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            [Sample(sample.name, dict(sample.labels), sample.value) for sample in metric.samples],
        )
        for metric in metrics
    ]


def merged(pages: Sequence[Sequence[Family]]) -> list[Family]:
    """All pages as one: counts are summed, and so are gauges, but for those of which that would say nothing."""
    families: dict[str, Family] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], list[float]]] = {}
    for family in (family for page in pages for family in page):
        families.setdefault(family.name, family)
        series = values.setdefault(family.name, {})
        for sample in family.samples:
            series.setdefault((sample.name, tuple(sorted(sample.labels.items()))), []).append(sample.value)
    return [
        Family(
            family.name,
            family.documentation,
            family.kind,
            [
                Sample(name, dict(labels), _combined(family, name, each))
                for (name, labels), each in values[family.name].items()
            ],
        )
        for family in families.values()
    ]


def growing(page: Sequence[Family]) -> list[Family]:
    """What of a page stays true when its worker is gone."""
    return [family for family in page if family.kind in GROWING]


class Merged(Collector):
    """A page as Prometheus's encoders take it."""

    def __init__(self, page: Sequence[Family]) -> None:
        self._page = page

    def collect(self) -> Iterable[Metric]:
        for family in self._page:
            metric = Metric(family.name, family.documentation, family.kind)
            for sample in family.samples:
                metric.add_sample(sample.name, sample.labels, sample.value)
            yield metric


def _combined(family: Family, sample: str, values: Sequence[float]) -> float:
    if sample.endswith("_created"):
        return min(values)
    if family.kind in ("info", "stateset"):
        return max(values)
    combine: Combine = NOT_SUMMED.get(family.name, sum)
    return combine(values)
