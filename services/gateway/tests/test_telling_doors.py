"""What the doors tell of a single request where it is asked for: its energy in the answer, its way as spans."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ergonaut.api.openinference.v2 import open_inference_pb2 as oip
from ergonaut.api.openinference.v2.open_inference_pb2_grpc import GRPCInferenceServiceStub
from ergonaut_common.auth import KeyRing
from ergonaut_common.clock import SystemClock
from ergonaut_common.observe import traces
from ergonaut_common.testing import kept_spans, key_ring_file
from ergonaut_gateway import h2
from ergonaut_gateway.adapters.onnx import OnnxLoader
from ergonaut_gateway.domain.energy import Rate
from ergonaut_gateway.http import Callers, HttpLimits, InferenceDoor, Router, serving_http
from ergonaut_gateway.rpc import NAMES, door

from .conftest import Gateway, Gateways
from .onnx_models import doubling

X = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
INFER = "/v2/models/digits/infer"
ENERGY = "x-ergonaut-energy"
TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@dataclass
class Doors:
    """A gateway and how to come to it."""

    gateway: Gateway
    http: httpx.AsyncClient
    grpc: GRPCInferenceServiceStub
    metadata: tuple[tuple[str, str], ...]

    async def call(self, *more: tuple[str, str], **parameters: bool) -> oip.ModelInferResponse:
        request = oip.ModelInferRequest(model_name="digits")
        request.inputs.add(name="x", datatype="FP32", shape=[1, 3])
        request.raw_input_contents.append(np.ones(3, "<f4").tobytes())
        for name, value in parameters.items():
            request.parameters[name].bool_param = value
        answer: oip.ModelInferResponse = await self.grpc.ModelInfer(request, metadata=(*self.metadata, *more))
        return answer

    async def stream(self, *more: tuple[str, str]) -> oip.ModelStreamInferResponse:
        request = oip.ModelInferRequest(model_name="digits")
        request.inputs.add(name="x", datatype="FP32", shape=[1, 3])
        request.raw_input_contents.append(np.ones(3, "<f4").tobytes())
        request.parameters["energy"].bool_param = True
        call = self.grpc.ModelStreamInfer(iter([request]), metadata=(*self.metadata, *more))
        answer: oip.ModelStreamInferResponse = await call.read()
        return answer


@pytest.fixture
async def doors(gateways: Gateways, tmp_path: Path) -> AsyncIterator[Doors]:
    gateways.clock = SystemClock()  # type: ignore[assignment]
    gateway = gateways.another(OnnxLoader())
    await gateway.deploy(doubling())
    gateway.predictions.energy.rate = lambda: Rate(2.0, 0.1, "calibrated", "a counter", grams_per_joule=1e-4)
    path, keys = key_ring_file(tmp_path, ("default",))
    ring, router = KeyRing.load(path), Router()
    InferenceDoor(gateway.models, gateway.catalogue, gateway.predictions, Callers(ring)).add_to(router)
    add = door(gateway.models, gateway.catalogue, gateway.predictions)
    authorization = f"Bearer {keys['default']}"
    async with (
        h2.opened(add, gateway.predictions, ring, NAMES, close_seconds=0.1) as own,
        serving_http("127.0.0.1:0", router, HttpLimits(), h2_factory=own) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers={"authorization": authorization}) as http,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        stub = GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]
        yield Doors(gateway, http, stub, (("authorization", authorization),))
    gateway.predictions.close()


async def test_over_http_a_parameter_asks_what_a_request_used(doors: Doors) -> None:
    answer = await doors.http.post(INFER, json={"inputs": [X], "parameters": {"energy": True}})

    told = answer.json()["parameters"]
    assert told["energy_joules_low"] < told["energy_joules"] < told["energy_joules_high"]
    assert told["carbon_grams_co2e"] == pytest.approx(1e-4 * told["energy_joules"])
    assert told["energy_method"] == "calibrated"
    assert "cost_usd" not in told
    assert float(answer.headers[f"{ENERGY}-joules"]) == pytest.approx(told["energy_joules"], rel=1e-5)


async def test_over_http_a_header_asks_too_also_of_binary_answers(doors: Doors) -> None:
    body = {"inputs": [X], "parameters": {"binary_data_output": True}}
    answer = await doors.http.post(INFER, json=body, headers={ENERGY: "true"})

    assert answer.headers[f"{ENERGY}-method"] == "calibrated"
    assert answer.content[-24:] == np.array([2, 4, 6, -1, -2, -3], "<f4").tobytes()


async def test_who_does_not_ask_is_not_told(doors: Doors) -> None:
    answer = await doors.http.post(INFER, json={"inputs": [X]})
    called = await doors.call()

    assert "parameters" not in answer.json()
    assert not [name for name in answer.headers if name.startswith(ENERGY)]
    assert not called.parameters


async def test_what_is_no_flag_is_refused(doors: Doors) -> None:
    answer = await doors.http.post(INFER, json={"inputs": [X], "parameters": {"energy": "yes"}})

    assert answer.status_code == 400
    assert answer.json() == {"error": "parameters.energy: must be true or false"}


async def test_over_grpc_the_answers_parameters_tell(doors: Doors) -> None:
    for answer in (await doors.call(energy=True), await doors.call((ENERGY, "1"))):
        assert answer.parameters["energy_joules"].double_param > 0
        assert answer.parameters["energy_method"].string_param == "calibrated"


async def test_each_answer_of_a_stream_tells_its_own(doors: Doors) -> None:
    told = (await doors.stream()).infer_response.parameters

    assert told["energy_joules"].double_param > 0


async def test_statistics_over_http_tell_energy_and_times_of_joining(doors: Doors) -> None:
    await doors.http.post(INFER, json={"inputs": [X]})
    doors.gateway.predictions.energy.look()

    [told] = (await doors.http.get("/v2/models/digits/stats")).json()["model_stats"]

    assert told["parameters"]["energy_joules"] > 0
    assert told["inference_stats"]["compute_input"]["count"] == 1


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    monkeypatch.setattr(traces, "_sent", True)
    return kept_spans()


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == name]


def traceparent(flags: str = "01") -> tuple[str, str]:
    return "traceparent", f"00-{TRACE_ID}-{PARENT_ID}-{flags}"


@pytest.mark.parametrize("way", ["http", "grpc", "stream"])
async def test_a_request_is_a_span_of_its_callers_trace_with_its_wait_run_and_computing_below(
    doors: Doors, spans: InMemorySpanExporter, way: str
) -> None:
    if way == "http":
        await doors.http.post(INFER, json={"inputs": [X]}, headers=dict([traceparent()]))
    elif way == "grpc":
        await doors.call(traceparent())
    else:
        await doors.stream(traceparent())
        async with asyncio.timeout(30):
            while not named(spans, "/inference.GRPCInferenceService/ModelStreamInfer"):
                await asyncio.sleep(0)

    [wait], [run], [compute] = (named(spans, name) for name in ("wait", "run", "compute"))
    request = named(spans, "/inference.GRPCInferenceService/ModelStreamInfer" if way == "stream" else "infer")[0]
    assert format(request.context.trace_id, "032x") == TRACE_ID
    assert format(request.parent.span_id, "016x") == PARENT_ID
    assert wait.parent.span_id == run.parent.span_id == request.context.span_id
    assert compute.parent.span_id == run.context.span_id
    assert request.start_time - 1e6 <= wait.start_time <= wait.end_time <= run.start_time + 1e6
    assert run.start_time <= compute.start_time <= compute.end_time <= run.end_time
    assert dict(run.attributes or {})["model"] == "digits"


async def test_requests_that_ran_together_share_a_span_with_a_link_to_each(
    doors: Doors, spans: InMemorySpanExporter
) -> None:
    async def ask() -> None:
        await doors.call()

    await asyncio.gather(*(ask() for _ in range(32)))

    runs = named(spans, "run")
    joined = [run for run in runs if dict(run.attributes or {})["requests"] != 1]
    requests = {span.context.span_id for span in named(spans, "infer")}
    linked = [link.context.span_id for run in joined for link in run.links]
    alone = [run.parent.span_id for run in runs if run.parent is not None]
    assert joined, "no two of 32 requests at once ran together"
    assert sorted([*linked, *alone]) == sorted(requests)
    assert len(named(spans, "wait")) == 32


@pytest.mark.parametrize("sent", [True, False])
async def test_a_trace_that_is_not_sampled_or_goes_nowhere_costs_no_spans_of_runs(
    doors: Doors, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch, sent: bool
) -> None:
    monkeypatch.setattr(traces, "_sent", sent)

    await doors.http.post(INFER, json={"inputs": [X]}, headers=dict([traceparent("00" if sent else "01")]))

    assert not named(spans, "run")
