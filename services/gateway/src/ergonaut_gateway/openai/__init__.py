"""An OpenAI-compatible door that routes by the model's name to servers elsewhere.

`routes` reads the configuration, `domain` holds the rules, `service` asks upstreams, `door` answers on the gateway's HTTP port.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ergonaut_gateway.http import Callers, Router
from ergonaut_gateway.openai.reporting import Reporting

__all__ = ["Reporting", "opened_door"]


@asynccontextmanager
async def opened_door(routes: str, callers: Callers, router: Router, reporting: Reporting) -> AsyncIterator[None]:
    """Answer the OpenAI-compatible paths while the block runs; nothing where no file of routes is named. Raises Refused."""
    if not routes:
        yield
        return
    # The HTTP client costs 7 MB and 0.1 s, which a gateway without such routes need not pay.
    from ergonaut_gateway.openai.door import serving_routes

    async with serving_routes(routes, callers, router, reporting):
        yield
