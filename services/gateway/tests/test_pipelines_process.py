"""Pipelines on a whole process with a real NATS: applied from files by the CLI, asked by tritonclient, changed under load without
a failure, there after a kill."""

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import grpc
import numpy as np
import onnxruntime
import pytest
import typer
import yaml
from typer.testing import CliRunner

from ergonaut.api.inference.v1 import pipelines_pb2 as pb
from ergonaut.api.inference.v1.inference_pb2_grpc import ModelServiceStub
from ergonaut.api.inference.v1.pipelines_pb2_grpc import PipelineServiceStub
from ergonaut.cli import pipelines as commands
from ergonaut.pipelinefile import read_pipeline
from ergonaut_common.testing import key_ring_file

from .pipeline_models import WIDTH, classifier, rows, scaler
from .test_process import PATIENCE_SECONDS, Site, deploy, healthy, made_site

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).parents[3] / "examples" / "pipelines"
CHANGES = 30
CALLERS = 8

app = typer.Typer()
commands.register(app)
Ergonaut = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
def site(nats_url: str, tmp_path: Path) -> Site:
    tenant = f"t-{uuid4().hex[:8]}"
    return made_site(nats_url, tmp_path / "one", key_ring_file(tmp_path, (tenant, "stranger")), tenant)


@pytest.fixture
def ergonaut(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ergonaut:
    """Runs `ergonaut pipelines` against the site; gives the exit code and what was printed."""
    monkeypatch.setenv("ERGONAUT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ERGONAUT_API_KEY", site.process.keys[site.tenant])
    monkeypatch.setenv("ERGONAUT_GATEWAY_ADDRESS", site.process.address)
    monkeypatch.setenv("COLUMNS", "200")

    async def run(*arguments: str | Path) -> tuple[int, str]:
        done = await asyncio.to_thread(CliRunner().invoke, app, ["pipelines", *(str(each) for each in arguments)])
        return done.exit_code, done.stdout + done.stderr

    return run


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models of the example, and the file of images with what they give, by onnxruntime alone."""
    for library in ("sklearn", "skl2onnx"):
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed, which makes the example's models")
    folder = tmp_path_factory.mktemp("digits")
    # On a busy machine several threads wait for one another most of the time.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, str(EXAMPLES / "train.py"), str(folder)], check=True, timeout=100, env=environment)
    images = np.load(folder / "held_out.npz")["images"][:64]
    given = images
    for name in ("scaler", "large"):
        session = onnxruntime.InferenceSession(folder / f"{name}.onnx")
        given = session.run(None, {"X": given})[0] if name == "scaler" else session.run(None, {"X": given})
    np.savez(folder / "expected.npz", images=images, label=given[0], probabilities=given[1])
    return folder


async def deployed(stub: ModelServiceStub, site: Site, folder: Path) -> None:
    for name in ("scaler", "small", "large"):
        await deploy(stub, site, (folder / f"{name}.onnx").read_bytes(), f"digits-{name}")


async def test_the_examples_are_applied_from_files_and_asked_by_tritonclient(
    site: Site, digits: Path, ergonaut: Ergonaut, tmp_path: Path
) -> None:
    with site.process.running():
        async with healthy(site) as stub, site.http as http:
            code, told = await ergonaut("check", EXAMPLES / "plain.yaml")
            assert (code, "node main, step 1 (digits-scaler): no model digits-scaler is served" in told) == (65, True)
            await deployed(stub, site, digits)
            code, told = await ergonaut("check", EXAMPLES / "plain.yaml")
            assert (code, told.splitlines()[:2]) == (0, ["digits-plain fits together", "  takes image FP32 [-1, 64]"])
            for name in ("plain", "both", "sure"):
                code, told = await ergonaut("apply", EXAMPLES / f"{name}.yaml", "--expected", "0")
                assert (code, told.splitlines()[0]) == (0, f"digits-{name} is served as revision 1")
            code, told = await ergonaut("apply", EXAMPLES / "plain.yaml", "--expected", "0")
            assert (code, "pipeline digits-plain has revision 1, and none was expected" in told) == (73, True)
            _, told = await ergonaut("show", "digits-plain")
            assert "main: sequence  (is one model, fused-" in told
            assert "2 digits-large: model digits-large 1" in told
            _, told = await ergonaut("show", "digits-sure")
            assert "1 pass: hands on  when max of probabilities ge 0.6  [label]" in told
            _, told = await ergonaut("list", "--json")
            assert [each["pipeline"]["name"] for each in json.loads(told)] == [
                "digits-both",
                "digits-plain",
                "digits-sure",
            ]
            _, told = await ergonaut("get", "digits-sure")
            assert read_pipeline(yaml.safe_load(told), told="told").nodes[0].steps[2].node == "sure-enough"
            script = Path(__file__).with_name("pipeline_triton_script.py")
            addresses = [site.http_address, site.process.address, site.process.keys[site.tenant]]
            command = [sys.executable, str(script), *addresses, str(digits / "expected.npz")]
            done = await asyncio.to_thread(
                subprocess.run, command, capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode == 0, done.stderr
            image = {"name": "image", "shape": [1, 64], "datatype": "FP32", "data": [0.0] * 64}
            for name in ("digits-both", "digits-sure"):
                answer = await http.post(f"/v2/models/{name}/infer", json={"inputs": [image]})
                assert answer.status_code == 200, answer.text
            wrong = {**image, "shape": [1, 3], "data": [0.0] * 3}
            answer = await http.post("/v2/models/digits-both/infer", json={"inputs": [wrong]})
            assert (answer.status_code, "inputs.image.shape" in answer.text) == (400, True)
            assert (await ergonaut("remove", "digits-both"))[0] == 0
            assert (await ergonaut("get", "digits-both"))[0] == 66
            assert (await http.get("/v2/models/digits-both")).status_code == 404


def small_or_large(name: str) -> pb.Pipeline:
    """A pipeline of the scaler and one of two classifiers."""
    steps = [pb.PipelineStep(model="scaler", version="1"), pb.PipelineStep(model=name, version="1")]
    return pb.Pipeline(name="checked", nodes=[pb.PipelineNode(name="main", kind=pb.NODE_KIND_SEQUENCE, steps=steps)])


async def test_a_pipeline_and_its_models_change_under_load_and_no_request_fails(site: Site) -> None:
    x = {"name": "x", "shape": [1, WIDTH], "datatype": "FP32", "data": rows(1)[0].tolist()}
    over = asyncio.Event()
    seen: set[int] = set()
    with site.process.running():
        async with site.process.healthy("inference.GRPCInferenceService") as channel, site.http as http:
            models, pipelines = ModelServiceStub(channel), PipelineServiceStub(channel)
            for name, content in (("scaler", scaler()), ("small", classifier(1)), ("large", classifier(2))):
                await deploy(models, site, content, name)
            metadata = site.process.metadata(site.tenant)

            async def apply(name: str) -> pb.ServedPipeline:
                request = pb.ApplyPipelineRequest(pipeline=small_or_large(name))
                return (await pipelines.ApplyPipeline(request, metadata=metadata, timeout=PATIENCE_SECONDS)).pipeline

            assert (await apply("small")).fusions[0].model
            strange = site.process.metadata("stranger")
            with pytest.raises(grpc.aio.AioRpcError) as missing:
                await pipelines.GetPipeline(pb.GetPipelineRequest(name="checked"), metadata=strange)
            assert missing.value.code() == grpc.StatusCode.NOT_FOUND

            async def ask() -> int:
                asked = 0
                while not over.is_set():
                    answer = await http.post("/v2/models/checked/infer", json={"inputs": [x]})
                    assert answer.status_code == 200, answer.text
                    seen.add(int(answer.json()["model_version"]))
                    asked += 1
                return asked

            callers = [asyncio.create_task(ask()) for _ in range(CALLERS)]
            for at in range(CHANGES):
                told = await apply("large" if at % 2 == 0 else "small")
                assert told.pipeline.revision == at + 2
                if at % 10 == 0:
                    await deploy(models, site, classifier(at + 10), "small")
            over.set()
            assert sum(await asyncio.gather(*callers)) > CHANGES
            assert len(seen) > 3
        site.process.kill()
    with site.process.running():
        async with site.process.healthy("inference.GRPCInferenceService") as channel, site.http as http:
            told = await PipelineServiceStub(channel).GetPipeline(
                pb.GetPipelineRequest(name="checked"), metadata=metadata
            )
            assert (told.pipeline.pipeline.revision, len(told.history)) == (CHANGES + 1, 20)
            answer = await http.post("/v2/models/checked/infer", json={"inputs": [x]})
            assert (answer.status_code, answer.json()["model_version"]) == (200, str(CHANGES + 1))


async def test_a_pipeline_that_one_worker_changed_is_answered_by_all_at_once(site: Site) -> None:
    site.process.environment["ERGONAUT_GATEWAY_WORKERS"] = "2"
    x = {"name": "x", "shape": [1, WIDTH], "datatype": "FP32", "data": rows(1)[0].tolist()}
    with site.process.running():
        async with site.process.healthy("inference.GRPCInferenceService") as channel:
            models, pipelines = ModelServiceStub(channel), PipelineServiceStub(channel)
            for name, content in (("scaler", scaler()), ("small", classifier(1)), ("large", classifier(2))):
                await deploy(models, site, content, name)
            metadata = site.process.metadata(site.tenant)
            for revision in range(1, 9):
                request = pb.ApplyPipelineRequest(pipeline=small_or_large("small" if revision % 2 else "large"))
                served = (await pipelines.ApplyPipeline(request, metadata=metadata, timeout=PATIENCE_SECONDS)).pipeline
                assert served.fusions[0].model, served.fusions[0].because
                seen = set()
                # A connection is one worker's, so several of them ask both.
                for _ in range(4):
                    async with site.http as http:
                        answer = await http.post("/v2/models/checked/infer", json={"inputs": [x]})
                        assert answer.status_code == 200, answer.text
                        seen.add(answer.json()["model_version"])
                assert seen == {str(revision)}
