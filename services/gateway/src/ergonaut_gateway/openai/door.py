"""The OpenAI-compatible paths of the gateway's HTTP port, below /openai/v1 and /v1."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import orjson
from prometheus_client import REGISTRY

from ergonaut.errors import ErgonautError, Refused
from ergonaut.keys import Scope
from ergonaut_common.clock import Clock, SystemClock
from ergonaut_common.lifetimes import background
from ergonaut_gateway.http import Callers, Router
from ergonaut_gateway.http.answers import answer_json, told
from ergonaut_gateway.http.exchange import Exchange
from ergonaut_gateway.openai.domain.documents import document_of
from ergonaut_gateway.openai.domain.events import EventTooLong, Passing, with_figures
from ergonaut_gateway.openai.errors import OpenAiError, no_upstream, wrong
from ergonaut_gateway.openai.local.making import local_upstream
from ergonaut_gateway.openai.local.models import LocalModels
from ergonaut_gateway.openai.reporting import Reporting
from ergonaut_gateway.openai.routes import AnyUpstream, RouteConfig, UpstreamConfig, load_routes
from ergonaut_gateway.openai.service import CONNECTIONS_MAX, Make, Route, Routing, Served
from ergonaut_gateway.openai.upstream import Asking, Upstream, UpstreamFailed
from ergonaut_gateway.service.telling import Telling

PREFIXES = ("/openai/v1", "/v1")
PASSED_ON = ("chat/completions", "completions", "embeddings")
READ = ("model", "stream", "stream_options")
"""What we look at in a request; all else passes as it was written."""

PARTS_MAX = 2**20
"""Of a body's lists and objects: more tokens than any model takes. To read more would keep all other callers waiting."""

FREE_BYTES = 1024 * 1024
"""Bodies up to here are not looked through for that."""

FIGURES_HEADER = "x-ergonaut-usage"


@asynccontextmanager
async def serving_routes(
    routes: str, callers: Callers, router: Router, reporting: Reporting, local: LocalModels | None
) -> AsyncIterator[None]:
    """Answer the paths by the routes of a file while the block runs. Raises Refused."""
    config = load_routes(Path(routes))
    limits = httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX)
    # Proxies and .netrc of the environment are not for upstreams: the latter would send keys that no route names.
    async with httpx.AsyncClient(limits=limits, trust_env=False) as client:
        clock = SystemClock()
        telling = Telling(reporting.announcer, of="completions")

        routing = Routing(config, _maker(client, clock, local), telling, clock, reporting.places)
        OpenAiDoor(routing, callers).add_to(router)
        REGISTRY.register(routing.counting)
        try:
            async with background(routing.counting.keep_reporting(every_seconds=reporting.every_seconds)):
                yield
            await routing.counting.report()
        finally:
            REGISTRY.unregister(routing.counting)


def _maker(client: httpx.AsyncClient, clock: Clock, local: LocalModels | None) -> Make:
    """Makes upstreams of all kinds."""

    def make(name: str, upstream: AnyUpstream, route: RouteConfig) -> Asking:
        if isinstance(upstream, UpstreamConfig):
            return Upstream(upstream, route, client, clock)
        if local is None:
            raise Refused(f"models.{name}: no models run here")
        return local_upstream(name, upstream, route, local, clock)

    return make


class OpenAiDoor:
    """Answers for these paths."""

    def __init__(self, routing: Routing, callers: Callers) -> None:
        self._routing = routing
        self._callers = callers

    def add_to(self, router: Router) -> None:
        """Have a router send these paths here."""
        for prefix in PREFIXES:
            for path in PASSED_ON:
                handler = partial(self._pass_on, path)
                router.add("POST", f"{prefix}/{path}", handler, failed=answer_failure, admit=self._admit)
            router.add("GET", f"{prefix}/models", self.models, failed=answer_failure)
            router.add("GET", f"{prefix}/models/{{model*}}", self.model, failed=answer_failure)

    def models(self, exchange: Exchange) -> None:
        """The models that the caller's tenant may use."""
        tenant = self._callers.of(exchange.request.headers).tenant
        listed = [_card(route) for route in self._routing.models(tenant)]
        answer_json(exchange, {"object": "list", "data": listed})

    def model(self, exchange: Exchange) -> None:
        """One of them."""
        tenant = self._callers.of(exchange.request.headers).tenant
        answer_json(exchange, _card(self._routing.route(tenant, exchange.path_values["model"])))

    async def _pass_on(self, path: str, exchange: Exchange) -> None:
        tenant = self._callers.of(exchange.request.headers, Scope.READ).tenant
        body = _body(exchange)
        streams = body.get("stream") is True and path != "embeddings"
        options = body.get("stream_options")
        usage_wanted = isinstance(options, dict) and options.get("include_usage") is True
        if streams and not usage_wanted:
            body["stream_options"] = (options if isinstance(options, dict) else {}) | {"include_usage": True}
        async with self._routing.asked(tenant, path, body) as served:
            if streams and served.reply.status == 200:
                measured = served.reply.measured
                await _stream(exchange, served, Passing(served.rates, usage_wanted=usage_wanted, measured=measured))
            else:
                await _answer(exchange, served)

    def _admit(self, exchange: Exchange) -> None:
        self._callers.of(exchange.request.headers, Scope.READ)


async def _answer(exchange: Exchange, served: Served) -> None:
    try:
        body = await served.reply.whole()
    except UpstreamFailed as error:
        served.failed = True
        raise no_upstream(served.route.name, 502, str(error)) from error
    headers = dict(served.headers)
    if served.reply.status == 200 and b'"usage"' in body:
        with suppress(ValueError):
            document = document_of(body)
            served.used = with_figures(document.read, served.rates, served.reply.measured())
            if served.used is not None:
                # Headers are ASCII, and a source may be in any language.
                headers[FIGURES_HEADER] = json.dumps(document.read["usage"]["ergonaut"])
                body = orjson.dumps(document.changed(("usage",)))
    exchange.answer(served.reply.status, body, served.reply.content_type, list(headers.items()))


async def _stream(exchange: Exchange, served: Served, passing: Passing) -> None:
    stream = exchange.stream(200, served.reply.content_type, list(served.headers.items()))
    try:
        async for piece in served.reply.each():
            passed = passing.passed(piece)
            if passed:
                await stream.write(passed)
        if not passing.finished:
            raise UpstreamFailed("its answer ended too soon")
    except (UpstreamFailed, EventTooLong, TimeoutError) as error:
        # The status is long sent; clients raise at an event with an error, and miss [DONE].
        served.failed = True
        failure = no_upstream(served.route.name, 502, str(error))
        await stream.write(b"data: " + orjson.dumps(failure.document) + b"\n\n")
    finally:
        served.used = passing.used
    stream.close()


def answer_failure(exchange: Exchange, error: BaseException) -> None:
    """Answer that something went wrong, in OpenAI's form."""
    if isinstance(error, OpenAiError):
        answer_json(exchange, error.document, status=error.status, headers=list(error.headers.items()))
        return
    status, sentence, headers = told(exchange, error)
    kind = "invalid_request_error" if isinstance(error, ErgonautError) and status < 500 else "server_error"
    code = {401: "invalid_api_key", 403: "not_allowed"}.get(status)
    document = {"error": {"message": sentence, "type": kind, "code": code, "param": None}}
    answer_json(exchange, document, status=status, headers=headers)


def _body(exchange: Exchange) -> dict[str, Any]:
    text = exchange.request.body
    if len(text) > FREE_BYTES and max(bytes(text).count(each) for each in (b",", b"[", b"{")) > PARTS_MAX:
        raise wrong(f"the body has more than {PARTS_MAX} parts; ask for less at once")
    try:
        return document_of(text).changed(READ)
    except ValueError as error:
        raise wrong("the body must be a JSON object") from error


def _card(route: Route) -> dict[str, Any]:
    health = {"upstreams": len(route.upstreams), "left_alone": route.left_alone}
    return {"id": route.name, "object": "model", "created": 0, "owned_by": "ergonaut", "ergonaut": health}
