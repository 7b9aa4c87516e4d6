"""As much of MLflow's REST API and artifact proxy as its registry needs, answering as MLflow 3.17 was recorded to answer.

`tests/ml/test_mlflow_registry.py` holds the same client to the real server.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

API, ARTIFACTS = "/api/2.0/mlflow/", "/api/2.0/mlflow-artifacts/artifacts"


class Missing(Exception):
    """MLflow's answer to a question for what is not there."""


class Mlflow:
    """What the server keeps."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.versions: dict[tuple[str, str], dict[str, Any]] = {}
        self.aliases: dict[tuple[str, str], str] = {}
        self.experiments: dict[str, str] = {}

    def answer(self, page: str, told: dict[str, Any]) -> dict[str, Any]:
        return getattr(self, "_" + page.replace("/", "_").replace("-", "_"))(**told)

    def _registered_models_create(self, name: str) -> dict[str, Any]:
        if any(known == name for known, _ in self.versions):
            raise ValueError("RESOURCE_ALREADY_EXISTS")
        return {"registered_model": {"name": name}}

    def _registered_models_alias(self, name: str, alias: str, version: str = "") -> dict[str, Any]:
        if version:
            self.aliases[name, alias] = version
            return {}
        if (name, alias) not in self.aliases:
            raise ValueError("INVALID_PARAMETER_VALUE")
        return self._model_versions_get(name, self.aliases[name, alias])

    def _model_versions_get(self, name: str, version: str) -> dict[str, Any]:
        if (name, version) not in self.versions:
            raise Missing(f"Model Version (name={name}, version={version}) not found")
        return {"model_version": self.versions[name, version]}

    def _model_versions_get_download_uri(self, name: str, version: str) -> dict[str, Any]:
        return {"artifact_uri": self.versions[name, version]["source"]}

    def _model_versions_create(self, name: str, **told: Any) -> dict[str, Any]:
        version = str(1 + sum(known == name for known, _ in self.versions))
        self.versions[name, version] = {"name": name, "version": version, **told}
        return {"model_version": self.versions[name, version]}

    def _experiments_get_by_name(self, experiment_name: str) -> dict[str, Any]:
        if experiment_name not in self.experiments:
            raise Missing(f"Could not find experiment with name '{experiment_name}'")
        return {"experiment": {"experiment_id": self.experiments[experiment_name]}}

    def _experiments_create(self, name: str) -> dict[str, Any]:
        self.experiments[name] = str(len(self.experiments) + 1)
        return {"experiment_id": self.experiments[name]}

    def _runs_create(self, experiment_id: str, tags: list[Any], **_: Any) -> dict[str, Any]:
        run_id = f"{len(self.runs):032x}"
        uri = f"mlflow-artifacts:/{experiment_id}/{run_id}/artifacts"
        info = {"run_id": run_id, "artifact_uri": uri, "start_time": 0, "status": "RUNNING"}
        self.runs[run_id] = {"info": info, "data": {"tags": tags}}
        return {"run": self.runs[run_id]}

    def _runs_get(self, run_id: str) -> dict[str, Any]:
        if run_id not in self.runs:
            raise Missing(f"Run with id={run_id} not found")
        return {"run": self.runs[run_id]}

    def _runs_log_batch(self, run_id: str, metrics: list[Any]) -> dict[str, Any]:
        self.runs[run_id]["data"]["metrics"] = metrics
        return {}

    def _runs_update(self, run_id: str, status: str) -> dict[str, Any]:
        self.runs[run_id]["info"]["status"] = status
        return {}


@contextmanager
def mlflow_server() -> Iterator[tuple[str, Mlflow]]:
    """A server on a free port: its address and what it keeps."""
    kept = Mlflow()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            told = dict(parse_qsl(parts.query))
            if parts.path == ARTIFACTS:
                files = [path for path in kept.files if path.startswith(told["path"] + "/")]
                listed = [{"path": path.rpartition("/")[2], "is_dir": False} for path in files]
                return self._tell(200, {"files": listed})
            if parts.path.startswith(ARTIFACTS):
                return self._send(200, kept.files[unquote(parts.path.removeprefix(ARTIFACTS + "/"))])
            return self._ask(parts.path.removeprefix(API), told)

        def do_POST(self) -> None:
            self._ask(self.path.removeprefix(API), json.loads(self._body()))

        def do_PUT(self) -> None:
            kept.files[unquote(self.path.removeprefix(ARTIFACTS + "/"))] = self._body()
            self._tell(200, {})

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers["content-length"]))

        def _ask(self, page: str, told: dict[str, Any]) -> None:
            try:
                self._tell(200, kept.answer(page, told))
            except Missing as error:
                self._tell(404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": str(error)})
            except ValueError as error:
                self._tell(400, {"error_code": str(error), "message": "as MLflow says"})

        def _tell(self, status: int, document: dict[str, Any]) -> None:
            self._send(status, json.dumps(document).encode())

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", kept
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
