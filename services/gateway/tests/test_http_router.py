"""Which handler answers which path, and what becomes of what it raises."""

import asyncio

import pytest

from ergonaut.errors import Conflict, NotAllowed, NotFound, Refused, Unavailable
from ergonaut_gateway.domain.inference import Busy
from ergonaut_gateway.http import router as router_module
from ergonaut_gateway.http.answers import Unknown, answer_json
from ergonaut_gateway.http.exchange import Exchange
from ergonaut_gateway.http.router import Router

from .exchanges import KeptExchange


def told(exchange: Exchange) -> None:
    answer_json(exchange, dict(exchange.path_values))


@pytest.fixture
def router() -> Router:
    made = Router()
    made.add("GET", "/v2", told)
    made.add("GET", "/v2/models/{model}", told)
    made.add("POST", "/v2/models/{model}/infer", told)
    made.add("GET", "/v2/models/stats", lambda exchange: answer_json(exchange, "all"))
    made.add("GET", "/v2/models/{model}/versions/{version}", told)
    made.add("GET", "/v1/models/{name*}", told)
    return made


async def asked(router: Router, path: str, method: str = "GET") -> KeptExchange:
    exchange = KeptExchange(path, method)
    router.handle(exchange)
    for _ in range(5):
        await asyncio.sleep(0)
    return exchange


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("/v2", {}),
        ("/v2/models/digits", {"model": "digits"}),
        ("/v2/models/digits/versions/3", {"model": "digits", "version": "3"}),
        ("/v2/models/stats", "all"),
        ("/v2/models/stats/versions/1", {"model": "stats", "version": "1"}),
        ("/v2/models/a%2Fb", {"model": "a/b"}),
        ("/v2/mod%65ls/digits", {"model": "digits"}),
        ("/v1/models/meta-llama/Llama-3", {"name": "meta-llama/Llama-3"}),
    ],
)
async def test_a_path_finds_its_handler_and_gives_it_what_stands_in_its_places(
    router: Router, path: str, values: object
) -> None:
    for _ in range(2):
        assert (await asked(router, path)).document == values


@pytest.mark.parametrize("path", ["/", "", "*", "/v3", "/v2/", "/v2/models", "/v2/models/", "/v1/models/", "/v2" * 50])
async def test_a_path_that_nobody_answers_is_not_found(router: Router, path: str) -> None:
    assert (await asked(router, path)).status == 404


async def test_a_method_that_nobody_answers_is_told_which_ones_are(router: Router) -> None:
    exchange = await asked(router, "/v2/models/digits/infer", "DELETE")
    assert (exchange.status, exchange.headers["allow"]) == (405, "POST")
    assert exchange.document == {"error": "DELETE is not answered here; use POST"}
    assert (await asked(router, "/v2", "HEAD")).status == 200


async def test_paths_remembered_are_bounded(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router_module, "FOUND_MAX", 3)
    for number in range(10):
        assert (await asked(router, f"/v2/models/m{number}")).document == {"model": f"m{number}"}
    assert len(router._found) <= 3


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (Refused("is wrong", field="x"), 400, {}),
        (Unknown("no such key"), 401, {"www-authenticate": "Bearer"}),
        (NotAllowed("may not"), 403, {}),
        (NotFound("is not there"), 404, {}),
        (Conflict("is another"), 409, {}),
        (Unavailable("is away"), 503, {"retry-after": "1"}),
        (Busy("too much waits", retry_after_seconds=2.4), 429, {"retry-after": "3"}),
    ],
)
@pytest.mark.parametrize("waits", [False, True])
async def test_what_a_handler_raises_is_told_as_a_status_and_its_sentence(
    error: Exception, status: int, headers: dict[str, str], waits: bool
) -> None:
    def fail(_: Exchange) -> None:
        raise error

    async def fail_later(_: Exchange) -> None:
        await asyncio.sleep(0)
        raise error

    router = Router()
    router.add("GET", "/", fail_later if waits else fail)
    exchange = await asked(router, "/")
    assert (exchange.status, exchange.headers, exchange.document) == (status, headers, {"error": str(error)})


async def test_an_error_that_says_when_to_come_back_is_told_with_it() -> None:
    def fail(_: Exchange) -> None:
        error = Unavailable("is full")
        error.retry_after_seconds = 2.2
        raise error

    router = Router()
    router.add("GET", "/", fail)
    assert (await asked(router, "/")).headers == {"retry-after": "3"}


async def test_an_error_that_nobody_foresaw_keeps_its_words_to_the_log() -> None:
    async def fail(_: Exchange) -> None:
        raise ValueError("secret")

    router = Router()
    router.add("GET", "/", fail)
    exchange = await asked(router, "/")
    assert exchange.status == 500
    assert exchange.document == {"error": "an unforeseen ValueError; the gateway's log tells more"}


async def test_an_answer_that_breaks_off_is_cut_and_one_that_was_left_out_is_an_error() -> None:
    async def half(exchange: Exchange) -> None:
        await exchange.stream(200, "text/plain").write(b"a")
        raise Refused("cannot go on")

    async def nothing(_: Exchange) -> None: ...

    router = Router()
    router.add("GET", "/half", half)
    router.add("GET", "/nothing", nothing)
    exchange = await asked(router, "/half")
    assert (exchange.stream_kept.pieces, exchange.stream_kept.cut) == ([b"a"], True)
    assert (await asked(router, "/nothing")).status == 500


async def test_work_for_a_caller_who_has_gone_is_cancelled_and_so_is_work_at_a_stop() -> None:
    cancelled = []

    async def wait(exchange: Exchange) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(exchange.request.path)

    router = Router()
    router.add("GET", "/{name}", wait)
    gone = await asked(router, "/gone")
    stopped = await asked(router, "/stopped")
    gone.lose()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert cancelled == ["/gone"]
    await router.close()
    assert cancelled == ["/gone", "/stopped"]
    assert (stopped.status, stopped.document) == (503, {"error": "the gateway is stopping; ask again"})
