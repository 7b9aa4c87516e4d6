"""What served models were asked and used: kept once, told to their tenant alone, and gone when it is to go."""

import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio
from pyarrow import parquet

from ergonaut.api.ledger.v1 import models_pb2 as pb
from ergonaut.api.ledger.v1.models_pb2_grpc import ModelBookServiceStub
from ergonaut.errors import Refused
from ergonaut.events import InferenceServed, RequestsLogged
from ergonaut.events.quality import LoggedRequest, LoggedTensor
from ergonaut_common.auth import KeyRing
from ergonaut_common.clock import FakeClock
from ergonaut_common.rpc import serving
from ergonaut_common.testing import key_ring_file
from ergonaut_ledger.adapters import exports
from ergonaut_ledger.adapters.clickhouse import ClickHouseStore
from ergonaut_ledger.adapters.exports import ClickHouseExportBooks
from ergonaut_ledger.adapters.model_books import ClickHouseModelBooks
from ergonaut_ledger.domain import served
from ergonaut_ledger.domain.bounds import EARLIEST, LATEST
from ergonaut_ledger.domain.exporting import Export, check
from ergonaut_ledger.domain.served import Place, RequestsQuestion
from ergonaut_ledger.domain.usage import Span
from ergonaut_ledger.fakes.analysis import FakeAnalysisBooks
from ergonaut_ledger.fakes.served import FakeModelBooks
from ergonaut_ledger.fakes.store import FakeStore
from ergonaut_ledger.ports import Store
from ergonaut_ledger.ports.served import ModelBooks
from ergonaut_ledger.rpc import model_book_door
from ergonaut_ledger.service.analysing import Analysing
from ergonaut_ledger.service.exporting import Exporting
from ergonaut_ledger.service.serving_models import ServingModels

from .told import RUN, T0, batch, batch_of, cpu_sample, message, reading, started

DAY = Span(T0 - timedelta(hours=12), T0 + timedelta(hours=12))


@pytest.fixture
def books(store: Store) -> ModelBooks:
    if isinstance(store, FakeStore):
        return FakeModelBooks(store)
    assert isinstance(store, ClickHouseStore)
    return ClickHouseModelBooks(store.engine, query_seconds=60)


@pytest.fixture
def told_of(books: ModelBooks) -> ServingModels:
    return ServingModels(books, FakeClock(T0), requests_days=30)


def logged(tenant: str, number: int, count: int = 2, *, model: str = "digits", version: int = 1) -> RequestsLogged:
    at = T0 + timedelta(minutes=number)
    requests = tuple(
        LoggedRequest(
            request_id=f"r-{number}-{place}",
            answered_at=at + timedelta(seconds=place),
            latency_ms=1.5,
            inputs=(LoggedTensor(name="x", datatype="FP32", shape=(1, 2), values=(1.5, None)),),
            outputs=(LoggedTensor(name="y", datatype="BYTES", shape=(1,), redaction="dropped"),),
        )
        for place in range(count)
    )
    return RequestsLogged(
        tenant=tenant,
        event_id=f"event-logged-{model}-{number}",
        occurred_at=at,
        model=model,
        version=version,
        rate=0.5,
        requests=requests,
    )


def report(tenant: str, number: int, **changes: Any) -> InferenceServed:
    values: dict[str, Any] = {
        "tenant": tenant,
        "event_id": f"event-served-{number}",
        "occurred_at": T0 + timedelta(seconds=10 * number),
        "model": "digits",
        "version": 1,
        "started_at": T0,
        "ended_at": T0 + timedelta(seconds=10),
        "requests": 10,
        "rows": 20,
        "failed": 1,
        "latency_ms_p50": 1.0,
        "latency_ms_p99": 2.0,
        "cpu_seconds": 0.5,
        "energy_joules": 2.0,
        "energy_joules_low": 1.5,
        "energy_joules_high": 2.5,
        "energy_method": "calibrated",
        "carbon_grams_co2e": 0.001,
    }
    return InferenceServed(**(values | changes))


def asking(tenant: str, **changes: Any) -> RequestsQuestion:
    values: dict[str, Any] = {
        "tenant": tenant,
        "model": "digits",
        "version": 0,
        "since": EARLIEST,
        "until": LATEST,
        "limit": 10,
    }
    return RequestsQuestion(**(values | changes))


async def test_logged_requests_are_told_the_newest_first_with_their_redaction(
    store: Store, told_of: ServingModels, tenant: str
) -> None:
    await store.keep(batch_of(logged(tenant, 1), logged(tenant, 2)))

    page = await told_of.requests(asking(tenant))

    assert [each.request_id for each in page.requests] == ["r-2-1", "r-2-0", "r-1-1", "r-1-0"]
    newest = page.requests[0]
    assert (newest.version, newest.rate, newest.latency_ms) == (1, 0.5, 1.5)
    assert newest.answered_at == T0 + timedelta(minutes=2, seconds=1)
    assert json.loads(newest.inputs)[0]["values"] == [1.5, None]
    assert json.loads(newest.outputs)[0]["redaction"] == "dropped"
    assert page.next is None


async def test_a_message_that_comes_again_changes_nothing(store: Store, told_of: ServingModels, tenant: str) -> None:
    for sequence in (5, 3, 9):
        await store.keep(batch(message(logged(tenant, 1), sequence)))

    assert len((await told_of.requests(asking(tenant))).requests) == 2


async def test_pages_go_on_where_the_one_before_ended(store: Store, told_of: ServingModels, tenant: str) -> None:
    await store.keep(batch_of(*(logged(tenant, number) for number in range(5))))
    found: list[str] = []
    after: Place | None = None
    while True:
        page = await told_of.requests(asking(tenant, limit=3, after=after))
        found += [each.request_id for each in page.requests]
        if page.next is None:
            break
        after = Place.of(page.next.token())

    assert found == [f"r-{number}-{place}" for number in (4, 3, 2, 1, 0) for place in (1, 0)]


async def test_a_page_of_large_requests_is_cut_before_it_is_too_large_to_be_sent(
    store: Store, told_of: ServingModels, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "PAGE_BYTES_MAX", 700)
    await store.keep(batch_of(logged(tenant, 1, 5)))

    page = await told_of.requests(asking(tenant))

    assert 0 < len(page.requests) < 5
    assert page.next is not None


async def test_questions_are_narrowed_by_version_model_and_time(
    store: Store, told_of: ServingModels, tenant: str
) -> None:
    await store.keep(
        batch_of(logged(tenant, 1), logged(tenant, 2, version=2), logged(tenant, 3, model="other"), logged("else", 4))
    )

    async def ids(**changes: Any) -> list[str]:
        return [each.request_id for each in (await told_of.requests(asking(tenant, **changes))).requests]

    assert await ids(version=2) == ["r-2-1", "r-2-0"]
    assert await ids(model="other") == ["r-3-1", "r-3-0"]
    assert await ids(since=T0 + timedelta(minutes=2)) == ["r-2-1", "r-2-0"]
    assert await ids(until=T0 + timedelta(minutes=1, seconds=1)) == ["r-1-0"]


async def test_what_is_forgotten_is_gone_and_all_else_stays(store: Store, told_of: ServingModels, tenant: str) -> None:
    neighbour = f"{tenant}-neighbour"
    await store.keep(
        batch_of(logged(tenant, 1), logged(tenant, 2), logged(tenant, 3, model="other"), logged(neighbour, 4))
    )

    await told_of.forget(tenant, "digits", T0 + timedelta(minutes=2))

    assert len((await told_of.requests(asking(tenant))).requests) == 2
    assert len((await told_of.requests(asking(tenant, model="other"))).requests) == 2
    assert len((await told_of.requests(asking(neighbour))).requests) == 2


async def test_days_go_when_they_have_reached_their_age_and_no_sooner(
    store: Store, books: ModelBooks, tenant: str
) -> None:
    day = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
    event = logged(tenant, 1)
    request = event.requests[0].model_copy(update={"answered_at": day})
    await store.keep(batch_of(event.model_copy(update={"requests": (request,)})))

    await ServingModels(books, FakeClock(day + timedelta(days=2)), requests_days=2).let_go()
    before = await books.requests(asking(tenant))
    await ServingModels(books, FakeClock(day + timedelta(days=3)), requests_days=2).let_go()
    after = await books.requests(asking(tenant))

    assert (len(before), len(after)) == (1, 0)


async def test_what_was_asked_is_in_no_event_that_is_listed(store: Store, tenant: str) -> None:
    await store.keep(batch_of(logged(tenant, 1)))

    [event] = await store.events([tenant], "inference", "", 10)

    assert json.loads(event.body)["requests_kept_in"] == "model_requests"
    assert "1.5" not in event.body


async def test_a_models_footprint_is_the_sum_of_its_reports(store: Store, told_of: ServingModels, tenant: str) -> None:
    again = message(report(tenant, 1), 9)
    await store.keep(batch_of(report(tenant, 1), report(tenant, 2), report(tenant, 3, version=2)))
    await store.keep(batch(again))

    first, second = await told_of.footprints(tenant, "digits", DAY)

    assert (first.version, first.requests, first.predictions, first.failed) == (1, 20, 40, 2)
    assert (first.energy_joules, first.energy_joules_low, first.energy_joules_high) == (4.0, 3.0, 5.0)
    assert first.cpu_seconds == 1.0
    assert first.carbon_grams_co2e == pytest.approx(0.002)
    assert first.cost_usd is None
    assert first.methods == ("calibrated",)
    assert second.version == 2


async def test_what_was_not_measured_is_left_out_and_never_zero(
    store: Store, told_of: ServingModels, tenant: str
) -> None:
    unknown = {"energy_joules": None, "energy_joules_low": None, "energy_joules_high": None, "carbon_grams_co2e": None}
    without = report(tenant, 1, **unknown, energy_method="not-measured")
    old = report(tenant, 3, **unknown, energy_method="", cpu_seconds=None, model="old")
    await store.keep(batch_of(without, report(tenant, 2), old))

    digits, unmeasured = await told_of.footprints(tenant, "", DAY)

    assert (digits.predictions, digits.predictions_measured, digits.energy_joules) == (40, 20, 2.0)
    assert digits.methods == ("calibrated", "not-measured")
    assert (unmeasured.energy_joules, unmeasured.methods, unmeasured.cpu_seconds) == (None, (), 0.0)


@pytest.mark.parametrize(
    "token", ["x", "1577836800000000.2", "1.x.event", "-1.0.event", "99999999999999999.0.event", "1.1." + "e" * 300]
)
def test_a_token_that_no_page_told_is_refused(token: str) -> None:
    if token.endswith("0.2"):
        assert Place.of(token).event_id == ""
        return
    with pytest.raises(Refused, match="page_token"):
        Place.of(token)


async def test_logged_requests_are_exported_each_once_in_slices(
    store: Store, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not isinstance(store, ClickHouseStore):
        return
    monkeypatch.setattr(exports, "REQUEST_ROWS", 3)
    await store.keep(batch_of(*(logged(tenant, number) for number in range(4)), logged(tenant, 9, model="other")))
    await store.keep(batch_of(logged(tenant, 1), first=50))
    exporting = Exporting(ClickHouseExportBooks(store.engine, seconds=60))

    whole = b"".join([piece async for piece in exporting.file(Export(tenant, "requests", DAY))])

    rows = parquet.read_table(io.BytesIO(whole)).to_pylist()
    assert [row["request_id"] for row in rows if row["model"] == "digits"] == [
        f"r-{number}-{place}" for number in range(4) for place in (0, 1)
    ]
    assert json.loads(rows[0]["inputs"])[0]["name"] == "x"
    assert len(rows) == 10


@pytest.mark.parametrize("wrong", [{"anonymous": True}, {"run_id": "run-1"}])
def test_an_export_of_requests_is_refused_where_it_would_promise_too_much(wrong: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        check(Export("default", "requests", DAY, **wrong))


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[tuple[int, dict[str, str], FakeStore]]:
    store = FakeStore()
    path, keys = key_ring_file(tmp_path, ("default", "other"))
    told = ServingModels(FakeModelBooks(store), FakeClock(T0), requests_days=30)
    async with serving(
        "127.0.0.1:0", service="ledger", add=model_book_door(told), keys=KeyRing.load(path), names=()
    ) as opened:
        yield opened.port, keys, store


def stub_of(channel: aio.Channel) -> ModelBookServiceStub:
    return ModelBookServiceStub(channel)  # type: ignore[no-untyped-call]


async def test_the_door_tells_a_tenant_its_own_and_no_other(door: tuple[int, dict[str, str], FakeStore]) -> None:
    port, keys, store = door
    await store.keep(batch_of(logged("default", 1), report("default", 2)))
    asked = pb.ListModelFootprintsRequest()
    asked.starts_at.FromDatetime(DAY.starts_at)
    asked.ends_at.FromDatetime(DAY.ends_at)
    counts = {}
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for tenant in ("default", "other"):
            key = keys[tenant]
            metadata = (("authorization", f"Bearer {key}"),)
            requests = await stub_of(channel).ListModelRequests(
                pb.ListModelRequestsRequest(model="digits"), metadata=metadata
            )
            footprints = await stub_of(channel).ListModelFootprints(asked, metadata=metadata)
            counts[tenant] = (len(requests.requests), len(footprints.footprints))

    assert counts == {"default": (2, 1), "other": (0, 0)}


async def test_whoever_has_no_key_or_another_tenants_cannot_forget(door: tuple[int, dict[str, str], FakeStore]) -> None:
    port, keys, store = door
    await store.keep(batch_of(logged("default", 1)))
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub_of(channel).ForgetModelRequests(pb.ForgetModelRequestsRequest(model="digits"))
        forget = pb.ForgetModelRequestsRequest(model="digits")
        await stub_of(channel).ForgetModelRequests(forget, metadata=(("authorization", f"Bearer {keys['other']}"),))
        assert len(store.requests) == 2
        await stub_of(channel).ForgetModelRequests(forget, metadata=(("authorization", f"Bearer {keys['default']}"),))

    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert not store.requests


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.ListModelRequestsRequest(model=""), "model"),
        (pb.ListModelRequestsRequest(model="digits", limit=5000), "limit"),
        (pb.ListModelRequestsRequest(model="digits", page_token="?"), "page_token"),
    ],
)
async def test_what_is_wrong_is_told_with_its_field(
    door: tuple[int, dict[str, str], FakeStore], request_: pb.ListModelRequestsRequest, field: str
) -> None:
    port, keys, _ = door
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub_of(channel).ListModelRequests(
                request_, metadata=(("authorization", f"Bearer {keys['default']}"),)
            )

    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert field in (refused.value.details() or "")


async def test_a_run_that_meters_the_gateway_is_told_by_model_too(tenant: str) -> None:
    store = FakeStore()
    stay = started(tenant, name="gateway")
    unknown = {"energy_joules": None, "energy_joules_low": None, "energy_joules_high": None, "carbon_grams_co2e": None}
    await store.keep(
        batch_of(
            stay,
            reading(tenant, 1, cpu_sample(1, 50.0)),
            report(tenant, 1),
            report(tenant, 2, model="other", **unknown, energy_method="not-measured"),
        )
    )
    clock = FakeClock(T0 + timedelta(hours=1))
    analysing = Analysing(store, FakeAnalysisBooks(store), clock, FakeModelBooks(store))

    units = {each.unit: each for each in (await analysing.efficiency(tenant, RUN)).units}

    [digits] = [each for name, each in units.items() if name.startswith("predictions of")]
    assert (digits.unit, digits.count, digits.energy_joules) == ("predictions of digits 1", 20.0, 0.1)
    assert digits.range_fraction == pytest.approx(0.25)
    assert units["predictions"].count == 40.0
