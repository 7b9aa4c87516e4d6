"""The metrics of several workers as one page."""

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

import ergonaut_gateway
from ergonaut_gateway.workers.merging import NOT_SUMMED, Family, Merged, growing, merged, told

SUMMED = {
    "ergonaut_gateway_forwarded_in_flight",
    "ergonaut_inference_queue",
    "ergonaut_inference_in_flight",
    "ergonaut_drift_rows_compared",
    "ergonaut_drift_rows_unobserved",
}
"""Gauges of the gateway that count something, so that all workers together have the sum."""


def page(requests: float, latencies: tuple[float, ...] = (), waiting: float = 0.0) -> list[Family]:
    """What a worker tells that has served so much."""
    registry = CollectorRegistry()
    counter = Counter("served", "Requests.", ["model"], registry=registry)
    counter.labels("digits").inc(requests)
    histogram = Histogram("seconds", "Latency.", buckets=(0.1, 1.0), registry=registry)
    for each in latencies:
        histogram.observe(each)
    Gauge("waiting", "Requests that wait.", registry=registry).set(waiting)
    return told(registry.collect())


def scrape(families: list[Family]) -> str:
    """The page as Prometheus reads it, without the times at which counters were made."""
    lines = generate_latest(Merged(families)).decode().splitlines()
    return "\n".join(line for line in lines if "_created" not in line and not line.startswith("#"))


def test_counts_histograms_and_gauges_of_all_workers_are_summed() -> None:
    together = scrape(merged([page(3, (0.05, 0.5), waiting=2), page(4, (5.0,), waiting=1)]))
    assert 'served_total{model="digits"} 7.0' in together
    assert 'seconds_bucket{le="0.1"} 1.0' in together
    assert 'seconds_bucket{le="1.0"} 2.0' in together
    assert 'seconds_bucket{le="+Inf"} 3.0' in together
    assert "seconds_sum 5.55" in together
    assert "waiting 3.0" in together


def test_one_page_alone_stays_as_it_is() -> None:
    assert scrape(merged([page(3, (0.5,), waiting=2)])) == scrape(page(3, (0.5,), waiting=2))


def test_the_page_is_told_by_the_earliest_worker_that_counted() -> None:
    pages = [page(1), page(1)]
    created = [sample.value for family in merged(pages) for sample in family.samples if sample.name == "served_created"]
    assert created == [min(s.value for each in pages for f in each for s in f.samples if s.name == "served_created")]


def test_a_gauge_that_workers_share_is_not_summed() -> None:
    def drift(is_open: float, distance: float, score: float) -> list[Family]:
        opened = GaugeMetricFamily("ergonaut_drift_open", "", value=is_open)
        far = GaugeMetricFamily("ergonaut_drift_distance", "", value=distance)
        quality = GaugeMetricFamily("ergonaut_quality_score", "", value=score)
        return told([opened, far, quality])

    together = scrape(merged([drift(1, 0.3, 0.8), drift(1, 0.1, 0.9), drift(0, 0.2, 0.7)]))
    assert "ergonaut_drift_open 1.0" in together
    assert "ergonaut_drift_distance 0.3" in together
    assert "ergonaut_quality_score 0.8" in together


@given(st.lists(st.lists(st.integers(0, 1000), min_size=1, max_size=4), min_size=1, max_size=4))
def test_the_count_never_falls_when_workers_die_and_new_ones_begin_at_nothing(lives: list[list[int]]) -> None:
    gone: list[Family] = []
    before = 0.0
    for counts in lives:
        last: list[Family] = []
        counted = 0
        for more in counts:
            counted += more
            last = page(counted)
            seen = value_of(merged([gone, last]))
            assert seen >= before
            before = seen
        gone = merged([gone, growing(last)])
    assert before == sum(map(sum, lives))


def test_what_waits_at_a_dead_worker_waits_no_longer() -> None:
    assert "waiting" not in scrape(growing(page(1, waiting=5)))


def test_for_each_gauge_of_the_gateway_it_is_decided_what_all_workers_have() -> None:
    source = "\n".join(path.read_text() for path in Path(ergonaut_gateway.__file__).parent.rglob("*.py"))
    gauges = set(re.findall(r'Gauge(?:MetricFamily)?\(\s*"(\w+)"', source))
    assert gauges >= SUMMED
    undecided = gauges - SUMMED - set(NOT_SUMMED)
    assert not undecided, f"put {undecided} into NOT_SUMMED of workers/merging.py, or into SUMMED here"


def value_of(families: list[Family]) -> float:
    return next(sample.value for family in families for sample in family.samples if sample.name == "served_total")
