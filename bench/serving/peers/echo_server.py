"""The gateway's own HTTP server with a handler that gives everyone the same bytes. Started as `echo_server.py PORT BODY`."""

import asyncio
import sys

import uvloop

from ergonaut_gateway.http import HttpLimits, Router, serving_http
from ergonaut_gateway.http.exchange import Exchange


async def main(port: str, body: bytes) -> None:
    """Answer until it is killed."""

    def echo(exchange: Exchange) -> None:
        exchange.answer(200, body)

    router = Router()
    router.add("POST", "/v2/models/{model}/infer", echo)
    async with serving_http(f"127.0.0.1:{port}", router, HttpLimits()):
        await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1], sys.argv[2].encode()))
