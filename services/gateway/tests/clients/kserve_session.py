"""KServe's own inference clients, used as their documentation has it, over REST and gRPC; runs where kserve is installed.

Arguments: the HTTP address, the gRPC address, a key. It ends with an error where something is other than documented.
"""

import asyncio
import sys
from collections.abc import Awaitable
from typing import Any

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

X = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float32)


def asked(*, binary: bool, request_id: str = "a", model: str = "doubling") -> InferRequest:
    given = InferInput(name="x", shape=[2, 3], datatype="FP32")
    given.set_data_from_numpy(X, binary_data=binary)
    outputs = [RequestedOutput("y", {"binary_data": binary}), RequestedOutput("z", {"binary_data": False})]
    return InferRequest(model_name=model, infer_inputs=[given], request_id=request_id, request_outputs=outputs)


async def rest(address: str, headers: dict[str, str]) -> None:
    """Readiness, JSON, binary tensors, raw documents, errors."""
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=2, timeout=30))
    base = f"http://{address}"
    try:
        assert await client.is_server_live(base)
        assert await client.is_server_ready(base)
        assert await client.is_model_ready(base, "doubling", headers=headers)
        for binary in (False, True):
            told: dict[str, str] = {}
            answer = await client.infer(
                base, asked(binary=binary), model_name="doubling", headers=dict(headers), response_headers=told
            )
            assert (answer.model_name, answer.id) == ("doubling", "a")
            assert np.array_equal(answer.outputs[0].as_numpy(), 2 * X)
            assert np.array_equal(answer.outputs[1].as_numpy(), -X)
            assert ("inference-header-content-length" in told) == binary
        plain = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
        answer = await client.infer(base, plain, model_name="doubling", headers=headers)
        assert answer.outputs[0].data == [2, 4, 6]
        text = InferInput(name="x", shape=[1, 2], datatype="BYTES")
        text.set_data_from_numpy(np.array([["watt", "jöule"]], dtype=np.object_), binary_data=True)
        answer = await client.infer(base, InferRequest("texts", [text]), model_name="texts", headers=dict(headers))
        assert answer.outputs[0].data == ["watt", "jöule"]
        await refused(client, base, headers)
    finally:
        await client.close()


async def refused(client: InferenceRESTClient, base: str, headers: dict[str, str]) -> None:
    """What goes wrong is the client's documented error, with our sentence in it."""
    for model, shown, status in (("nothing", headers, 404), ("doubling", {"authorization": "Bearer no"}, 401)):
        wanted = asked(binary=False, model=model)
        error = await raised(client.infer(base, wanted, model_name=model, headers=dict(shown)), httpx.HTTPStatusError)
        assert error.response.status_code == status, error
        assert ("no model nothing" in str(error)) == (status == 404)


async def raised(asking: Awaitable[Any], kind: type[BaseException]) -> Any:
    """What asking raises, which must be of this kind. pytest is not installed where this runs."""
    try:
        told = await asking
    except kind as error:
        return error
    raise AssertionError(f"it was answered: {told}")


async def by_grpc(address: str, headers: dict[str, str]) -> None:
    """The same by gRPC, whose tensors are raw or typed."""
    shown = list(headers.items())
    async with InferenceGRPCClient(url=address, timeout=30) as client:
        assert await client.is_server_live(headers=shown)
        assert await client.is_server_ready(headers=shown)
        assert await client.is_model_ready("doubling", headers=shown)
        for binary in (False, True):
            answer = await client.infer(asked(binary=binary), headers=shown)
            assert np.array_equal(answer.outputs[0].as_numpy(), 2 * X)
            assert (answer.model_name, answer.id) == ("doubling", "a")
        error = await raised(client.infer(asked(binary=False, model="nothing"), headers=shown), grpc.RpcError)
        assert error.code() is grpc.StatusCode.NOT_FOUND


async def main(http_address: str, grpc_address: str, key: str) -> None:
    """All of it."""
    headers = {"authorization": f"Bearer {key}"}
    await rest(http_address, headers)
    # The HTTP port speaks gRPC too.
    for address in (grpc_address, http_address):
        await by_grpc(address, headers)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
