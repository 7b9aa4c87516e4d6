"""Bad input over each door that takes it: one clear error that names the field, and nothing is changed."""

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from servers import Installation, write_job

from ergonaut.api.scheduling.v1 import scheduling_pb2 as scheduling
from ergonaut.api.scheduling.v1.scheduling_pb2_grpc import SchedulingServiceStub
from ergonaut.api.vectors.v1 import vectors_pb2 as vectors
from ergonaut.api.vectors.v1.vectors_pb2_grpc import VectorsServiceStub
from ergonaut_common.testing import binary

PAST = (datetime.now(UTC) - timedelta(days=1)).isoformat()

BAD_JOBS = [
    ({"comand": ["true"]}, "comand"),
    ({"providers": ["mainframe"]}, "providers"),
    ({"deadline": PAST}, "deadline"),
    ({"budget": {"cost_usd": 0}}, "budget.cost_usd"),
    ({"duration_seconds_expected": 0}, "duration_seconds_expected"),
    ({"resources": {"vcpus": -1}}, "resources.vcpus"),
]


@pytest.mark.parametrize(("wrong", "field"), BAD_JOBS, ids=[field for _, field in BAD_JOBS])
def test_a_job_file_with_a_wrong_field_is_refused(system: Installation, tmp_path: Path, wrong: Any, field: str) -> None:
    before = _jobs(system)
    folder = write_job(tmp_path / "job", "pass", **wrong)
    done = system.cli("submit", str(folder), expect=65)
    assert field in done.stderr
    assert done.stderr.count("error:") == 1
    assert _jobs(system) == before


@pytest.mark.parametrize(
    ("job", "field"),
    [
        (scheduling.JobSpec(name="bad", command=["true"], duration_seconds_expected=0), "duration_seconds_expected"),
        (scheduling.JobSpec(name="bad", command=["true"], duration_seconds_expected=5, providers=["x"]), "providers"),
        (scheduling.JobSpec(name="", command=["true"], duration_seconds_expected=5), "name"),
        (
            scheduling.JobSpec(
                name="bad",
                command=["true"],
                duration_seconds_expected=5,
                budget=scheduling.Budget(carbon_grams_co2e=0),
            ),
            "budget.carbon_grams_co2e",
        ),
    ],
)
def test_a_bad_job_over_grpc_is_refused(system: Installation, job: scheduling.JobSpec, field: str) -> None:
    before = _jobs(system)
    with (
        grpc.insecure_channel(system.addresses.services["scheduler"]) as channel,
        pytest.raises(grpc.RpcError) as refused,
    ):
        SchedulingServiceStub(channel).SubmitJob(
            scheduling.SubmitJobRequest(job=job), metadata=system.metadata, timeout=10
        )
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert field in refused.value.details()
    assert _jobs(system) == before


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"job": {"name": "bad", "command": ["true"], "duration_seconds_expected": 5, "colour": "red"}}, "colour"),
        ({"job": {"name": "bad", "command": ["true"], "duration_seconds_expected": 5, "deadline": PAST}}, "deadline"),
        ({"jobs": {}}, "jobs"),
    ],
)
def test_a_bad_job_over_temporal_fails_at_once(system: Installation, given: Any, field: str) -> None:
    before = _jobs(system)
    command = [binary("temporal"), "workflow", "execute", "--address", system.addresses.temporal, "--type", "RunJob"]
    command += ["--task-queue", "ergonaut-runs", "--workflow-id", f"bad-{field}", "--input", json.dumps(given)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert field in done.stdout + done.stderr
    assert _jobs(system) == before


def test_a_file_that_is_no_onnx_model_is_refused(system: Installation, tmp_path: Path) -> None:
    before = system.cli_json("models")
    fake = tmp_path / "model.onnx"
    fake.write_text("not a model")
    done = system.cli("deploy", str(fake), "--name", "fake", expect=65)
    assert "ONNX" in done.stderr
    assert system.cli_json("models") == before


def test_a_tensor_of_the_wrong_shape_is_refused_by_name(system: Installation, tmp_path: Path) -> None:
    from test_doors import _DOUBLE

    model = tmp_path / "double.onnx"
    subprocess.run([binary("python"), "-c", _DOUBLE, str(model)], check=True)
    system.cli("deploy", str(model), "--name", "shaped")
    answer = httpx.post(
        f"http://{system.addresses.gateway_http}/v2/models/shaped/infer",
        headers={"authorization": f"Bearer {system.key}"},
        json={"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]},
    )
    assert answer.status_code == 400
    assert "x" in answer.json()["error"]
    assert "shape" in answer.json()["error"]


def test_a_vector_of_the_wrong_dimension_is_refused_and_none_is_written(system: Installation) -> None:
    with grpc.insecure_channel(system.addresses.services["vectors"]) as channel:
        stub = VectorsServiceStub(channel)
        options = {"metadata": system.metadata, "timeout": 20}
        stub.CreateCollection(
            vectors.CreateCollectionRequest(collection=vectors.Collection(name="three", dimension=3)), **options
        )
        points = [vectors.Point(id="good", vector=[1, 2, 3]), vectors.Point(id="bad", vector=[1, 2])]
        with pytest.raises(grpc.RpcError) as refused:
            stub.Upsert(vectors.UpsertRequest(collection="three", points=points), **options)
        (collection,) = [
            one
            for one in stub.ListCollections(vectors.ListCollectionsRequest(), **options).collections
            if one.name == "three"
        ]
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "points[1].vector" in refused.value.details()
    assert collection.count == 0


@pytest.mark.parametrize(
    "service", ["telemetry", "pricing", "scheduler", "orchestrator", "ledger", "gateway", "vectors"]
)
def test_a_caller_without_a_key_is_sent_away_at_every_door(system: Installation, service: str) -> None:
    method = {
        "telemetry": "/ergonaut.api.telemetry.v1.TelemetryService/DescribeHost",
        "pricing": "/ergonaut.api.pricing.v1.PricingService/ListOffers",
        "scheduler": "/ergonaut.api.scheduling.v1.SchedulingService/ListJobs",
        "orchestrator": "/ergonaut.api.orchestration.v1.RolloutService/ListRollouts",
        "ledger": "/ergonaut.api.ledger.v1.LedgerService/ListRuns",
        "gateway": "/ergonaut.api.inference.v1.ModelService/ListModels",
        "vectors": "/ergonaut.api.vectors.v1.VectorsService/ListCollections",
    }[service]
    with grpc.insecure_channel(system.addresses.services[service]) as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(method)(b"", timeout=30)
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED


def _jobs(system: Installation) -> list[str]:
    return [job["job_id"] for job in system.cli_json("jobs")]
