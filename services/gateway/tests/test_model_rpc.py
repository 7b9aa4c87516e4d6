"""ModelService in process, on a free port, with keys: versions, aliases, cards, files and signatures as callers meet them."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from ergonaut.api.inference.v1 import inference_pb2 as pb
from ergonaut.api.inference.v1.inference_pb2_grpc import ModelServiceStub
from ergonaut_common.auth import KeyRing
from ergonaut_common.rpc import serving
from ergonaut_common.testing import key_ring_file
from ergonaut_gateway.rpc import NAMES, door

from .conftest import Gateway, Gateways


class Calling:
    """A stub, and the metadata to call it with."""

    def __init__(self, channel: grpc.aio.Channel, keys: dict[str, str], gateway: Gateway) -> None:
        self.models = ModelServiceStub(channel)
        self._keys = keys
        self._gateway = gateway

    def as_(self, tenant: str = "default") -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self._keys[tenant]}")]

    def found(self, version: str = "") -> int:
        return self._gateway.catalogue.find("default", "digits", version).record.version

    async def deploy(self, content: bytes, **first: object) -> pb.Model:
        messages = [pb.DeployModelRequest(name="digits", **first), pb.DeployModelRequest(chunk=content)]
        return (await self.models.DeployModel(iter(messages), metadata=self.as_())).model


@pytest.fixture
async def call(gateways: Gateways, tmp_path: Path) -> AsyncIterator[Calling]:
    path, keys = key_ring_file(tmp_path, ("default", "other"))
    gateway = gateways.another()
    add = door(gateway.models, gateway.catalogue, gateway.predictions)
    async with (
        serving("127.0.0.1:0", service="gateway", add=add, keys=KeyRing.load(path), names=NAMES) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        yield Calling(channel, keys, gateway)


async def test_versions_are_listed_aliased_loaded_and_removed(call: Calling) -> None:
    lineage = pb.Lineage(energy_joules=12.5, energy_joules_range=0.5, framework="hand 1.0")
    await call.deploy(b"model a", lineage=lineage)
    await call.deploy(b"model b")

    async def versions() -> dict[int, tuple[str, list[str]]]:
        request = pb.ListModelVersionsRequest(name="digits")
        told = await call.models.ListModelVersions(request, metadata=call.as_())
        return {
            each.version: (pb.VersionState.Name(each.state)[14:].lower(), [*each.aliases]) for each in told.versions
        }

    assert await versions() == {1: ("unloaded", []), 2: ("ready", [])}
    naming = pb.SetModelAliasRequest(name="digits", alias="champion", version="1", expected_version=0)
    named = await call.models.SetModelAlias(naming, metadata=call.as_())
    assert (named.model.version, named.model.lineage, named.model.deployed_by) == (1, lineage, "user-of-default")
    assert await versions() == {1: ("ready", ["champion"]), 2: ("ready", [])}
    assert call.found() == 1
    with pytest.raises(grpc.aio.AioRpcError) as late:
        await call.models.SetModelAlias(naming, metadata=call.as_())
    assert late.value.code() == grpc.StatusCode.ALREADY_EXISTS
    assert late.value.details() == "alias champion of model digits names version 1, and was expected to name nothing"
    await call.models.UnloadModel(pb.UnloadModelRequest(name="digits", version="2"), metadata=call.as_())
    assert await versions() == {1: ("ready", ["champion"]), 2: ("unloaded", [])}
    await call.models.LoadModel(pb.LoadModelRequest(name="digits", version="2"), metadata=call.as_())
    await call.models.RemoveModelAlias(
        pb.RemoveModelAliasRequest(name="digits", alias="champion", expected_version=1), metadata=call.as_()
    )
    await call.models.RemoveModel(pb.RemoveModelRequest(name="digits", version="1"), metadata=call.as_())
    assert await versions() == {1: ("removed", []), 2: ("ready", [])}


async def test_a_version_gives_its_card_and_its_file(call: Calling) -> None:
    await call.deploy(b"model a", run_id="run-1", lineage=pb.Lineage(carbon_grams_co2e=0.5, cost_usd=0.0))
    card = await call.models.GetModelCard(pb.GetModelCardRequest(name="digits"), metadata=call.as_())
    training = json.loads(card.json)["training"]
    assert (training["carbon_grams_co2e"], training["cost_usd"], training["energy_joules"]) == (0.5, 0.0, None)
    for told in ("  emissions: 0.5", "- Energy: not told", "- Carbon (CO2e): 0.500 g", "- Cost: $0", "- Run: `run-1`"):
        assert told in card.markdown.splitlines()
    pieces = call.models.DownloadModel(pb.DownloadModelRequest(name="digits", version="1"), metadata=call.as_())
    assert b"".join([piece.chunk async for piece in pieces]) == b"model a"


@pytest.mark.parametrize(
    ("lineage", "details"),
    [
        (pb.Lineage(energy_joules=-1), "energy_joules: is -1; it must be a number of at least 0, or be left out"),
        (pb.Lineage(cost_usd=float("nan")), "cost_usd: is nan; it must be a number of at least 0, or be left out"),
        (pb.Lineage(framework="x" * 201), "framework: is longer than 200 characters"),
    ],
)
async def test_a_lineage_that_cannot_be_is_refused(call: Calling, lineage: pb.Lineage, details: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call.deploy(b"model a", lineage=lineage)
    assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, details)


async def test_a_signature_is_told_and_given_back(call: Calling) -> None:
    digest = (await call.deploy(b"model a")).digest
    model = await call.deploy(b"model a", signature_bundle=f"friend signed {digest}")
    assert (model.version, model.is_signed, model.signed_by) == (2, True, "friend")
    got = await call.models.GetModel(pb.GetModelRequest(name="digits", version="2"), metadata=call.as_())
    assert (got.model, got.signature_bundle) == (model, f"friend signed {digest}")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call.deploy(b"model b", signature_bundle=f"friend signed {digest}")
    assert (refused.value.code(), refused.value.details()) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "signature: does not fit the file",
    )
