"""The gRPC door in process, on a free port, with keys."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from ergonaut.api.pricing.v1 import pricing_pb2 as pb
from ergonaut.api.pricing.v1 import pricing_pb2_grpc as pb_grpc
from ergonaut_common.auth import KeyRing
from ergonaut_common.rpc import for_tenant, serving
from ergonaut_common.testing import key_ring_file
from ergonaut_pricing.domain import Host
from ergonaut_pricing.rpc import SERVICE_NAME, door


class Caller:
    """A stub and the metadata to call it with."""

    def __init__(self, stub: Any, keys: dict[str, str]) -> None:
        self.stub = stub
        self._keys = keys

    def as_(self, who: str, tenant: str = "") -> list[tuple[str, str]]:
        acting = list(for_tenant(tenant)) if tenant else []
        return [("authorization", f"Bearer {self._keys[who]}"), *acting]


@pytest.fixture
async def call(world: Any, desk: Host, tmp_path: Path) -> AsyncIterator[Caller]:
    await world.pricing.host_reported(desk)
    path, keys = key_ring_file(tmp_path, ("default", "other"))
    async with (
        serving(
            "127.0.0.1:0", service="pricing", add=door(world.pricing), keys=KeyRing.load(path), names=[SERVICE_NAME]
        ) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        yield Caller(pb_grpc.PricingServiceStub(channel), keys)


async def test_offers_are_listed_cheapest_first_with_all_their_fields(call: Caller) -> None:
    response = await call.stub.ListOffers(pb.ListOffersRequest(), metadata=call.as_("default"))
    assert [offer.offer_id for offer in response.offers] == [
        "local/desk/machine/free",
        "aws/eu-north-1/m7i.2xlarge/spot",
        "aws/eu-north-1/m7i.2xlarge/on-demand",
    ]
    local, spot, _ = response.offers
    assert (local.market, local.electricity_microusd_per_kwh, local.price_microusd_per_hour) == (
        pb.MARKET_FREE,
        200_000,
        0,
    )
    assert (local.power_watts_expected, local.pue, local.zone) == (24, 1.0, "SE")
    assert (spot.market, spot.price_microusd_per_hour, spot.billing_increment_seconds) == (pb.MARKET_SPOT, 100_000, 60)
    assert (spot.vcpus, spot.memory_gib, spot.pue) == (8, 32, 1.2)
    assert spot.noted_at.ToJsonString() == "2026-01-01T00:00:00Z"
    assert spot.source == "https://example.com/prices"


async def test_a_tenants_machine_is_not_shown_to_another_and_a_service_sees_for_whom_it_acts(call: Caller) -> None:
    request = pb.ListOffersRequest(providers=["local"])
    other = await call.stub.ListOffers(request, metadata=call.as_("other"))
    acting = await call.stub.ListOffers(request, metadata=call.as_("service", tenant="default"))
    assert (len(other.offers), len(acting.offers)) == (0, 1)


async def test_a_call_without_a_key_is_not_let_in(call: Caller) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call.stub.ListOffers(pb.ListOffersRequest())
    assert error.value.code() == grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.ListOffersRequest(providers=["acme"]), "providers"),
        (pb.ListOffersRequest(vcpus_min=-1), "vcpus_min"),
        (pb.ListOffersRequest(memory_gib_min=float("nan")), "memory_gib_min"),
        (pb.ForecastIntensityRequest(zone="SE", hours=169), "hours"),
        (pb.ForecastIntensityRequest(zone="x" * 1000), "zone"),
        (pb.ForecastIntensityRequest(zone="SE", starts_at=Timestamp(seconds=2**62)), "starts_at"),
    ],
)
async def test_bad_input_is_refused_by_its_field(call: Caller, request_: Any, field: str) -> None:
    method = call.stub.ListOffers if isinstance(request_, pb.ListOffersRequest) else call.stub.ForecastIntensity
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await method(request_, metadata=call.as_("default"))
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert (error.value.details() or "").startswith(f"{field}: ")


async def test_a_forecast_without_hours_is_a_day_from_now(call: Caller, world: Any) -> None:
    response = await call.stub.ForecastIntensity(pb.ForecastIntensityRequest(zone="SE"), metadata=call.as_("default"))
    assert len(response.hours) == 24
    assert response.hours[0].starts_at.ToJsonString() == "2026-03-02T10:00:00Z"
    assert {hour.kind for hour in response.hours} == {pb.INTENSITY_KIND_TYPICAL}
    assert response.hours[0].intensity_grams_per_kwh == 20
    assert response.hours[0].range_fraction == pytest.approx(0.35)
    assert "https://example.com/se (2023, life-cycle, CC BY 4.0)" in response.source
    assert response.issued_at.ToJsonString() == "2026-03-02T10:20:00Z"


async def test_a_forecast_of_an_unknown_zone_is_the_worlds_average_flagged(call: Caller) -> None:
    request = pb.ForecastIntensityRequest(zone="", hours=1, starts_at=Timestamp(seconds=1_800_000_000))
    response = await call.stub.ForecastIntensity(request, metadata=call.as_("default"))
    (hour,) = response.hours
    assert (hour.kind, hour.intensity_grams_per_kwh) == (pb.INTENSITY_KIND_WORLD_AVERAGE, 475)


async def test_a_watch_begins_with_every_offer_of_the_provider(call: Caller) -> None:
    stream = call.stub.WatchOffers(pb.WatchOffersRequest(providers=["aws"]), metadata=call.as_("default"))
    first, second = await stream.read(), await stream.read()
    stream.cancel()
    assert {first.offer.market, second.offer.market} == {pb.MARKET_SPOT, pb.MARKET_ON_DEMAND}
