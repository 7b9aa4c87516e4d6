"""Models: deploy, list, remove, predict."""

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
from ergonaut.errors import Broken, NotAllowed, NotFound, Refused, Unavailable

if TYPE_CHECKING:
    from ergonaut.api.inference.v1.inference_pb2_grpc import ModelServiceAsyncStub

_ERROR_OF_HTTP = {400: Refused, 401: NotAllowed, 403: NotAllowed, 404: NotFound, 429: Unavailable, 503: Unavailable}


class Models:
    """Models that are served."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def _stub(self) -> "ModelServiceAsyncStub":
        return ModelServiceStub(self._connection.channel("gateway"))

    async def deploy(self, path: Path, name: str, *, run_id: str = "") -> pb.Model:
        """Serve an ONNX file under a name; the same file again gives the version that is there."""
        try:
            content = await asyncio.to_thread(path.read_bytes)
        except OSError as error:
            raise Refused(f"{path} cannot be read: {error.strerror}", field="model") from error

        async def requests() -> AsyncIterator[pb.DeployModelRequest]:
            yield pb.DeployModelRequest(name=name, run_id=run_id)
            async for piece in pieces(content):
                yield pb.DeployModelRequest(chunk=piece)

        with doing(f"deploying {path.name} as {name}"):
            answer = await self._stub.DeployModel(requests())
            model: pb.Model = answer.model
            return model

    async def served(self) -> list[pb.Model]:
        """Every model served, by name."""
        with doing("listing models"):
            answer = await self._stub.ListModels(pb.ListModelsRequest())
            return [*answer.models]

    async def remove(self, name: str) -> None:
        """Serve a model no longer."""
        with doing(f"removing {name}"):
            await self._stub.RemoveModel(pb.RemoveModelRequest(name=name))

    async def predict(self, name: str, inputs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Predict by the Open Inference Protocol: inputs and outputs are its tensors (`name`, `shape`, `datatype`, `data`)."""
        if not self._connection.gateway_http:
            raise NotFound("where the gateway serves HTTP is not known; set ERGONAUT_GATEWAY_HTTP_ADDRESS")
        url = f"http://{self._connection.gateway_http}/v2/models/{quote(name, safe='')}/infer"
        try:
            async with httpx.AsyncClient(headers=self._connection.headers, timeout=CALL_TIMEOUT_SECONDS) as http:
                answer = await http.post(url, json={"inputs": list(inputs)})
        except httpx.HTTPError as error:
            raise Unavailable(f"predicting with {name}: {url} does not answer: {error}") from error
        if answer.is_error:
            told = answer.json().get("error", answer.text) if _is_json(answer) else answer.text
            raise _ERROR_OF_HTTP.get(answer.status_code, Broken)(f"predicting with {name}: {told}")
        outputs: list[dict[str, Any]] = answer.json()["outputs"]
        return outputs


def _is_json(answer: httpx.Response) -> bool:
    return str(answer.headers.get("content-type", "")).startswith("application/json")
