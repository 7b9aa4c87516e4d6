"""Finds the route of a request, keeps its limits, and asks its upstreams until one answers. Called by the door."""

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from ergonaut_common.clock import Clock
from ergonaut_gateway.openai.counting import Counting
from ergonaut_gateway.openai.domain.choice import order, pause_seconds
from ergonaut_gateway.openai.domain.usage import Figures, Rates, weighed
from ergonaut_gateway.openai.errors import OpenAiError, crowded, no_model, no_upstream, too_late, wrong
from ergonaut_gateway.openai.limits import RateLimits
from ergonaut_gateway.openai.routes import AnyUpstream, RouteConfig, RoutesConfig
from ergonaut_gateway.openai.upstream import Asked, Asking, Reply, UpstreamFailed
from ergonaut_gateway.service.places import Places
from ergonaut_gateway.service.telling import Telling

CONNECTIONS_MAX = 512
"""Connections to all upstreams; each route bounds its own requests below that."""

Draw = Callable[[], float]
"""Gives numbers in [0, 1), by which requests and pauses are spread."""

Make = Callable[[str, AnyUpstream, RouteConfig], Asking]
"""Makes an upstream of a route, by the route's name. Raises Refused."""

draw_by_chance = random.SystemRandom().random
"""Processes that start alike must not draw alike."""


class Route:
    """One model's name: its upstreams and what is at work."""

    def __init__(self, name: str, config: RouteConfig, make: Make) -> None:
        self.name = name
        self.config = config
        self.limits = RateLimits(config)
        self.upstreams = [make(name, upstream, config) for upstream in config.upstreams]
        self.at_work = 0

    @property
    def left_alone(self) -> int:
        """How many of its upstreams are not asked after failures."""
        return sum(upstream.breaker.is_open for upstream in self.upstreams)


@dataclass(slots=True)
class Served:
    """An answer that has begun, with what the door needs to pass it on."""

    reply: Reply
    rates: Rates
    """Of the upstream that answers, as they were when it began."""
    headers: Mapping[str, str]
    route: Route
    used: Figures | None = None
    """What the answer used, told by the door once it knows."""
    failed: bool = False
    """Whether it could not be made whole, likewise."""


class Routing:
    """Asks the upstreams of a model."""

    def __init__(
        self,
        config: RoutesConfig,
        make: Make,
        telling: Telling,
        clock: Clock,
        places: Places | None = None,
        draw: Draw = draw_by_chance,
    ) -> None:
        self._routes = {name: Route(name, route, make) for name, route in config.models.items()}
        self._clock = clock
        self._places = places or Places()
        self._draw = draw
        self.counting = Counting(telling, clock, self._left_alone)

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
        headers = route.limits.admit(tenant, self._clock.monotonic())
        route.at_work += 1
        try:
            until_seconds = self._clock.monotonic() + route.config.whole_seconds
            upstream, reply = await self._replied(route, Asked(tenant, path, body, until_seconds))
            # From here on the reply itself watches the time: a stream that is too slow still ends with an event that says so.
            electricity = self._places.electricity(route.config.place_of(upstream.config))
            served = Served(reply, route.config.rates_of(upstream.config, electricity), headers, route)
            try:
                yield served
            finally:
                try:
                    await reply.close()
                finally:
                    self._count(tenant, served)
        finally:
            route.at_work -= 1

    async def _replied(self, route: Route, asked: Asked) -> tuple[Asking, Reply]:
        """The beginning of an answer, and whose it is. Raises OpenAiError."""
        try:
            async with asyncio.timeout(route.config.whole_seconds):
                return await self._first_reply(route, asked)
        except OpenAiError:
            self.counting.served(asked.tenant, route.name, None, failed=True)
            raise
        except TimeoutError:
            self.counting.served(asked.tenant, route.name, None, failed=True)
            raise too_late(route.name) from None

    def _count(self, tenant: str, served: Served) -> None:
        """Take what was used from the tenant's limits, and add it up."""
        used, route = served.used, served.route
        if used is None and (part := served.reply.broken_off()) is not None:
            told = part.measured
            used = weighed(served.rates, part.tokens_in, part.tokens_out, told.energy_joules, told.method)
        if used is not None:
            route.limits.spent(tenant, used.tokens, self._clock.monotonic())
        self.counting.served(tenant, route.name, used, failed=served.failed)

    def _left_alone(self) -> dict[str, int]:
        return {name: route.left_alone for name, route in self._routes.items()}

    async def _first_reply(self, route: Route, asked: Asked) -> tuple[Asking, Reply]:
        """Go through the upstreams, some times with pauses, until one answers."""
        weights = [upstream.weight for upstream in route.upstreams]
        for round_number in range(route.config.rounds):
            failures: list[UpstreamFailed] = []
            for place in order(weights, self._draw()):
                upstream = route.upstreams[place]
                if not upstream.breaker.admits(self._clock.monotonic()):
                    failures.append(UpstreamFailed("left alone after failures"))
                    continue
                try:
                    return upstream, await self._tried(upstream, asked)
                except UpstreamFailed as error:
                    failures.append(error)
            told_seconds = min((failure.retry_after_seconds for failure in failures), default=0.0)
            pause = pause_seconds(round_number, self._draw(), told_seconds)
            last = round_number + 1 == route.config.rounds
            if last or self._clock.monotonic() + pause >= asked.until_seconds:
                break
            await self._clock.sleep(pause)
        busy = all(failure.busy for failure in failures)
        reasons = ", ".join(str(failure) for failure in failures)
        raise no_upstream(route.name, 429 if busy else 503, reasons, str(max(1, math.ceil(told_seconds))))

    async def _tried(self, upstream: Asking, asked: Asked) -> Reply:
        try:
            reply = await upstream.ask(asked)
        except UpstreamFailed as error:
            if error.is_well:
                upstream.breaker.given_up()
            else:
                upstream.breaker.failed(self._clock.monotonic())
            raise
        except BaseException:
            upstream.breaker.given_up()
            raise
        upstream.breaker.succeeded()
        return reply
