"""The NATS door: what others tell that the agent needs."""

from ergonaut.events import IntensityChanged
from ergonaut_common.bus import Listeners
from ergonaut_telemetry.service import Sampling


def listeners(sampling: Sampling, host: str) -> Listeners:
    """The agent's listeners; each host has its own, since all must hear of every zone."""
    doors = Listeners("telemetry")

    @doors.on(IntensityChanged, durable=f"telemetry-{host}-intensity")
    async def intensity_changed(event: IntensityChanged) -> None:
        sampling.learn_intensity(event)

    return doors
