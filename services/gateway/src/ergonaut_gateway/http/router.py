"""Which handler answers which path. Exact paths and patterns are one tree of segments; what was found is remembered."""

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import unquote

from ergonaut.errors import Unavailable
from ergonaut_common.observe import get_logger
from ergonaut_gateway.http.answers import answer_error, answer_json
from ergonaut_gateway.http.exchange import Exchange, PeerGone

log = get_logger(__name__)
Handler = Callable[[Exchange], None] | Callable[[Exchange], Coroutine[Any, Any, None]]
Failed = Callable[[Exchange, BaseException], None]
Admit = Callable[[Exchange], object]

FOUND_MAX = 4096
"""Paths whose route is remembered. They hold callers' words, so there must be an end; beyond it all are forgotten."""

FOUND_CHARACTERS_MAX = 300
"""Longer paths are looked up each time."""

SEGMENTS_MAX = 32
"""No route is nearly so long; a bound keeps hostile paths cheap."""


@dataclass(frozen=True, slots=True)
class _Route:
    handler: Callable[[Exchange], Any]
    waits: bool
    failed: Failed
    names: tuple[str, ...]
    admit: Admit | None


@dataclass(slots=True)
class _Node:
    """What may follow in a path."""

    words: dict[str, "_Node"] = field(default_factory=dict)
    value: "_Node | None" = None
    rest: "_Node | None" = None
    routes: dict[str, _Route] = field(default_factory=dict)


_Found = Mapping[str, tuple[_Route, Mapping[str, str]]]
"""By method: the route, and what stands in its named places."""


class Router:
    """Hands exchanges to handlers. A handler is a function, or a coroutine function, which then runs as a task."""

    def __init__(self) -> None:
        self.patterns: set[tuple[str, str]] = set()
        """By method: the paths that are answered, as they were added."""
        self._root = _Node()
        self._found: dict[str, _Found] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def add(
        self,
        method: str,
        pattern: str,
        handler: Handler,
        *,
        failed: Failed = answer_error,
        admit: Admit | None = None,
    ) -> None:
        """Have a handler answer a path such as `/v2/models/{model}/infer`; `{name*}` at the end takes slashes too.

        What the handler raises is told by `failed`. A word of a path goes before a value. HEAD is answered as GET is.
        `admit` raises where a caller with a large body may be turned away before sending it; it sees no body yet.
        """
        node, names = self._root, []
        for segment in pattern.split("/"):
            if not segment.startswith("{"):
                node = node.words.setdefault(segment, _Node())
            elif segment.endswith("*}"):
                names.append(segment[1:-2])
                node.rest = node = node.rest or _Node()
            else:
                names.append(segment[1:-1])
                node.value = node = node.value or _Node()
        assert method not in node.routes, f"{method} {pattern} is answered already"
        self.patterns.add((method, pattern))
        node.routes[method] = _Route(handler, inspect.iscoroutinefunction(handler), failed, tuple(names), admit)
        self._found.clear()

    def handle(self, exchange: Exchange) -> None:
        """Have an exchange answered, whatever its path."""
        request = exchange.request
        found = self._found.get(request.path)
        if found is None:
            found = self._find(request.path)
        match = found.get(request.method)
        if match is None:
            self._turn_away(exchange, found)
            return
        route, exchange.path_values = match
        if route.waits:
            self._run(route, exchange)
            return
        try:
            route.handler(exchange)
        except Exception as error:
            _tell(route, exchange, error)

    def admit(self, exchange: Exchange) -> bool:
        """Whether a request whose body has not come yet may send it; else it is answered."""
        found = self._found.get(exchange.request.path) or self._find(exchange.request.path)
        match = found.get(exchange.request.method)
        if match is None:
            self._turn_away(exchange, found)
            return False
        route, exchange.path_values = match
        if route.admit is None:
            return True
        try:
            route.admit(exchange)
        except Exception as error:
            route.failed(exchange, error)
            return False
        return True

    async def close(self) -> None:
        """Cancel what still runs and wait for its end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _run(self, route: _Route, exchange: Exchange) -> None:
        task = asyncio.get_running_loop().create_task(_answered(route, exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Nobody would read the answer, and a model's text that nobody reads may cost money.
        exchange.on_gone(task.cancel)

    def _find(self, path: str) -> _Found:
        segments = path.split("/")
        # Decoded after the cut, so that an encoded slash does not become a cut.
        values: list[str] = []
        node = None
        if len(segments) <= SEGMENTS_MAX:
            node = _walk(self._root, [unquote(segment) for segment in segments], 0, values)
        found: dict[str, tuple[_Route, Mapping[str, str]]] = {}
        if node is None:
            return found
        for method, route in node.routes.items():
            found[method] = (route, dict(zip(route.names, values, strict=True)))
        if "GET" in found:
            found.setdefault("HEAD", found["GET"])
        if len(path) <= FOUND_CHARACTERS_MAX:
            if len(self._found) >= FOUND_MAX:
                self._found.clear()
            self._found[path] = found
        return found

    def _turn_away(self, exchange: Exchange, found: _Found) -> None:
        if not found:
            answer_json(exchange, {"error": f"there is no {exchange.request.path[:200]} here"}, status=404)
            return
        allowed = ", ".join(sorted(found))
        sentence = f"{exchange.request.method} is not answered here; use {allowed}"
        answer_json(exchange, {"error": sentence}, status=405, headers=(("allow", allowed),))


def _walk(node: _Node, segments: list[str], at: int, values: list[str]) -> _Node | None:
    """The node at the end of a path, with the values on the way; words first, and back where that ends nowhere."""
    if at == len(segments):
        return node if node.routes else None
    word = node.words.get(segments[at])
    if word is not None and (end := _walk(word, segments, at + 1, values)) is not None:
        return end
    if node.value is not None and segments[at]:
        values.append(segments[at])
        if (end := _walk(node.value, segments, at + 1, values)) is not None:
            return end
        values.pop()
    if node.rest is not None and any(segments[at:]):
        values.append("/".join(segments[at:]))
        return node.rest
    return None


async def _answered(route: _Route, exchange: Exchange) -> None:
    try:
        await cast("Coroutine[Any, Any, None]", route.handler(exchange))
        assert exchange.over, f"{exchange.request.path} was not answered"
    except asyncio.CancelledError:
        if not exchange.over:
            answer_error(exchange, Unavailable("the gateway is stopping; ask again"))
        exchange.cut()
        raise
    except PeerGone:
        exchange.cut()
    except Exception as error:
        _tell(route, exchange, error)


def _tell(route: _Route, exchange: Exchange, error: Exception) -> None:
    if exchange.over:
        # The answer is on its way; there is no place left to tell in but the log.
        log.error("request failed after its answer began", path=exchange.request.path, exc_info=error)
        exchange.cut()
        return
    route.failed(exchange, error)
