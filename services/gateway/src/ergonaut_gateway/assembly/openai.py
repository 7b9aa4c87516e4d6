"""The OpenAI-compatible door, with what its answers are weighed by: the grid's hours, and what this host draws."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ergonaut_common.bus import Bus
from ergonaut_common.clock import SystemClock
from ergonaut_gateway.assembly.text import text_models
from ergonaut_gateway.domain.electricity import Electricity
from ergonaut_gateway.http import Callers, Router
from ergonaut_gateway.openai import Reporting, opened_door
from ergonaut_gateway.service import Predictions
from ergonaut_gateway.settings import Settings


@asynccontextmanager
async def serving_openai(
    settings: Settings, bus: Bus, callers: Callers, router: Router, predictions: Predictions
) -> AsyncIterator[None]:
    """Answer its paths while the block runs; nothing where no file of routes is named. Raises Refused."""
    if not settings.openai_routes:
        yield
        return
    # What follows the hours takes some megabytes, which a gateway without such routes need not pay.
    from ergonaut_gateway.adapters.grid import following_hours
    from ergonaut_gateway.service.places import Places

    def host() -> Electricity | None:
        rate = predictions.energy.rate()
        return rate.electricity if rate is not None else None

    async with following_hours(bus, SystemClock()) as hours, text_models(predictions) as local:
        reporting = Reporting(bus, settings.report_seconds, Places(hours.now, host))
        async with opened_door(settings.openai_routes, callers, router, reporting, local):
            yield
