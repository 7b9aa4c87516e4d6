"""Models to and from MLflow's registry, over its REST API (https://mlflow.org/docs/latest/api_reference/rest-api.html) and its
server's artifact proxy; MLflow itself is not needed here. Used by `ergonaut models import-mlflow` and `export-mlflow`."""

import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from ergonaut.api.inference.v1 import inference_pb2 as pb
from ergonaut.errors import Broken, Conflict, NotAllowed, NotFound, Refused, Unavailable
from ergonaut.integrations.figures import PREFIX

TIMEOUT_SECONDS = 30.0
MODEL_BYTES_MAX = 512 * 1024 * 1024
"""The largest file that a gateway takes by default."""

EXPERIMENT = "ergonaut-models"
"""In which exported versions lie: MLflow keeps files by run, and runs by experiment."""

FIGURES = ("energy_joules", "carbon_grams_co2e", "cost_usd")
FOLDER = "model"

_API, _ARTIFACTS = "api/2.0/mlflow/", "api/2.0/mlflow-artifacts/artifacts"
_ERROR_OF_STATUS = {400: Refused, 401: NotAllowed, 403: NotAllowed, 404: NotFound, 409: Conflict, 429: Unavailable}
_MLMODEL = """artifact_path: model
flavors:
  onnx:
    code: null
    data: model.onnx
    providers: [CPUExecutionProvider]
  python_function:
    data: model.onnx
    loader_module: mlflow.onnx
"""


@dataclass(frozen=True, slots=True)
class Imported:
    """A version as MLflow keeps it."""

    name: str
    version: str
    content: bytes
    run_id: str
    lineage: pb.Lineage


@dataclass(frozen=True, slots=True)
class Exported:
    """A version that MLflow shall keep."""

    name: str
    content: bytes
    card: str
    facts: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    aliases: Sequence[str] = ()


@asynccontextmanager
async def open_registry(uri: str, transport: httpx.AsyncBaseTransport | None = None) -> AsyncIterator["MlflowRegistry"]:
    """The registry at an address, `http://host:port`; MLFLOW_TRACKING_TOKEN, or ..._USERNAME and ..._PASSWORD, let us in."""
    if urlsplit(uri).scheme not in ("http", "https"):
        raise Refused(f"{uri!r} is no address of an MLflow server; use http://host:port", field="--uri")
    token = os.environ.get("MLFLOW_TRACKING_TOKEN", "")
    user = os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    async with httpx.AsyncClient(
        base_url=uri.rstrip("/") + "/",
        headers={"authorization": f"Bearer {token}"} if token else {},
        auth=(user, os.environ.get("MLFLOW_TRACKING_PASSWORD", "")) if user and not token else None,
        timeout=TIMEOUT_SECONDS,
        transport=transport,
    ) as http:
        yield MlflowRegistry(http)


class MlflowRegistry:
    """A registry that answers over HTTP. Everything raises one of our errors, with what MLflow said."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def fetch(self, name: str, version: str) -> Imported:
        """A version by its number or an alias: its one ONNX file, and what its run used if our tracker told MLflow."""
        found = await self._version(name, version)
        number = str(found["version"])
        told = await self._ask("GET", "model-versions/get-download-uri", name=name, version=number)
        root = _proxied(told["artifact_uri"])
        content = await self._download(await self._onnx_in(root, f"version {number} of {name}"))
        run = await self._run(str(found.get("run_id") or ""))
        tags = _pairs(run.get("data", {}).get("tags", ())) | _pairs(found.get("tags", ()))
        return Imported(name, number, content, str(tags.get(f"{PREFIX}run_id", "")), _lineage(run, tags))

    async def store(self, exported: Exported) -> str:
        """Keep a version; gives the number that MLflow gave it."""
        try:
            await self._ask("POST", "registered-models/create", name=exported.name)
        except (Conflict, Refused) as error:
            if "RESOURCE_ALREADY_EXISTS" not in str(error):
                raise
        run = await self._new_run(exported)
        run_id, root = run["info"]["run_id"], f"{run['info']['artifact_uri']}/{FOLDER}"
        files = {"model.onnx": exported.content, "MLmodel": _MLMODEL.encode(), "README.md": exported.card.encode()}
        for file, content in files.items():
            await self._upload(f"{_proxied(root)}/{file}", content)
        await self._ask("POST", "runs/update", run_id=run_id, status="FINISHED")
        made = await self._ask(
            "POST",
            "model-versions/create",
            name=exported.name,
            source=root,
            run_id=run_id,
            description=exported.card[:5000],
            tags=_tags(exported.facts),
        )
        version = str(made["model_version"]["version"])
        for alias in exported.aliases:
            await self._ask("POST", "registered-models/alias", name=exported.name, alias=alias, version=version)
        return version

    async def _version(self, name: str, version: str) -> dict[str, Any]:
        if version.isdigit():
            told = await self._ask("GET", "model-versions/get", name=name, version=version)
        else:
            told = await self._ask("GET", "registered-models/alias", name=name, alias=version)
        found: dict[str, Any] = told["model_version"]
        return found

    async def _run(self, run_id: str) -> dict[str, Any]:
        """The run that made it, or nothing where there is none any more."""
        if not run_id:
            return {}
        try:
            found: dict[str, Any] = (await self._ask("GET", "runs/get", run_id=run_id))["run"]
        except NotFound:
            return {}
        return found

    async def _new_run(self, exported: Exported) -> dict[str, Any]:
        try:
            told = await self._ask("GET", "experiments/get-by-name", experiment_name=EXPERIMENT)
            experiment_id = told["experiment"]["experiment_id"]
        except NotFound:
            experiment_id = (await self._ask("POST", "experiments/create", name=EXPERIMENT))["experiment_id"]
        made = await self._ask(
            "POST",
            "runs/create",
            experiment_id=experiment_id,
            run_name=exported.name,
            tags=_tags(exported.facts),
        )
        run: dict[str, Any] = made["run"]
        metrics = [
            {"key": f"{PREFIX}{key}", "value": value, "timestamp": run["info"]["start_time"] or 0, "step": 0}
            for key, value in exported.figures.items()
        ]
        await self._ask("POST", "runs/log-batch", run_id=run["info"]["run_id"], metrics=metrics)
        return run

    async def _onnx_in(self, root: str, what: str) -> str:
        """The path of the only ONNX file directly in a folder of the artifact store."""
        listed = await self._answer("GET", _ARTIFACTS, params={"path": root})
        files = [each["path"] for each in _document(listed).get("files", ()) if not each.get("is_dir")]
        found = [path for path in files if path.endswith(".onnx")]
        if len(found) != 1:
            told = ", ".join(sorted(files)) or "nothing"
            raise Refused(f"{what} holds {len(found)} ONNX files, wanted is one; it holds {told}", field="version")
        name: str = found[0].rpartition("/")[2]
        return f"{root}/{name}"

    async def _download(self, path: str) -> bytes:
        pieces, size_bytes = [], 0
        async with self._http.stream("GET", f"{_ARTIFACTS}/{quote(path)}") as answer:
            if answer.is_error:
                await answer.aread()
                _check(answer, path)
            async for piece in answer.aiter_bytes():
                size_bytes += len(piece)
                if size_bytes > MODEL_BYTES_MAX:
                    raise Refused(f"{path} is larger than {MODEL_BYTES_MAX} bytes", field="version")
                pieces.append(piece)
        return b"".join(pieces)

    async def _upload(self, path: str, content: bytes) -> None:
        await self._answer("PUT", f"{_ARTIFACTS}/{quote(path)}", content=content)

    async def _ask(self, method: str, page: str, **told: Any) -> dict[str, Any]:
        sent: dict[str, Any] = {"params": told} if method == "GET" else {"json": told}
        return _document(await self._answer(method, _API + page, **sent))

    async def _answer(self, method: str, path: str, **sent: Any) -> httpx.Response:
        try:
            answer = await self._http.request(method, path, **sent)
        except httpx.HTTPError as error:
            raise Unavailable(f"MLflow at {self._http.base_url} does not answer: {error}") from error
        _check(answer, path)
        return answer


def _check(answer: httpx.Response, path: str) -> None:
    """Raise what an answer means."""
    if not answer.is_error:
        return
    try:
        told = answer.json()
        words = f"{told['error_code']}: {told['message']}"
    except (ValueError, KeyError, TypeError):
        words = answer.text[:200]
    kind = _ERROR_OF_STATUS.get(answer.status_code, Unavailable if answer.status_code >= 500 else Broken)
    raise kind(f"MLflow refused {path.removeprefix(_API)}: {words}")


def _document(answer: httpx.Response) -> dict[str, Any]:
    try:
        told = answer.json()
    except ValueError as error:
        raise Broken(f"{answer.url} is no MLflow server: it does not answer JSON") from error
    if not isinstance(told, dict):
        raise Broken(f"{answer.url} is no MLflow server: it answers {json.dumps(told)[:100]}")
    return told


def _proxied(uri: str) -> str:
    """The path within the server's artifact store. Raises Refused for files that lie elsewhere, which only MLflow can read."""
    parts = urlsplit(uri)
    if parts.scheme != "mlflow-artifacts":
        raise Refused(f"the files are at {uri}; let the MLflow server keep them (`--serve-artifacts`)", field="--uri")
    path = parts.path.strip("/")
    if ".." in path.split("/"):
        raise Broken(f"MLflow tells files at {uri}, outside of its store")
    return path


def _lineage(run: Mapping[str, Any], tags: Mapping[str, Any]) -> pb.Lineage:
    """What the run used, where our tracker or an export told MLflow; what it does not know is left out."""
    metrics = _pairs(run.get("data", {}).get("metrics", ()))
    lineage = pb.Lineage(framework=tags.get(f"{PREFIX}framework", ""), data_digest=tags.get(f"{PREFIX}data_digest", ""))
    share = metrics.get(f"{PREFIX}range_fraction")
    for name in FIGURES:
        value = metrics.get(f"{PREFIX}{name}")
        if value is None:
            continue
        setattr(lineage, name, value)
        doubt = metrics.get(f"{PREFIX}{name}_range", None if share is None else value * share)
        if doubt is not None:
            setattr(lineage, f"{name}_range", doubt)
    return lineage


def _pairs(listed: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {each["key"]: each["value"] for each in listed}


def _tags(facts: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": f"{PREFIX}{key}", "value": value} for key, value in facts.items() if value]
