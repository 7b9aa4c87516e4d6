"""Registers a finished model with the system that runs here, and asks it one real question."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ergonaut.client import Client, Connection
from ergonaut.create.calling import one_row, request_json
from ergonaut.create.tensors import Feed, Spec
from ergonaut.errors import ErgonautError, NotFound, Unavailable
from ergonaut.local.home import Home
from ergonaut.tls import base_url

if TYPE_CHECKING:
    from ergonaut.api.inference.v1 import inference_pb2 as pb

START = "start it with `ergonaut up`, or give --no-serve"


@dataclass(frozen=True, slots=True)
class Served:
    """Which version it is, and where predictions go to."""

    version: int
    url: str
    page: str
    """Where a person can try it."""
    untold: str
    """Why it is not recorded what the run that trained it used; empty where it is, or where no run was named."""


def ensure_reachable() -> None:
    """Raise NotFound, with the one command that starts it, where no system is known; before any work is done for it."""
    try:
        connection = Connection.from_environment()
    except NotFound as error:
        raise NotFound(f"nothing runs here that could serve the model; {START}") from error
    if not connection.gateway_http:
        raise NotFound(f"where the gateway serves HTTP is not known; set ERGONAUT_GATEWAY_HTTP_ADDRESS, or {START}")


def serve(model: Path, name: str, *, run_id: str, signature: str) -> Served:
    """Deploy a model. Raises Unavailable where nothing answers."""
    with Client() as client:
        try:
            lineage, untold = _lineage(client, run_id)
            deployed = client.models.deploy(model, name, run_id=run_id, lineage=lineage, signature=signature)
        except Unavailable as error:
            raise Unavailable(f"{error}; {START}") from error
    address = Connection.from_environment().gateway_http
    base = f"{base_url(address)}/v2/models/{quote(name, safe='')}"
    return Served(deployed.version, f"{base}/infer", f"{base}/page", untold)


def _lineage(client: Client, run_id: str) -> "tuple[pb.Lineage | None, str]":
    """What the run used, else why that is not known, which is no reason not to serve."""
    if not run_id:
        return None, ""
    try:
        return client.models.lineage_of_run(run_id), ""
    except ErgonautError as error:
        return None, f"what {run_id} used is not recorded: {error}"


def first_prediction(name: str, specs: tuple[Spec, ...], feed: Feed) -> list[dict[str, Any]]:
    """What the gateway answers to one row."""
    with Client() as client:
        return list(client.models.predict(name, request_json(specs, one_row(specs, feed))["inputs"]))


def key_in_shell() -> str:
    """How a shell gets at the key, which is not for printing."""
    return f"$(cat {Home.from_environment().secrets / 'client.key'})"
