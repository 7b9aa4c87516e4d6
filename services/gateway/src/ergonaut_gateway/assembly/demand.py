"""How many replicas will be wanted, where a setting says how far ahead to look."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import REGISTRY

from ergonaut.ids import new_id
from ergonaut_common.bus import Bus
from ergonaut_common.clock import SystemClock
from ergonaut_common.lifetimes import background
from ergonaut_gateway.adapters.demand import BUCKET, KvDemandBook
from ergonaut_gateway.service.demand import Demand, Planning
from ergonaut_gateway.settings import Settings


@asynccontextmanager
async def planning_demand(settings: Settings, bus: Bus) -> AsyncIterator[Demand | None]:
    """Look ahead while the block runs; nothing where that is not wanted."""
    if not settings.demand_lead_seconds:
        yield None
        return
    book = KvDemandBook(await bus.key_value(BUCKET))
    planning = Planning(settings.demand_lead_seconds, settings.demand_cores_per_replica)
    demand = Demand(book, SystemClock(), planning, gateway=new_id("gateway"))
    REGISTRY.register(demand)
    try:
        async with background(demand.keep_looking()):
            yield demand
    finally:
        REGISTRY.unregister(demand)
