"""The Open Inference Protocol over HTTP, with Triton's extensions for the model repository and for statistics."""

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from typing import Any

import msgspec

from ergonaut.errors import Refused, Unavailable
from ergonaut.keys import Scope
from ergonaut_common.observe import SpanEnd, opened_span
from ergonaut_gateway.domain.inference import InferenceAnswer, InferenceRequest
from ergonaut_gateway.domain.models import ModelRecord, TensorSpec
from ergonaut_gateway.domain.tallies import Spent, Statistics
from ergonaut_gateway.domain.tensors import BYTES
from ergonaut_gateway.http.answers import answer_error, answer_json
from ergonaut_gateway.http.asking import decoded
from ergonaut_gateway.http.callers import Callers
from ergonaut_gateway.http.exchange import JSON, OCTETS, Exchange, Headers
from ergonaut_gateway.http.gathering import Gathering
from ergonaut_gateway.http.router import Router
from ergonaut_gateway.http.unoffered import Unoffered
from ergonaut_gateway.protocol.http_wire import BINARY, HEADER_LENGTH, USUAL, Terms, decode_request, encode_answer
from ergonaut_gateway.protocol.repository import indexed, ready_versions
from ergonaut_gateway.protocol.server import EXTENSIONS, SERVER_NAME, platform_of
from ergonaut_gateway.service import Catalogue, Models, Predictions
from ergonaut_gateway.service.footprint import ASKING, YES, Footprint, headers_of, metered, traced
from ergonaut_gateway.service.lanes import Done
from ergonaut_gateway.service.predictions import Wish

_HEADER_LENGTH = HEADER_LENGTH.lower()
_VERSION = version("ergonaut-gateway")


ASK_BYTES_MAX = 1024 * 1024
"""Of what is asked of the repository; nothing that is taken is nearly as long."""


class _Ask(msgspec.Struct):
    """What the bodies of the repository extension say that matters here."""

    ready: bool = False
    parameters: dict[str, Any] = {}


_asks = msgspec.json.Decoder(_Ask)


class InferenceDoor:
    """Answers for each path of the protocol."""

    def __init__(self, models: Models, catalogue: Catalogue, predictions: Predictions, callers: Callers) -> None:
        self._models = models
        self._catalogue = catalogue
        self._predictions = predictions
        self._callers = callers
        self._gathering = Gathering(predictions, self)

    def add_to(self, router: Router) -> None:
        """Have a router send the protocol's paths here."""
        for prefix in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            router.add("POST", f"{prefix}/infer", self._gathering.answer, admit=self._admit)
            router.add("GET", prefix, self.model)
            router.add("GET", f"{prefix}/ready", self.model_ready)
            router.add("GET", f"{prefix}/config", self.config)
            router.add("GET", f"{prefix}/stats", self.statistics)
        router.add("GET", "/v2/models/stats", self.all_statistics)
        router.add("GET", "/v2/health/live", self.live)
        router.add("GET", "/v2/health/ready", self.ready)
        router.add("GET", "/v2", self.server)
        router.add("POST", "/v2/repository/index", self.index, admit=self._admit)
        router.add("POST", "/v2/repository/models/{model}/load", self.load, admit=self._admit)
        router.add("POST", "/v2/repository/models/{model}/unload", self.unload, admit=self._admit)
        Unoffered(self._callers).add_to(router)

    def live(self, exchange: Exchange) -> None:
        """Whether the process answers; open to probes."""
        answer_json(exchange, {"live": True})

    def ready(self, exchange: Exchange) -> None:
        """Whether predictions are taken; open to probes."""
        ready = self._predictions.ready
        answer_json(exchange, {"ready": ready}, status=200 if ready else 503)

    def server(self, exchange: Exchange) -> None:
        """What this server is."""
        self._admit(exchange)
        answer_json(exchange, {"name": SERVER_NAME, "version": _VERSION, "extensions": EXTENSIONS})

    def model(self, exchange: Exchange) -> None:
        """What a model takes and gives."""
        record = self._found(exchange)
        platform, _ = platform_of(record)
        answer_json(
            exchange,
            {
                "name": record.name,
                "versions": [str(record.version)],
                "platform": platform,
                "inputs": [_spec(spec) for spec in record.signature.inputs],
                "outputs": [_spec(spec) for spec in record.signature.outputs],
            },
        )

    def config(self, exchange: Exchange) -> None:
        """A model as Triton's configurations describe it; batching is not told, since the shapes say what may vary."""
        record = self._found(exchange)
        platform, backend = platform_of(record)
        answer_json(
            exchange,
            {
                "name": record.name,
                "platform": platform,
                "backend": backend,
                "max_batch_size": 0,
                "input": [_configured(spec) for spec in record.signature.inputs],
                "output": [_configured(spec) for spec in record.signature.outputs],
            },
        )

    def model_ready(self, exchange: Exchange) -> None:
        """Whether a model can be asked."""
        answer_json(exchange, {"name": self._found(exchange).name, "ready": True})

    def singly(self, exchange: Exchange) -> None:
        """Predict for a request by itself; the answer comes by callback, so that it costs no task."""
        request, values = exchange.request, exchange.path_values
        headers = request.headers
        tenant = self._callers.of(headers).tenant
        wanted, terms = decode_request(request.body, headers.get(_HEADER_LENGTH))
        deadline_seconds = None
        if terms.timeout_seconds is not None:
            # The loop's clock, read anew: uvloop's own reading is as old as its turn.
            deadline_seconds = time.monotonic() + terms.timeout_seconds
        name, version = values["model"], values.get("version", "")
        wish = Wish(tenant, name, version, deadline_seconds, terms.priority, terms.parameters)
        footprint = None
        if terms.energy or headers.get(ASKING) in YES:
            wanted, footprint = metered(wanted, self._predictions.energy)
        span = opened_span("infer", headers, model=wish.model)
        if span is not None and span.context is not None:
            wanted = traced(wanted, span.context)
        if (terms is USUAL or terms is BINARY) and span is None and footprint is None:
            self._gathering.note(exchange, wish, terms, self._callers.known_until(headers))
        self._submit(exchange, wish, wanted, partial(_answer, exchange, terms, span, footprint))

    def submit(self, exchange: Exchange, wish: Wish, wanted: InferenceRequest, terms: Terms) -> None:
        """Predict for a request that was read."""
        self._submit(exchange, wish, wanted, partial(self.answer, exchange, terms))

    def answer(self, exchange: Exchange, terms: Terms, outcome: InferenceAnswer | BaseException) -> None:
        """Answer a request that nobody traces or weighs."""
        _answer(exchange, terms, None, None, outcome)

    def index(self, exchange: Exchange) -> None:
        """The models of the caller's tenant, each with its versions; only those that are ready where that is asked for."""
        tenant = self._callers.of(exchange.request.headers).tenant
        only_ready = _ask(exchange).ready
        answer_json(exchange, indexed(self._catalogue, self._predictions.plans, tenant, only_ready=only_ready))

    async def load(self, exchange: Exchange) -> None:
        """Hold a model ready from now on."""
        tenant = self._callers.of(exchange.request.headers, Scope.WRITE).tenant
        if given := _ask(exchange).parameters:
            raise Refused(
                "is not supported; files and configurations come with a deployment", field=f"parameters.{min(given)}"
            )
        await self._models.load(tenant, exchange.path_values["model"])
        answer_json(exchange, {})

    async def unload(self, exchange: Exchange) -> None:
        """Hold a model ready no longer; it is kept and can be loaded again."""
        tenant = self._callers.of(exchange.request.headers, Scope.WRITE).tenant
        _ask(exchange)
        await self._models.unload(tenant, exchange.path_values["model"])
        answer_json(exchange, {})

    def statistics(self, exchange: Exchange) -> None:
        """What a model did since it was loaded: one version, or all that are ready."""
        tenant = self._callers.of(exchange.request.headers).tenant
        name, wanted = exchange.path_values["model"], exchange.path_values.get("version", "")
        found = self._predictions.record_of(tenant, name, wanted)
        versions = [found] if wanted or not found.file else ready_versions(self._catalogue, tenant, name)
        answer_json(exchange, {"model_stats": [self._counted(record) for record in versions]})

    def all_statistics(self, exchange: Exchange) -> None:
        """What all models of the caller's tenant did."""
        tenant = self._callers.of(exchange.request.headers).tenant
        versions = ready_versions(self._catalogue, tenant)
        answer_json(exchange, {"model_stats": [self._counted(record) for record in versions]})

    def _submit(self, exchange: Exchange, wish: Wish, wanted: InferenceRequest, done: Done) -> None:
        ticket = self._predictions.submit(wish, wanted, done)
        if not exchange.over:
            exchange.on_gone(ticket.cancel)

    def _admit(self, exchange: Exchange) -> None:
        self._callers.of(exchange.request.headers)

    def _found(self, exchange: Exchange) -> ModelRecord:
        tenant = self._callers.of(exchange.request.headers).tenant
        values = exchange.path_values
        return self._predictions.record_of(tenant, values["model"], values.get("version", ""))

    def _counted(self, record: ModelRecord) -> dict[str, Any]:
        statistics = self._predictions.statistics(record.tenant, record.name, str(record.version))
        return {"name": record.name} | _statistics(statistics)


def _answer(
    exchange: Exchange,
    terms: Terms,
    span: SpanEnd | None,
    footprint: Footprint | None,
    outcome: InferenceAnswer | BaseException,
) -> None:
    """Write an answer, or why there is none."""
    told: Mapping[str, Any] | None = None
    headers: Headers = ()
    try:
        if isinstance(outcome, BaseException):
            raise outcome
        if footprint is not None:
            told = footprint()
            headers = headers_of(told)
        content, json_bytes = encode_answer(outcome, terms, told)
    except asyncio.CancelledError:
        answer_error(exchange, Unavailable("the request was dropped; ask again"))
        return
    except Exception as error:
        answer_error(exchange, error)
        if span is not None:
            span(error)
        return
    if json_bytes is None:
        exchange.answer(200, content, JSON, headers)
    else:
        headers = ((HEADER_LENGTH, str(json_bytes)), *headers)
        exchange.answer(200, content, OCTETS, headers)
    if span is not None:
        span(None)


def _ask(exchange: Exchange) -> _Ask:
    body = exchange.request.body
    if not body:
        return _Ask()
    if len(body) > ASK_BYTES_MAX:
        raise Refused(f"is larger than {ASK_BYTES_MAX} bytes; files come with a deployment", field="body")
    return decoded(_asks, body)


def _spec(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}


def _configured(spec: TensorSpec) -> dict[str, Any]:
    kind = "STRING" if spec.datatype == BYTES else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": spec.shape}


def _statistics(told: Statistics) -> dict[str, Any]:
    """As Triton writes them; what is not measured apart from the rest has a count of 0."""
    unknown = _spent(Spent())
    return {
        "parameters": told.energy,
        "version": str(told.version),
        "last_inference": told.last_inference_ms,
        "inference_count": told.inferences,
        "execution_count": told.executions,
        "inference_stats": {
            "success": _spent(told.success),
            "fail": _spent(told.fail),
            "queue": _spent(told.queue),
            "compute_input": _spent(told.compute_input),
            "compute_infer": _spent(told.compute_infer),
            "compute_output": _spent(told.compute_output),
            "cache_hit": _spent(told.cache_hit),
            "cache_miss": _spent(told.cache_miss),
        },
        "batch_stats": [
            {"batch_size": rows, "compute_input": unknown, "compute_infer": _spent(spent), "compute_output": unknown}
            for rows, spent in told.batches.items()
        ],
    }


def _spent(spent: Spent) -> dict[str, int]:
    return {"count": spent.count, "ns": spent.ns}
