"""Finds the route of a request, keeps its limits, and asks its upstreams until one answers. Called by the door."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from ergonaut_gateway.openai.domain.choice import order, pause_seconds
from ergonaut_gateway.openai.domain.usage import Rates
from ergonaut_gateway.openai.errors import crowded, no_model, no_upstream, too_late, wrong
from ergonaut_gateway.openai.limits import RateLimits
from ergonaut_gateway.openai.routes import RouteConfig, RoutesConfig
from ergonaut_gateway.openai.upstream import Reply, Upstream, UpstreamFailed

CONNECTIONS_MAX = 512
"""Connections to all upstreams; each route bounds its own requests below that."""

DRAW = random.SystemRandom().random
"""Spreads requests and pauses; processes that start alike must not draw alike."""


class Route:
    """One model's name: its upstreams and what is at work."""

    def __init__(self, name: str, config: RouteConfig, client: httpx.AsyncClient) -> None:
        self.name = name
        self.config = config
        self.limits = RateLimits(config)
        self.upstreams = [Upstream(upstream, config, client) for upstream in config.upstreams]
        self.at_work = 0


@dataclass(frozen=True, slots=True)
class Served:
    """An answer that has begun, with what the door needs to pass it on."""

    reply: Reply
    rates: Rates
    headers: Mapping[str, str]
    route: Route
    tenant: str

    def spent(self, tokens: int) -> None:
        """Tell the tokens that the answer used, in and out."""
        self.route.limits.spent(self.tenant, tokens, time.monotonic())


class Routing:
    """Asks the upstreams of a model."""

    def __init__(self, config: RoutesConfig, client: httpx.AsyncClient) -> None:
        self._routes = {name: Route(name, route, client) for name, route in config.models.items()}

    def models(self, tenant: str) -> list[Route]:
        """The routes that a tenant may use."""
        return [route for route in self._routes.values() if route.config.allows(tenant)]

    def route(self, tenant: str, model: object) -> Route:
        """The route of a model. Raises OpenAiError."""
        if not isinstance(model, str) or not model:
            raise wrong("say which model is asked for", "model")
        route = self._routes.get(model)
        if route is None or not route.config.allows(tenant):
            raise no_model(model)
        return route

    @asynccontextmanager
    async def asked(self, tenant: str, path: str, body: dict[str, Any]) -> AsyncIterator[Served]:
        """An answer while the block runs, all within the route's time. Raises OpenAiError."""
        route = self.route(tenant, body.get("model"))
        if route.at_work >= route.config.at_once_max:
            raise crowded(route.name)
        headers = route.limits.admit(tenant, time.monotonic())
        route.at_work += 1
        try:
            async with asyncio.timeout(route.config.whole_seconds):
                reply = await _first_reply(route, path, body)
            # From here on the reply itself watches the time: a stream that is too slow still ends with an event that says so.
            try:
                yield Served(reply, route.config.rates, headers, route, tenant)
            finally:
                await reply.close()
        except TimeoutError:
            raise too_late(route.name) from None
        finally:
            route.at_work -= 1


async def _first_reply(route: Route, path: str, body: dict[str, Any]) -> Reply:
    """Go through the upstreams, some times with pauses, until one answers."""
    weights = [upstream.config.weight for upstream in route.upstreams]
    until_seconds = time.monotonic() + route.config.whole_seconds
    for round_number in range(route.config.rounds):
        failures: list[UpstreamFailed] = []
        for place in order(weights, DRAW()):
            upstream = route.upstreams[place]
            if not upstream.breaker.admits(time.monotonic()):
                failures.append(UpstreamFailed("left alone after failures"))
                continue
            try:
                return await _tried(upstream, path, body, until_seconds)
            except UpstreamFailed as error:
                failures.append(error)
        told_seconds = min((failure.retry_after_seconds for failure in failures), default=0.0)
        pause = pause_seconds(round_number, DRAW(), told_seconds)
        last = round_number + 1 == route.config.rounds
        if last or time.monotonic() + pause >= until_seconds:
            break
        await asyncio.sleep(pause)
    busy = all(failure.busy for failure in failures)
    reasons = ", ".join(str(failure) for failure in failures)
    raise no_upstream(route.name, 429 if busy else 503, reasons, str(max(1, int(told_seconds))))


async def _tried(upstream: Upstream, path: str, body: dict[str, Any], until_seconds: float) -> Reply:
    try:
        reply = await upstream.ask(path, body, until_seconds)
    except UpstreamFailed:
        upstream.breaker.failed(time.monotonic())
        raise
    except BaseException:
        upstream.breaker.given_up()
        raise
    upstream.breaker.succeeded()
    return reply
