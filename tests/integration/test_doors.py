"""Each outside door, opened by a client that knows only the documents: reflection, NATS, Temporal, Open Inference."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import grpc
import nats
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from servers import Installation, until, write_job

from ergonaut_common.testing import binary

HELLO = {"job": {"name": "hello", "command": ["echo", "hello"], "duration_seconds_expected": 5}}


def test_a_grpc_client_finds_its_way_by_reflection(system: Installation) -> None:
    method = "/ergonaut.api.pricing.v1.PricingService/ListOffers"
    with grpc.intercept_channel(
        grpc.insecure_channel(system.addresses.services["pricing"]), _WithMetadata(system.metadata)
    ) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert "ergonaut.api.pricing.v1.PricingService" in database.get_services()
        pool = descriptor_pool.DescriptorPool(database)
        service = pool.FindServiceByName("ergonaut.api.pricing.v1.PricingService")
        described = service.FindMethodByName("ListOffers")
        request = message_factory.GetMessageClass(described.input_type)(providers=["local"])
        answer_class = message_factory.GetMessageClass(described.output_type)
        call = channel.unary_unary(
            method, request_serializer=type(request).SerializeToString, response_deserializer=answer_class.FromString
        )
        offers = call(request, timeout=30).offers
    assert [offer.provider for offer in offers] == ["local"]


async def test_a_nats_subscriber_hears_of_finished_runs(system: Installation, tmp_path: Path) -> None:
    password = (system.home.secrets / "nats-default.password").read_text().strip()
    connection = await nats.connect(f"nats://{system.addresses.nats}", user="default", password=password)
    subscription = await connection.subscribe("ergonaut.v1.default.runs.run.finished.*")
    await connection.flush()
    folder = write_job(tmp_path / "job", "print('done')")
    submitted = await asyncio.to_thread(system.cli_json, "submit", str(folder))
    message = await subscription.next_msg(timeout=30)
    told = json.loads(message.data)
    await connection.close()
    assert (told["run_id"], told["state"]) == (submitted["run_id"], "succeeded")


async def test_a_tenants_nats_user_may_not_overhear_or_pretend(system: Installation) -> None:
    refused: list[str] = []

    async def note(error: Exception) -> None:
        refused.append(str(error))

    password = (system.home.secrets / "nats-default.password").read_text().strip()
    connection = await nats.connect(f"nats://{system.addresses.nats}", user="default", password=password, error_cb=note)
    await connection.subscribe("ergonaut.v1.*.runs.>")
    await connection.publish("ergonaut.v1.public.pricing.offer.changed.offer-1", b"{}")
    await connection.flush()
    async with asyncio.timeout(30):
        while len(refused) < 2:
            await asyncio.sleep(0.05)
    await connection.close()
    assert all("permissions violation" in text.lower() for text in refused)


def test_the_temporal_cli_starts_a_job_with_json(system: Installation) -> None:
    result = _temporal(system, "start-and-wait", HELLO)
    assert result["state"] == "succeeded"
    run_id = str(result["run_id"])
    until(
        lambda: system.cli_json("report", run_id)["state"] == "succeeded", 60, "the ledger has heard of the run's end"
    )


def test_tritonclient_predicts_over_http_and_grpc(system: Installation, tmp_path: Path) -> None:
    model = tmp_path / "double.onnx"
    subprocess.run([sys.executable, "-c", _DOUBLE, str(model)], check=True)
    system.cli("deploy", str(model), "--name", "double")
    done = subprocess.run(
        [sys.executable, "-c", _TRITON, system.addresses.gateway_http, system.addresses.services["gateway"]],
        env=system.environment | {"KEY": system.key},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout.split()) == (0, ["http", "[2.0,4.0]", "grpc", "[2.0,4.0]"]), done.stderr


def _temporal(system: Installation, workflow_id: str, given: dict[str, object]) -> dict[str, object]:
    """What the workflow answers that `temporal workflow execute` starts."""
    command = [binary("temporal"), "workflow", "execute", "--address", system.addresses.temporal, "--type", "RunJob"]
    command += ["--task-queue", "ergonaut-runs", "--workflow-id", workflow_id, "--input", json.dumps(given)]
    done = subprocess.run([*command, "--output", "json"], capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, object] = json.loads(done.stdout)["result"]
    return result


class _WithMetadata(grpc.UnaryUnaryClientInterceptor, grpc.StreamStreamClientInterceptor):
    """Sends the key along; reflection is a stream, the call is not."""

    def __init__(self, metadata: tuple[tuple[str, str], ...]) -> None:
        self._metadata = metadata

    def intercept_unary_unary(self, continuation, client_call_details, request):
        return continuation(client_call_details._replace(metadata=self._metadata), request)

    def intercept_stream_stream(self, continuation, client_call_details, request_iterator):
        return continuation(client_call_details._replace(metadata=self._metadata), request_iterator)


_DOUBLE = """
import sys
from onnx import TensorProto, helper, save
node = helper.make_node("Add", ["x", "x"], ["y"])
tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in "xy"]
graph = helper.make_graph([node], "double", tensors[:1], tensors[1:])
save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), sys.argv[1])
"""

_TRITON = """
import os, sys
import numpy, tritonclient.grpc, tritonclient.http
headers = {"authorization": "Bearer " + os.environ["KEY"]}
for name, module, address in (("http", tritonclient.http, sys.argv[1]), ("grpc", tritonclient.grpc, sys.argv[2])):
    client = module.InferenceServerClient(address)
    tensor = module.InferInput("x", [1, 2], "FP32")
    tensor.set_data_from_numpy(numpy.array([[1, 2]], dtype=numpy.float32))
    answer = client.infer("double", [tensor], headers=dict(headers)).as_numpy("y")
    print(name, str(answer[0].tolist()).replace(" ", ""))
"""
