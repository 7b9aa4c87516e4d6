"""The NATS door: hosts that report make offers of ours."""

from ergonaut.events import HostReported
from ergonaut_common.bus import Listeners
from ergonaut_pricing.domain import Host, tellable_zone
from ergonaut_pricing.service import Pricing


def listeners(pricing: Pricing) -> Listeners:
    """What pricing listens to."""
    doors = Listeners("pricing")

    @doors.on(HostReported)
    async def host_reported(event: HostReported) -> None:
        await pricing.host_reported(
            Host(
                tenant=event.tenant,
                name=event.host,
                zone=tellable_zone(event.zone.upper()),
                vcpus=event.logical_cpus,
                memory_gib=event.memory_gib,
                accelerator=event.accelerator,
                accelerator_count=event.accelerator_count,
                reported_at=event.occurred_at,
            )
        )

    return doors
