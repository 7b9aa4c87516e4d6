"""A gRPC door as callers see it: keys, tenants, health, and errors in one clear sentence."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.api.vectors.v1 import vectors_pb2_grpc as pb_grpc
from ergonaut.errors import Broken, Conflict, ErgonautError, NotFound, Refused, Unavailable
from ergonaut_common.auth import KeyRing
from ergonaut_common.rpc import caller, channel, error_of, for_tenant, serving
from ergonaut_common.settings import PlatformSettings
from ergonaut_common.testing import key_ring_file

NAME = "ergonaut.api.vectors.v1.VectorsService"


class Door(pb_grpc.VectorsServiceServicer):
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    async def ListCollections(self, request, context):
        if self.error:
            raise self.error
        return pb.ListCollectionsResponse(collections=[pb.Collection(name=caller().tenant)])

    async def DropCollection(self, request, context):
        return pb.DropCollectionResponse()


@asynccontextmanager
async def stub(folder: Path, who: str, door: Door) -> AsyncIterator[pb_grpc.VectorsServiceStub]:
    path, keys = key_ring_file(folder, ("default", "other"))
    key_file = folder / "key"
    key_file.write_text(keys.get(who, who))
    platform = PlatformSettings(service_key_file=key_file)
    add = lambda server: pb_grpc.add_VectorsServiceServicer_to_server(door, server)
    async with (
        serving("127.0.0.1:0", service="test", add=add, keys=KeyRing.load(path), names=[NAME]) as server,
        channel(f"127.0.0.1:{server.port}", platform, service="test") as opened,
    ):
        yield pb_grpc.VectorsServiceStub(opened)


async def test_the_key_says_who_calls(tmp_path: Path) -> None:
    async with stub(tmp_path, "other", Door()) as calls:
        answer = await calls.ListCollections(pb.ListCollectionsRequest())
    assert answer.collections[0].name == "other"


async def test_a_service_acts_for_a_tenant_and_nobody_else_may(tmp_path: Path) -> None:
    async with stub(tmp_path, "service", Door()) as calls:
        answer = await calls.ListCollections(pb.ListCollectionsRequest(), metadata=for_tenant("default"))
        assert answer.collections[0].name == "default"
    async with stub(tmp_path, "other", Door()) as calls:
        with pytest.raises(grpc.RpcError) as refused:
            await calls.ListCollections(pb.ListCollectionsRequest(), metadata=for_tenant("default"))
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("key", ["", "ergo_unknown_key", "nonsense"])
async def test_a_caller_without_a_good_key_is_sent_away(tmp_path: Path, key: str) -> None:
    async with stub(tmp_path, key, Door()) as calls:
        with pytest.raises(grpc.RpcError) as refused:
            await calls.ListCollections(pb.ListCollectionsRequest())
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Refused("is wrong", field="limit"), grpc.StatusCode.INVALID_ARGUMENT),
        (NotFound("no such"), grpc.StatusCode.NOT_FOUND),
        (Conflict("is there"), grpc.StatusCode.ALREADY_EXISTS),
        (Unavailable("is away"), grpc.StatusCode.UNAVAILABLE),
        (Broken("a bug"), grpc.StatusCode.INTERNAL),
    ],
)
async def test_an_error_crosses_with_its_kind_and_words(tmp_path: Path, error: ErgonautError, code) -> None:
    async with stub(tmp_path, "default", Door(error)) as calls:
        with pytest.raises(grpc.RpcError) as failed:
            await calls.ListCollections(pb.ListCollectionsRequest())
    assert (failed.value.code(), failed.value.details()) == (code, str(error))
    assert type(error_of(failed.value, doing="listing")) is type(error)


async def test_the_words_of_an_unforeseen_error_stay_inside(tmp_path: Path) -> None:
    async with stub(tmp_path, "default", Door(RuntimeError("secret"))) as calls:
        with pytest.raises(grpc.RpcError) as failed:
            await calls.ListCollections(pb.ListCollectionsRequest())
    assert "secret" not in failed.value.details()


async def test_health_needs_no_key() -> None:
    add = lambda server: pb_grpc.add_VectorsServiceServicer_to_server(Door(), server)
    async with (
        serving("127.0.0.1:0", service="test", add=add, keys=KeyRing(), names=[NAME]) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as opened,
    ):
        answer = await health_pb2_grpc.HealthStub(opened).Check(health_pb2.HealthCheckRequest(service=NAME))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_watch_in_which_nothing_happens_outlasts_its_callers_pings() -> None:
    often = (("grpc.keepalive_time_ms", 1_100), ("grpc.http2.max_pings_without_data", 0))
    async with (
        serving("127.0.0.1:0", service="test", add=lambda _: None, keys=KeyRing([]), names=[NAME]) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=often) as opened,
    ):
        watch = health_pb2_grpc.HealthStub(opened).Watch(health_pb2.HealthCheckRequest(service=NAME))
        await watch.read()
        with pytest.raises(TimeoutError):
            # Three pings that come too often are what gRPC bears; here come six.
            await asyncio.wait_for(watch.read(), timeout=7)
