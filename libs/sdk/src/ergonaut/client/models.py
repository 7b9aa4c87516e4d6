"""Models: deploy, list, alias, load, remove, predict."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from ergonaut.api.inference.v1 import inference_pb2 as pb
from ergonaut.api.inference.v1.inference_pb2_grpc import ModelServiceStub
from ergonaut.channels import CALL_TIMEOUT_SECONDS
from ergonaut.client.connection import Connection, doing, pieces
from ergonaut.client.ledger import Ledger
from ergonaut.errors import Broken, NotAllowed, NotFound, Refused, Unavailable
from ergonaut.tls import base_url, http_context, is_secure

if TYPE_CHECKING:
    from ergonaut.api.inference.v1.inference_pb2_grpc import ModelServiceAsyncStub
    from ergonaut.api.ledger.v1 import ledger_pb2 as ledger

_ERROR_OF_HTTP = {400: Refused, 401: NotAllowed, 403: NotAllowed, 404: NotFound, 429: Unavailable, 503: Unavailable}


class Models:
    """Models that are served."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def _stub(self) -> "ModelServiceAsyncStub":
        return ModelServiceStub(self._connection.channel("gateway"))

    async def deploy(
        self,
        path: Path,
        name: str,
        *,
        run_id: str = "",
        lineage: pb.Lineage | None = None,
        signature: str = "",
    ) -> pb.Model:
        """Serve an ONNX file under a name; the same file again gives the version that is there.

        `lineage` tells where it comes from (`lineage_of_run` asks what a run used), `signature` is what `signing.sign` gave.
        """
        try:
            content = await asyncio.to_thread(path.read_bytes)
        except OSError as error:
            raise Refused(f"{path} cannot be read: {error.strerror}", field="model") from error

        async def requests() -> AsyncIterator[pb.DeployModelRequest]:
            yield pb.DeployModelRequest(name=name, run_id=run_id, lineage=lineage, signature_bundle=signature)
            async for piece in pieces(content):
                yield pb.DeployModelRequest(chunk=piece)

        with doing(f"deploying {path.name} as {name}"):
            answer = await self._stub.DeployModel(requests())
            model: pb.Model = answer.model
            return model

    async def lineage_of_run(self, run_id: str) -> pb.Lineage:
        """What a run used, as the ledger knows it now; what nobody measured is left out. Raises NotFound for an unknown run."""
        footprint = await Ledger(self._connection).footprint(run_id)
        return lineage_from(footprint)

    async def served(self) -> list[pb.Model]:
        """Every model that is kept, by name, told by the version that stands for it."""
        with doing("listing models"):
            answer = await self._stub.ListModels(pb.ListModelsRequest())
            return [*answer.models]

    async def get(self, name: str, version: str = "") -> pb.GetModelResponse:
        """A version, named by its number or an alias, and the signature that it came with."""
        with doing(f"asking for {name}"):
            answer: pb.GetModelResponse = await self._stub.GetModel(pb.GetModelRequest(name=name, version=version))
            return answer

    async def versions(self, name: str) -> pb.ListModelVersionsResponse:
        """The versions of a model, oldest first, and its aliases."""
        with doing(f"listing the versions of {name}"):
            answer: pb.ListModelVersionsResponse = await self._stub.ListModelVersions(
                pb.ListModelVersionsRequest(name=name)
            )
            return answer

    async def alias(self, name: str, alias: str, version: str, *, expected: int | None = None) -> pb.Model:
        """Let an alias name a version. `expected` is the version that it must name until now, 0 for none. Raises Conflict."""
        request = pb.SetModelAliasRequest(name=name, alias=alias, version=version, expected_version=expected)
        with doing(f"naming version {version} of {name} {alias}"):
            answer = await self._stub.SetModelAlias(request)
            model: pb.Model = answer.model
            return model

    async def unalias(self, name: str, alias: str, *, expected: int | None = None) -> None:
        """Remove an alias. `expected` is the version that it must name until now. Raises Conflict."""
        request = pb.RemoveModelAliasRequest(name=name, alias=alias, expected_version=expected)
        with doing(f"removing the alias {alias} of {name}"):
            await self._stub.RemoveModelAlias(request)

    async def load(self, name: str, version: str = "") -> list[pb.Model]:
        """Hold a version ready from now on, or those that matter where none is named; gives all versions."""
        with doing(f"loading {name}"):
            answer = await self._stub.LoadModel(pb.LoadModelRequest(name=name, version=version))
            return [*answer.versions]

    async def unload(self, name: str, version: str = "") -> list[pb.Model]:
        """Hold a version, or the whole model, ready no longer; it is kept. Gives all versions."""
        with doing(f"unloading {name}"):
            answer = await self._stub.UnloadModel(pb.UnloadModelRequest(name=name, version=version))
            return [*answer.versions]

    async def card(self, name: str, version: str = "") -> pb.GetModelCardResponse:
        """The card of a version, as JSON and as Markdown."""
        with doing(f"asking for the card of {name}"):
            answer: pb.GetModelCardResponse = await self._stub.GetModelCard(
                pb.GetModelCardRequest(name=name, version=version)
            )
            return answer

    async def download(self, name: str, target: Path, version: str = "") -> int:
        """Write the file of a version to a path; gives its size in bytes."""
        with doing(f"downloading {name}"):
            request = pb.DownloadModelRequest(name=name, version=version)
            content = b"".join([answer.chunk async for answer in self._stub.DownloadModel(request)])
        try:
            return await asyncio.to_thread(target.write_bytes, content)
        except OSError as error:
            raise Refused(f"{target} cannot be written: {error.strerror}", field="target") from error

    async def remove(self, name: str, version: str = "") -> None:
        """Keep a version no longer, or the whole model where none is named."""
        with doing(f"removing {name}"):
            await self._stub.RemoveModel(pb.RemoveModelRequest(name=name, version=version))

    async def predict(self, name: str, inputs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Predict by the Open Inference Protocol: inputs and outputs are its tensors (`name`, `shape`, `datatype`, `data`)."""
        if not self._connection.gateway_http:
            raise NotFound("where the gateway serves HTTP is not known; set ERGONAUT_GATEWAY_HTTP_ADDRESS")
        address = self._connection.gateway_http
        url = f"{base_url(address)}/v2/models/{quote(name, safe='')}/infer"
        verify = http_context() if is_secure(address) else True
        try:
            async with httpx.AsyncClient(
                headers=self._connection.headers, timeout=CALL_TIMEOUT_SECONDS, verify=verify
            ) as http:
                answer = await http.post(url, json={"inputs": list(inputs)})
        except httpx.HTTPError as error:
            raise Unavailable(f"predicting with {name}: {url} does not answer: {error}") from error
        if answer.is_error:
            told = answer.json().get("error", answer.text) if _is_json(answer) else answer.text
            raise _ERROR_OF_HTTP.get(answer.status_code, Broken)(f"predicting with {name}: {told}")
        outputs: list[dict[str, Any]] = answer.json()["outputs"]
        return outputs


def lineage_from(footprint: "ledger.GetRunFootprintResponse") -> pb.Lineage:
    """What a run used, as a lineage tells it: sums over what was measured, and the ranges of their energy added."""
    lineage = pb.Lineage()
    for name in ("energy_joules", "carbon_grams_co2e", "cost_usd"):
        parts = [part for part in footprint.components if part.HasField(name)]
        if not parts:
            continue
        setattr(lineage, name, getattr(footprint, name))
        # A part without a range is exact, as rent is, or adds nothing to what is known of the doubt.
        doubt = sum(getattr(part, name) * part.range_fraction for part in parts)
        setattr(lineage, f"{name}_range", footprint.energy_joules_range if name == "energy_joules" else doubt)
    return lineage


def _is_json(answer: httpx.Response) -> bool:
    return str(answer.headers.get("content-type", "")).startswith("application/json")
