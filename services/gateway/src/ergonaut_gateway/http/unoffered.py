"""Triton's extensions that are not offered here. Its clients and tools ask for some of them unprompted, so each gets what holds,
or one sentence that says what to do instead."""

from functools import partial

from ergonaut.errors import Refused
from ergonaut_gateway.http.answers import answer_json
from ergonaut_gateway.http.callers import Callers
from ergonaut_gateway.http.exchange import Exchange
from ergonaut_gateway.http.router import Router

MEMORIES = ("systemsharedmemory", "cudasharedmemory")
REFUSALS = {
    (
        "GET",
        "/v2/logging",
    ): "log settings are not told here; the level is ERGONAUT_LOG_LEVEL of the gateway's environment",
    (
        "POST",
        "/v2/logging",
    ): "log settings cannot be changed by request; set ERGONAUT_LOG_LEVEL where the gateway starts",
    ("GET", "/v2/trace/setting"): "there are no trace settings; send a traceparent, and set ERGONAUT_OTLP_ENDPOINT",
    (
        "POST",
        "/v2/trace/setting",
    ): "tracing cannot be changed by request; send a traceparent, and set ERGONAUT_OTLP_ENDPOINT",
}


class Unoffered:
    """Answers for the paths of these extensions."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers

    def add_to(self, router: Router) -> None:
        """Have a router send these paths here."""
        for (method, path), sentence in REFUSALS.items():
            router.add(method, path, partial(self._refuse, sentence), admit=self._admit)
            if path.startswith("/v2/trace"):
                of_model = f"/v2/models/{{model}}{path.removeprefix('/v2')}"
                router.add(method, of_model, partial(self._refuse, sentence), admit=self._admit)
        for memory in MEMORIES:
            router.add("GET", f"/v2/{memory}/status", partial(self._answer, []))
            router.add("POST", f"/v2/{memory}/unregister", partial(self._answer, {}), admit=self._admit)
            region = f"/v2/{memory}/region/{{name}}"
            sentence = "shared memory is not offered; send tensors in the body, best by the binary extension"
            router.add("GET", f"{region}/status", partial(self._refuse, sentence))
            router.add("POST", f"{region}/register", partial(self._refuse, sentence), admit=self._admit)
            router.add("POST", f"{region}/unregister", partial(self._answer, {}), admit=self._admit)

    def _refuse(self, sentence: str, exchange: Exchange) -> None:
        self._admit(exchange)
        raise Refused(sentence)

    def _answer(self, nothing: list[None] | dict[str, None], exchange: Exchange) -> None:
        """There is no region, and letting go of what is not there is done at once."""
        self._admit(exchange)
        answer_json(exchange, nothing)

    def _admit(self, exchange: Exchange) -> None:
        self._callers.of(exchange.request.headers)
