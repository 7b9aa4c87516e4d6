"""Predictions on the fakes: checked, counted, told in time, and finished before a stop."""

import asyncio
import gc
import threading
import weakref
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from ergonaut.errors import NotFound, Refused, Unavailable
from ergonaut.events import InferenceServed
from ergonaut_gateway.domain.batching import Traits
from ergonaut_gateway.domain.inference import InferenceRequest
from ergonaut_gateway.domain.tallies import Tally
from ergonaut_gateway.fakes import FakeModelLoader, FakeRunner
from ergonaut_gateway.service import Wish, telling

from .conftest import Gateway, Gateways


def request(rows: int = 1, *outputs: str) -> InferenceRequest:
    return InferenceRequest("id-1", {"x": np.ones((rows, 3), dtype="<f4")}, outputs)


async def test_an_answer_bears_the_id_the_model_and_its_version(gateway: Gateway) -> None:
    await gateway.deploy(b"model a")
    answer = await gateway.predictions.infer("default", "digits", "1", request(2))
    assert (answer.id, answer.model, answer.version) == ("id-1", "digits", 1)
    np.testing.assert_array_equal(answer.outputs["y"], np.full((2, 3), 2.0))


async def test_served_requests_are_told_once_per_model_version_with_rows_failures_and_times(gateway: Gateway) -> None:
    await gateway.deploy(b"model a")
    begun = gateway.clock.now()
    for rows in (1, 4):
        await gateway.predictions.infer("default", "digits", "", request(rows))
    with pytest.raises(Refused):
        await gateway.predictions.infer("default", "digits", "", request(1, "nothing"))
    await gateway.clock.advance(10)
    await gateway.predictions.report()
    await gateway.predictions.report()
    (told,) = [event for event in gateway.announcer.told if isinstance(event, InferenceServed)]
    assert (told.tenant, told.model, told.version) == ("default", "digits", 1)
    assert (told.requests, told.rows, told.failed) == (3, 5, 1)
    assert (told.started_at, told.ended_at) == (begun, begun + timedelta(seconds=10))


async def test_a_request_for_an_unknown_model_is_not_counted(gateway: Gateway) -> None:
    with pytest.raises(NotFound):
        await gateway.predictions.infer("default", "nothing", "", request())
    await gateway.predictions.report()
    assert gateway.announcer.told == []


async def test_what_cannot_be_told_waits_and_is_told_in_order_and_once(gateway: Gateway) -> None:
    await gateway.deploy(b"model a")
    gateway.announcer.told.clear()
    gateway.announcer.away = True
    for rows in (1, 2):
        await gateway.predictions.infer("default", "digits", "", request(rows))
        await gateway.predictions.report()
    assert gateway.announcer.told == []
    gateway.announcer.away = False
    await gateway.predictions.report()
    assert [event.rows for event in gateway.announcer.told] == [1, 2]


async def test_what_waits_to_be_told_is_bounded(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "UNTOLD_MAX", 3)
    await gateway.deploy(b"model a")
    gateway.announcer.told.clear()
    gateway.announcer.away = True
    for rows in range(1, 6):
        await gateway.predictions.infer("default", "digits", "", request(rows))
        await gateway.predictions.report()
    gateway.announcer.away = False
    await gateway.predictions.report()
    assert [event.rows for event in gateway.announcer.told] == [3, 4, 5]


async def test_reports_come_every_so_many_seconds(gateway: Gateway) -> None:
    await gateway.deploy(b"model a")
    gateway.announcer.told.clear()
    reporting = asyncio.create_task(gateway.predictions.keep_reporting(every_seconds=10))
    await gateway.predictions.infer("default", "digits", "", request())
    await gateway.clock.advance(9)
    assert gateway.announcer.told == []
    await gateway.clock.advance(1)
    assert len(gateway.announcer.told) == 1
    reporting.cancel()


class SlowLoader(FakeModelLoader):
    """Its models answer when the gate is open."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    async def load(self, path):
        gate = self.gate

        class Slow(FakeRunner):
            def compute(self, inputs, outputs, stop):
                while not gate.wait(0.001) and not stop.terminate:
                    pass
                return super().compute(inputs, outputs, stop)

        return Slow(Traits())


async def test_a_stop_lets_requests_at_work_finish_and_takes_no_more(gateways: Gateways) -> None:
    loader = SlowLoader()
    gateway = gateways.another(loader)
    await gateway.deploy(b"model a")
    at_work = asyncio.create_task(gateway.predictions.infer("default", "digits", "", request()))
    await asyncio.sleep(0)
    finishing = asyncio.create_task(gateway.predictions.finish(within_seconds=5))
    await asyncio.sleep(0)
    assert not gateway.predictions.ready
    with pytest.raises(Unavailable, match="the gateway is stopping"):
        await gateway.predictions.infer("default", "digits", "", request())
    assert not finishing.done()
    loader.gate.set()
    await finishing
    assert (await at_work).version == 1
    gateway.predictions.close()


async def test_a_stop_does_not_wait_longer_than_it_may(gateways: Gateways) -> None:
    gateway = gateways.another(SlowLoader())
    await gateway.deploy(b"model a")
    at_work = asyncio.create_task(gateway.predictions.infer("default", "digits", "", request()))
    await asyncio.sleep(0)
    await gateway.predictions.finish(within_seconds=0.01)
    assert not at_work.done()
    gateway.predictions.close()
    with pytest.raises(Unavailable, match="the gateway stopped"):
        await at_work


async def test_a_newer_version_takes_over_while_requests_of_the_older_one_are_answered_by_it(
    gateways: Gateways,
) -> None:
    loader = SlowLoader()
    gateway = gateways.another(loader)
    await gateway.deploy(b"model a")
    before = [asyncio.create_task(gateway.predictions.infer("default", "digits", "", request())) for _ in range(5)]
    await asyncio.sleep(0)
    await gateway.deploy(b"model b")
    after = [asyncio.create_task(gateway.predictions.infer("default", "digits", "", request())) for _ in range(5)]
    await asyncio.sleep(0)
    loader.gate.set()
    assert [answer.version for answer in await asyncio.gather(*before, *after)] == [1] * 5 + [2] * 5
    gateway.predictions.close()


async def test_a_model_that_was_removed_is_let_go_of(gateway: Gateway) -> None:
    await gateway.deploy(b"model a")
    await gateway.predictions.infer("default", "digits", "", request())
    gone = weakref.ref(gateway.catalogue.find("default", "digits").runner)
    await gateway.models.remove("default", "digits")
    await gateway.predictions.report()
    await gateway.predictions.report()
    gc.collect()
    assert gone() is None


async def test_statistics_tell_requests_runs_and_batches_of_a_version(gateway: Gateway) -> None:
    await gateway.deploy(b"model a")
    await asyncio.gather(*(gateway.predictions.infer("default", "digits", "", request(rows)) for rows in (1, 2)))
    with pytest.raises(Refused):
        await gateway.predictions.infer("default", "digits", "", request(1, "nothing"))
    told = gateway.predictions.statistics("default", "digits")
    assert (told.version, told.inferences, told.executions) == (1, 3, 1)
    assert (told.success.count, told.fail.count, told.queue.count, told.compute_infer.count) == (2, 1, 2, 2)
    assert {rows: spent.count for rows, spent in told.batches.items()} == {3: 1}
    assert told.last_inference_ms == int(gateway.clock.now().timestamp() * 1000)
    with pytest.raises(NotFound):
        gateway.predictions.statistics("default", "nothing")


async def test_prometheus_reads_the_counts_of_versions_that_are_served_and_forgets_others(gateway: Gateway) -> None:
    await gateway.deploy(b"model a", tenant="scraped")
    await asyncio.gather(*(gateway.predictions.infer("scraped", "digits", "", request(rows)) for rows in (1, 2)))
    labels = {"tenant": "scraped", "model": "digits", "version": "1"}

    def value(name: str, **more: str) -> float | None:
        return REGISTRY.get_sample_value(f"ergonaut_inference_{name}", labels | more)

    assert (value("requests_total"), value("failures_total"), value("seconds_count")) == (2, 0, 2)
    assert (value("batch_rows_bucket", le="2.0"), value("batch_rows_bucket", le="4.0")) == (0, 1)
    assert (value("batch_rows_sum"), value("queue"), value("in_flight")) == (3, 0, 0)
    assert value("seconds_bucket", le="10.0") == 2
    await gateway.models.remove("scraped", "digits")
    await gateway.predictions.report()
    assert value("requests_total") == 2
    await gateway.predictions.report()
    assert value("requests_total") is None


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=200), st.sampled_from([0.5, 0.99]))
def test_a_percentile_is_within_two_percent_of_a_latency_that_was(latencies: list[float], quantile: float) -> None:
    from datetime import UTC, datetime

    tally = Tally(datetime(2026, 1, 1, tzinfo=UTC))
    for latency in latencies:
        tally.add(latency_ms=latency, rows=1, failed=False)
    exact = float(np.quantile(latencies, quantile, method="inverted_cdf"))
    assert tally.latency_ms(quantile) == pytest.approx(exact, rel=0.021)


@given(st.floats(0, 1e12))
def test_no_latency_breaks_a_tally(latency: float) -> None:
    from datetime import UTC, datetime

    tally = Tally(datetime(2026, 1, 1, tzinfo=UTC))
    tally.add(latency_ms=latency, rows=0, failed=True)
    assert tally.latency_ms(0.99) > 0


async def test_a_submitted_request_is_answered_once_by_calling_back(gateway: Gateway) -> None:
    await gateway.deploy(b"model a")
    answers: list[object] = []
    ticket = gateway.predictions.submit(Wish("default", "digits"), request(2), answers.append)
    missing = gateway.predictions.submit(Wish("default", "nothing"), request(2), answers.append)
    late = gateway.predictions.submit(Wish("default", "digits", deadline_seconds=-1), request(2), answers.append)
    async with asyncio.timeout(30):
        while not (ticket.over and missing.over and late.over):
            await asyncio.sleep(0)
    ticket.cancel()
    kinds = sorted(type(answer).__name__ for answer in answers)
    assert kinds == ["DeadlineExceeded", "InferenceAnswer", "NotFound"]


async def test_a_cancelled_request_is_answered_with_that_at_once(gateway: Gateway) -> None:
    await gateway.deploy(b"model a")
    answers: list[object] = []
    gateway.predictions.submit(Wish("default", "digits"), request(2), answers.append).cancel()
    assert [type(answer) for answer in answers] == [asyncio.CancelledError]
