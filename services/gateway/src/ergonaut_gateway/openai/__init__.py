"""An OpenAI-compatible door that routes by the model's name to servers elsewhere, and to models that run here (`local`).

`routes` reads the configuration, `domain` holds the rules, `service` asks upstreams, `door` answers on the gateway's HTTP port.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ergonaut_gateway.http import Callers, Router
from ergonaut_gateway.openai.reporting import Reporting

if TYPE_CHECKING:
    from ergonaut_gateway.openai.local.models import LocalModels

__all__ = ["Reporting", "opened_door"]


@asynccontextmanager
async def opened_door(
    routes: str, callers: Callers, router: Router, reporting: Reporting, local: "LocalModels | None" = None
) -> AsyncIterator[None]:
    """Answer the OpenAI-compatible paths while the block runs, by servers and by what `local` makes of models that run here;
    nothing where no file of routes is named. Raises Refused."""
    if not routes:
        yield
        return
    # The HTTP client costs 7 MB and 0.1 s, which a gateway without such routes need not pay.
    from ergonaut_gateway.openai.door import serving_routes

    async with serving_routes(routes, callers, router, reporting, local):
        yield
