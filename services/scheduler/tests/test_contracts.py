"""The same promises, kept by the fakes and by the adapters on a real NATS and a real gRPC door."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from nats.js.kv import KeyValue

from ergonaut.api.pricing.v1 import pricing_pb2 as pb
from ergonaut.api.pricing.v1 import pricing_pb2_grpc as pb_grpc
from ergonaut.errors import Broken, NotFound, Unavailable
from ergonaut.events import JobCancelled, subject_of
from ergonaut.jobs import Candidate, JobSpec, JobState, Plan, source_digest
from ergonaut_common.auth import KeyRing
from ergonaut_common.bus import Bus, open_bus
from ergonaut_common.rpc import caller, channel, serving
from ergonaut_common.settings import PlatformSettings
from ergonaut_common.testing import free_port, key_ring_file, nats_server
from ergonaut_scheduler.adapters.announcer import BusAnnouncer
from ergonaut_scheduler.adapters.artifacts import ObjectArtifactStore
from ergonaut_scheduler.adapters.job_book import BUCKET, KeyValueJobBook
from ergonaut_scheduler.adapters.pricing import PricingIntensityForecast, PricingOfferBook
from ergonaut_scheduler.adapters.sources import ObjectSourceStore
from ergonaut_scheduler.domain import Forecast, JobRecord, Offer
from ergonaut_scheduler.fakes import (
    FakeAnnouncer,
    FakeArtifactStore,
    FakeIntensityForecast,
    FakeJobBook,
    FakeOfferBook,
    FakeSourceStore,
)
from ergonaut_scheduler.ports import (
    Announcer,
    ArtifactStore,
    IntensityForecast,
    JobBook,
    OfferBook,
    SourceStore,
    Stored,
)

NOW = datetime(2026, 3, 2, 10, 20, tzinfo=UTC)
HOUR = NOW.replace(minute=0)
SPEC = JobSpec(name="digits", command=("true",), duration_seconds_expected=1, deadline=NOW, environment={"A": "1"})
CHOICE = Candidate(
    offer_id="local/desk/machine/free", provider="local", region="desk", machine_type="machine", starts_at=NOW,
    ends_at=NOW + timedelta(seconds=1), cost_usd_expected=0.1, energy_joules_expected=2, carbon_grams_co2e_expected=0.3,
)  # fmt: skip
RECORD = JobRecord(
    "default", "job-1", "job/default/job-1", SPEC, submitted_at=NOW, changed_at=NOW, state=JobState.PLACED,
    plan=Plan(chosen=CHOICE, alternatives=(CHOICE,), weighed=7), planned_attempt=1, runs_over=("run-1",),
    progressed_at=NOW, metrics={"loss": 0.5}, exit_code=3,
)  # fmt: skip
OFFERS = (
    Offer("aws/se/m7i/spot", "aws", "se", "SE", "m7i", 8, 32, 60, "H100-80GB", 2, 400_000, 0, 1.2, 60),
    Offer("local/desk/machine/free", "local", "desk", "", "machine", 4, 16, 80, electricity_microusd_per_kwh=300_000),
)


@pytest.fixture(params=["fake", "real"])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Bus | None]:
    """A real bus, or none where the fake is under test."""
    if request.param == "fake":
        yield None
        return
    async with open_bus(PlatformSettings(nats_url=request.getfixturevalue("nats_url")), "scheduler") as opened:
        await opened.ensure_streams("jobs")
        yield opened


@pytest.fixture
async def book(bus: Bus | None) -> JobBook:
    return KeyValueJobBook(await bus.key_value(BUCKET)) if bus else FakeJobBook()


@pytest.fixture
def sources(bus: Bus | None) -> SourceStore:
    return ObjectSourceStore(bus) if bus else FakeSourceStore()


@pytest.fixture(params=["fake", "real"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_a_record_is_found_as_it_was_added(book: JobBook) -> None:
    assert await book.find("default", "job-1") is None
    assert await book.add(RECORD)
    stored = await book.find("default", "job-1")
    assert stored is not None
    assert stored.record == RECORD


async def test_a_record_is_added_once(book: JobBook) -> None:
    assert await book.add(RECORD)
    assert not await book.add(replace(RECORD, phase="other"))
    stored = await book.find("default", "job-1")
    assert stored is not None
    assert stored.record == RECORD


async def test_a_change_succeeds_only_on_the_newest_revision(book: JobBook) -> None:
    await book.add(RECORD)
    first = await book.find("default", "job-1")
    assert first is not None
    assert await book.replace(Stored(replace(RECORD, phase="one"), first.revision))
    assert not await book.replace(Stored(replace(RECORD, phase="two"), first.revision))
    newest = await book.find("default", "job-1")
    assert newest is not None
    assert newest.record.phase == "one"


async def test_a_record_that_has_changed_is_not_removed_and_an_unchanged_one_is(book: JobBook) -> None:
    await book.add(RECORD)
    first = await book.find("default", "job-1")
    assert first is not None
    await book.replace(Stored(replace(RECORD, phase="one"), first.revision))
    await book.remove(first)
    newest = await book.find("default", "job-1")
    assert newest is not None
    await book.remove(newest)
    assert await book.find("default", "job-1") is None
    assert await book.everything() == []
    assert await book.add(RECORD)


async def test_a_listing_holds_one_tenant_s_jobs_or_all(book: JobBook) -> None:
    assert await book.of_tenant("default") == []
    for tenant, job_id in (("default", "job-1"), ("default", "job-2"), ("other", "job-1")):
        await book.add(replace(RECORD, tenant=tenant, job_id=job_id))
    assert {record.job_id for record in await book.of_tenant("default")} == {"job-1", "job-2"}
    everything = {(stored.record.tenant, stored.record.job_id) for stored in await book.everything()}
    assert everything == {("default", "job-1"), ("default", "job-2"), ("other", "job-1")}


async def test_a_watch_tells_the_record_at_once_and_after_each_change(book: JobBook) -> None:
    await book.add(RECORD)
    async with aclosing(book.watch("default", "job-1")) as watch:
        assert await anext(watch) == RECORD
        waiting = asyncio.ensure_future(anext(watch))
        await book.add(replace(RECORD, job_id="job-2"))
        stored = await book.find("default", "job-1")
        assert stored is not None
        changed = replace(RECORD, phase="train")
        await book.replace(Stored(changed, stored.revision))
        assert await asyncio.wait_for(waiting, 10) == changed


async def test_a_damaged_record_hides_no_other(nats_url: str) -> None:
    async with open_bus(PlatformSettings(nats_url=nats_url), "scheduler") as bus:
        bucket = await bus.key_value(BUCKET)
        book = KeyValueJobBook(bucket)
        await bucket.put("default.job-0", b"{}")
        await book.add(RECORD)
        assert list(await book.of_tenant("default")) == [RECORD]
        with pytest.raises(Broken, match=r"default\.job-0"):
            await book.find("default", "job-0")


async def test_a_watch_of_a_quiet_job_looks_for_itself_at_leisure(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ergonaut_scheduler.adapters.job_book.WATCH_LOOK_SECONDS", 0.2)
    async with open_bus(PlatformSettings(nats_url=nats_url), "scheduler") as bus:
        bucket = await bus.key_value(BUCKET)
        book = KeyValueJobBook(bucket)
        await book.add(RECORD)
        looks = 0

        async def watch(*args: Any, **options: Any) -> KeyValue.KeyWatcher:
            nonlocal looks
            looks += 1
            return await KeyValue.watch(bucket, *args, **options)

        monkeypatch.setattr(bucket, "watch", watch)
        async with aclosing(book.watch("default", "job-1")) as records:
            assert await anext(records) == RECORD
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(records), 1)
    assert 2 <= looks <= 7


async def test_a_watch_goes_on_when_nats_was_killed_and_started_again(tmp_path: Path) -> None:
    port = free_port()
    async with contextlib.AsyncExitStack() as stack:
        with nats_server(tmp_path, port) as url:
            bus = await stack.enter_async_context(open_bus(PlatformSettings(nats_url=url), "scheduler"))
            book = KeyValueJobBook(await bus.key_value(BUCKET))
            await book.add(RECORD)
            watch = await stack.enter_async_context(aclosing(book.watch("default", "job-1")))
            assert await anext(watch) == RECORD
            waiting = asyncio.ensure_future(anext(watch))
            await asyncio.sleep(0)
        with nats_server(tmp_path, port):
            stored = await book.find("default", "job-1")
            assert stored is not None
            await book.replace(Stored(replace(RECORD, phase="train"), stored.revision))
            assert (await asyncio.wait_for(waiting, 30)).phase == "train"


async def test_sources_are_kept_once_and_apart(sources: SourceStore) -> None:
    packed = b"\x1f\x8b" + bytes(300_000)
    source = source_digest(packed)
    assert not await sources.has("default", source)
    await sources.keep("default", source, packed)
    await sources.keep("default", source, packed)
    assert await sources.has("default", source)
    assert not await sources.has("other", source)


@pytest.mark.parametrize("size", [0, 5, 2_500_000])
async def test_a_file_that_was_kept_comes_whole_in_small_pieces(bus: Bus | None, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    store: ArtifactStore
    if bus is None:
        store = FakeArtifactStore()
        store.files["default", "run-1/deep/model.onnx"] = content
    else:
        store = ObjectArtifactStore(bus)
        await (await bus.object_store("artifacts-default")).put("run-1/deep/model.onnx", content)
    pieces = [piece async for piece in store.pieces("default", "run-1/deep/model.onnx")]
    assert b"".join(pieces) == content
    assert all(len(piece) <= 1024 * 1024 for piece in pieces)
    for tenant, name in (("other", "run-1/deep/model.onnx"), ("default", "run-1/other")):
        with pytest.raises(NotFound):
            await anext(store.pieces(tenant, name))


async def test_a_fact_told_twice_is_told_once(bus: Bus | None) -> None:
    event = JobCancelled(event_id="event-1", tenant="default", job_id="job-1", because="too dear")
    announcer: Announcer = BusAnnouncer(bus) if bus else FakeAnnouncer()
    await announcer.tell(event)
    await announcer.tell(event)
    if isinstance(announcer, FakeAnnouncer):
        assert list(announcer.told.values()) == [event]
        return
    assert bus is not None
    info = await bus.jetstream.stream_info("ERGONAUT_JOBS", subjects_filter=subject_of(JobCancelled.TYPE))
    assert info.state.subjects == {event.subject: 1}


class PricingDesk(pb_grpc.PricingServiceServicer):
    """Answers as the pricing service's contract says, from the offers above; the local one is the tenant's own."""

    async def ListOffers(self, request: pb.ListOffersRequest, context: Any) -> pb.ListOffersResponse:
        mine = OFFERS if caller().tenant == "default" else OFFERS[:1]
        return pb.ListOffersResponse(offers=[_message(offer) for offer in mine])

    async def WatchOffers(self, request: pb.WatchOffersRequest, context: Any) -> AsyncIterator[pb.WatchOffersResponse]:
        for offer in OFFERS:
            yield pb.WatchOffersResponse(offer=_message(offer))

    async def ForecastIntensity(self, request: pb.ForecastIntensityRequest, context: Any) -> Any:
        hours = [
            pb.HourIntensity(
                starts_at=HOUR + timedelta(hours=hour), intensity_grams_per_kwh=20.0 if request.zone == "SE" else 475.0
            )
            for hour in range(request.hours)
        ]
        return pb.ForecastIntensityResponse(zone=request.zone, hours=hours)


def _message(offer: Offer) -> pb.Offer:
    fields = {field: getattr(offer, field) for field in Offer.__dataclass_fields__}
    return pb.Offer(**fields)


@pytest.fixture
async def pricing(kind: str, tmp_path: Path) -> AsyncIterator[tuple[OfferBook, IntensityForecast]]:
    if kind == "fake":
        zones = {"SE": Forecast.of(HOUR, (20.0,) * 30)}
        yield (
            FakeOfferBook(OFFERS[:1], own={"default": OFFERS[1:]}),
            FakeIntensityForecast(Forecast.of(HOUR, (475.0,) * 30), zones),
        )
        return
    path, keys = key_ring_file(tmp_path)
    (tmp_path / "service.key").write_text(keys["service"])
    platform = PlatformSettings(service_key_file=tmp_path / "service.key")
    names = [pb.DESCRIPTOR.services_by_name["PricingService"].full_name]

    def add(server: Any) -> None:
        pb_grpc.add_PricingServiceServicer_to_server(PricingDesk(), server)

    async with (
        serving("127.0.0.1:0", service="pricing", add=add, keys=KeyRing.load(path), names=names) as server,
        channel(f"127.0.0.1:{server.port}", platform, service="scheduler") as opened,
    ):
        yield PricingOfferBook(opened), PricingIntensityForecast(opened)


async def test_offers_come_as_they_are_sold_with_the_tenant_s_own(pricing: tuple[OfferBook, IntensityForecast]) -> None:
    offers, _ = pricing
    assert tuple(await offers.newest("default")) == OFFERS
    assert tuple(await offers.newest("other")) == OFFERS[:1]


async def test_a_forecast_covers_the_hours_asked_for(pricing: tuple[OfferBook, IntensityForecast]) -> None:
    _, intensity = pricing
    clean, unknown = await intensity.of_zone("SE", 30), await intensity.of_zone("", 30)
    assert clean == Forecast.of(HOUR, (20.0,) * 30)
    assert unknown.grams_per_kwh[0] == 475.0


async def test_a_pricing_service_that_is_away_is_unavailable(kind: str) -> None:
    if kind == "fake":
        with pytest.raises(Unavailable):
            await FakeOfferBook(away=True).newest("default")
        return
    async with channel("127.0.0.1:1", PlatformSettings(), service="scheduler") as nowhere:
        with pytest.raises(Unavailable, match="asking the pricing service for offers"):
            await PricingOfferBook(nowhere).newest("default")
        with pytest.raises(Unavailable, match="the intensity of zone 'SE'"):
            await PricingIntensityForecast(nowhere).of_zone("SE", 24)
