"""The routes of the Open Inference Protocol over HTTP, on starlette: find the caller, call the service, write the answer."""

from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ergonaut.errors import (
    Broken,
    Conflict,
    ErgonautError,
    NotAllowed,
    NotFound,
    Refused,
    Unavailable,
)
from ergonaut.keys import Scope
from ergonaut_common.auth import Caller, KeyRing
from ergonaut_common.observe import carried_context, get_logger, span
from ergonaut_common.rpc.calls import TENANT_METADATA
from ergonaut_gateway.domain.models import ModelRecord, TensorSpec
from ergonaut_gateway.http.bodies import Bodies, BodyLimits
from ergonaut_gateway.protocol.http_wire import HEADER_LENGTH, decode_request, encode_answer
from ergonaut_gateway.protocol.json_tensors import dump
from ergonaut_gateway.protocol.server import EXTENSIONS, PLATFORM, SERVER_NAME
from ergonaut_gateway.service import Catalogue, Predictions

# In order: a subclass stands before its base.
_STATUS: tuple[tuple[type[ErgonautError], int], ...] = (
    (NotAllowed, 403),
    (Refused, 400),
    (NotFound, 404),
    (Conflict, 409),
    (Unavailable, 503),
    (Broken, 500),
)

Handler = Callable[[Request], Awaitable[Response]]
log = get_logger(__name__)


def routes(catalogue: Catalogue, predictions: Predictions, keys: KeyRing, limits: BodyLimits) -> Starlette:
    """The application; any ASGI server can carry it."""
    door = InferenceRoutes(catalogue, predictions, keys, Bodies(limits))
    model = "/v2/models/{model}"
    pages = [("POST", "/infer", door.infer), ("GET", "/ready", door.model_ready), ("GET", "", door.model)]
    listed = [
        Route(f"{prefix}{page}", _told(handler), methods=[method])
        for prefix in (model, f"{model}/versions/{{version}}")
        for method, page, handler in pages
    ]
    listed += [
        Route("/v2/health/live", _told(door.live)),
        Route("/v2/health/ready", _told(door.ready)),
        Route("/v2", _told(door.server)),
        Route("/v2/repository/index", _told(door.index), methods=["POST"]),
    ]
    return Starlette(routes=listed, exception_handlers={HTTPException: _unrouted})


class InferenceRoutes:
    """Answers for each route."""

    def __init__(self, catalogue: Catalogue, predictions: Predictions, keys: KeyRing, bodies: Bodies) -> None:
        self._catalogue = catalogue
        self._predictions = predictions
        self._keys = keys
        self._bodies = bodies

    async def live(self, _: Request) -> Response:
        """Whether the process answers; open to probes."""
        return _json({"live": True})

    async def ready(self, _: Request) -> Response:
        """Whether predictions are taken; open to probes."""
        ready = self._predictions.ready
        return _json({"ready": ready}, status=200 if ready else 503)

    async def server(self, request: Request) -> Response:
        """What this server is."""
        self._caller(request)
        return _json({"name": SERVER_NAME, "version": version("ergonaut-gateway"), "extensions": EXTENSIONS})

    async def model(self, request: Request) -> Response:
        """What a model takes and gives."""
        name, number = _model_named(request)
        record = self._catalogue.find(self._caller(request).tenant, name, number).record
        return _json(
            {
                "name": record.name,
                "versions": [str(record.version)],
                "platform": PLATFORM,
                "inputs": [_spec(spec) for spec in record.signature.inputs],
                "outputs": [_spec(spec) for spec in record.signature.outputs],
            }
        )

    async def model_ready(self, request: Request) -> Response:
        """Whether a model can be asked."""
        name, number = _model_named(request)
        self._catalogue.find(self._caller(request).tenant, name, number)
        return _json({"name": name, "ready": True})

    async def index(self, request: Request) -> Response:
        """All models of the caller's tenant."""
        return _json([self._indexed(record) for record in self._catalogue.list(self._caller(request).tenant)])

    async def infer(self, request: Request) -> Response:
        """Predict."""
        tenant = self._caller(request).tenant
        name, number = _model_named(request)
        async with self._bodies.held(request) as body:
            with carried_context(request.headers), span("infer", model=name):
                wanted, binary = decode_request(body, request.headers.get(HEADER_LENGTH))
                answer = await self._predictions.infer(tenant, name, number, wanted)
                content, json_bytes = encode_answer(answer, binary)
        if json_bytes is None:
            return Response(content, media_type="application/json")
        headers = {HEADER_LENGTH: str(json_bytes)}
        return Response(content, media_type="application/octet-stream", headers=headers)

    def _caller(self, request: Request) -> Caller:
        try:
            who = self._keys.authenticate(request.headers.get("authorization", ""))
        except NotAllowed as error:
            raise HTTPException(401, str(error), headers={"WWW-Authenticate": "Bearer"}) from error
        who.require(Scope.READ)
        if tenant := request.headers.get(TENANT_METADATA):
            who = who.acting_for(tenant)
        if not who.tenant:
            raise NotAllowed(f"{who.principal} belongs to no tenant; say for whom you act in {TENANT_METADATA}")
        return who

    def _indexed(self, record: ModelRecord) -> dict[str, str]:
        if self._catalogue.is_current(record):
            return {"name": record.name, "version": str(record.version), "state": "READY", "reason": ""}
        reason = "could not be loaded yet"
        return {"name": record.name, "version": str(record.version), "state": "UNAVAILABLE", "reason": reason}


def _told(handler: Handler) -> Handler:
    """Around a handler: what goes wrong becomes a status and one clear sentence."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except HTTPException:
            raise
        except ErgonautError as error:
            status = next(status for kind, status in _STATUS if isinstance(error, kind))
            return _error(status, str(error))
        except Exception as error:
            log.exception("request failed", path=request.url.path)
            # The words of an unforeseen error may hold what is not the caller's to see; they are in the log.
            return _error(500, f"an unforeseen {type(error).__name__}; the gateway's log tells more")

    return answer


async def _unrouted(_: Request, error: Exception) -> Response:
    """Answer for what starlette or the key check turned away."""
    assert isinstance(error, HTTPException), "registered for this kind only"
    return _error(error.status_code, error.detail, headers=dict(error.headers or {}))


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    retry = {"Retry-After": "1"} if status == 503 else {}
    return _json({"error": message}, status=status, headers={**retry, **(headers or {})})


def _json(document: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(dump(document), status_code=status, media_type="application/json", headers=headers)


def _model_named(request: Request) -> tuple[str, str]:
    return request.path_params["model"], request.path_params.get("version", "")


def _spec(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}
