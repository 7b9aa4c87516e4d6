"""The NATS door: what others tell that the agent needs. Only the newest of each zone matters, so it is followed, not queued."""

from ergonaut.events import IntensityChanged
from ergonaut_common.bus import Listeners
from ergonaut_telemetry.service import Sampling


def listeners(sampling: Sampling) -> Listeners:
    """The agent's listeners."""
    doors = Listeners("telemetry")

    @doors.on(IntensityChanged)
    async def intensity_changed(event: IntensityChanged) -> None:
        sampling.learn_intensity(event)

    return doors
