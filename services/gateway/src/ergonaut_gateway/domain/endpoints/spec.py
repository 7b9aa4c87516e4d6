"""What an endpoint is, as somebody applies it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ergonaut.errors import Refused
from ergonaut_gateway.domain.models import check_name

ROUTES_MAX = 16
"""Versions that share the requests of one name; more than a test of a few at once is nothing that anybody can read."""

MIRRORS_MAX = 4
"""Each costs as much as the requests themselves."""

PARAMETER_CHARACTERS_MAX = 100
SLOW_MILLISECONDS_MAX = 3_600_000.0


@dataclass(frozen=True, slots=True)
class Route:
    """One way that requests can go: a model's version by its number or an alias, the default one where empty."""

    name: str
    model: str
    version: str = ""
    weight: float = 0.0
    """Share of the requests, in proportion to the weights of all routes."""

    @property
    def told(self) -> str:
        """For people: `digits@3`."""
        return f"{self.model}@{self.version}" if self.version else self.model


@dataclass(frozen=True, slots=True)
class Mirror:
    """Requests that are also sent elsewhere."""

    model: str
    version: str = ""
    share: float = 1.0
    """Of all requests, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A name that serves versions of models."""

    name: str
    routes: tuple[Route, ...]
    mirrors: tuple[Mirror, ...] = ()
    key_parameter: str = ""
    """The request's parameter whose hash chooses the route; where it is empty, or a request has none, chance does."""
    slow_milliseconds: float = 0.0
    """Above this a request counts as slow; with 0 none does."""

    def uses(self) -> list[tuple[str, str, str]]:
        """Where each version is named, and the model and version, each once."""
        named = [(f"routes.{route.name}", route.model, route.version) for route in self.routes]
        named += [(f"mirrors.{mirror.model}", mirror.model, mirror.version) for mirror in self.mirrors]
        first: dict[tuple[str, str], str] = {}
        for place, model, version in named:
            first.setdefault((model, version), place)
        return [(place, model, version) for (model, version), place in first.items()]


def check_endpoint(endpoint: Endpoint) -> None:
    """Raise Refused for what can be no endpoint, naming the field."""
    check_name(endpoint.name)
    _check_routes(endpoint.routes)
    _check_mirrors(endpoint.mirrors)
    if len(endpoint.key_parameter) > PARAMETER_CHARACTERS_MAX:
        raise Refused(f"has more than {PARAMETER_CHARACTERS_MAX} characters", field="key_parameter")
    if not 0.0 <= endpoint.slow_milliseconds <= SLOW_MILLISECONDS_MAX:
        raise Refused(f"must lie between 0 and {SLOW_MILLISECONDS_MAX:g}", field="slow_milliseconds")


def _check_routes(routes: Sequence[Route]) -> None:
    if not 0 < len(routes) <= ROUTES_MAX:
        raise Refused(f"there are {len(routes)}; there must be 1 to {ROUTES_MAX}", field="routes")
    names = [route.name for route in routes]
    for route in routes:
        field = f"routes.{route.name or '(unnamed)'}"
        if not route.name or names.count(route.name) > 1:
            raise Refused("each route needs a name of its own", field=field)
        check_name(route.name, field=field)
        if not route.model:
            raise Refused("says no model", field=field)
        if not (math.isfinite(route.weight) and 0.0 <= route.weight <= 1e6):
            raise Refused(f"has the weight {route.weight:g}; a weight lies between 0 and 1000000", field=field)
    if not sum(route.weight for route in routes):
        raise Refused("all weights are 0, so that no request could go anywhere", field="routes")


def _check_mirrors(mirrors: Sequence[Mirror]) -> None:
    if len(mirrors) > MIRRORS_MAX:
        raise Refused(f"there are {len(mirrors)}; at most {MIRRORS_MAX} are taken", field="mirrors")
    for mirror in mirrors:
        if not mirror.model:
            raise Refused("a mirror says no model", field="mirrors")
        if not 0.0 <= mirror.share <= 1.0:
            raise Refused(
                f"has the share {mirror.share:g}; a share lies between 0 and 1", field=f"mirrors.{mirror.model}"
            )
