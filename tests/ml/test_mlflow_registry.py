"""Versions to and from the registry of a real MLflow server; the service's own tests hold the client to a recorded one."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ergonaut.integrations.mlflow_registry import Exported, Imported, open_registry

START_SECONDS_MAX = 120.0
EXPORTED = Exported(
    "digits",
    b"an ONNX file",
    "# digits",
    {"run_id": "run-1", "framework": "hand 1.0"},
    {"energy_joules": 12.5, "energy_joules_range": 0.5},
    ("champion",),
)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with a registry and files of its own."""
    pytest.importorskip("mlflow", reason="run by make test-ml, which installs mlflow")
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [Path(sys.executable).with_name("mlflow"), "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", "sqlite:///mlflow.db", "--artifacts-destination", "files"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        asyncio.run(_answers(f"http://127.0.0.1:{port}", server))
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


async def _answers(uri: str, server: "subprocess.Popen[bytes]") -> None:
    async with asyncio.timeout(START_SECONDS_MAX), httpx.AsyncClient() as http:
        while server.poll() is None:
            try:
                if (await http.get(f"{uri}/health")).is_success:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.2)
    raise AssertionError("the MLflow server ended at once")


async def _stored_and_fetched(uri: str) -> list[Imported]:
    async with open_registry(uri) as registry:
        version = await registry.store(EXPORTED)
        return [await registry.fetch("digits", wanted) for wanted in (version, "champion")]


def test_what_was_stored_is_fetched_and_mlflows_own_client_sees_it(uri: str) -> None:
    for found in asyncio.run(_stored_and_fetched(uri)):
        assert (found.content, found.run_id, found.lineage.framework) == (b"an ONNX file", "run-1", "hand 1.0")
        assert (found.lineage.energy_joules, found.lineage.energy_joules_range) == (12.5, 0.5)
    import mlflow

    client = mlflow.MlflowClient(uri, uri)
    version = client.get_model_version_by_alias("digits", "champion")
    assert (version.tags["ergonaut/run_id"], version.description) == ("run-1", "# digits")
    assert client.get_run(version.run_id).data.metrics["ergonaut/energy_joules"] == 12.5


def test_a_model_that_a_program_logged_with_mlflow_is_fetched(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    file = tmp_path / "model.onnx"
    file.write_bytes(b"an ONNX file")
    client: Any = mlflow.MlflowClient(uri, uri)
    run = client.create_run(client.create_experiment("trained"))
    client.log_artifact(run.info.run_id, str(file), "model")
    client.log_metric(run.info.run_id, "ergonaut/carbon_grams_co2e", 0.5)
    client.create_registered_model("trained")
    client.create_model_version("trained", f"{run.info.artifact_uri}/model", run.info.run_id)

    async def fetched() -> Imported:
        async with open_registry(uri) as registry:
            return await registry.fetch("trained", "1")

    found = asyncio.run(fetched())
    assert (found.content, found.lineage.carbon_grams_co2e) == (b"an ONNX file", 0.5)
    assert not found.lineage.HasField("energy_joules")
