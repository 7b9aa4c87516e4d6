"""What the agent does, one file a use case."""

from ergonaut_telemetry.service.placing import Placing
from ergonaut_telemetry.service.reporting import Reporting
from ergonaut_telemetry.service.sampling import Sampling
from ergonaut_telemetry.service.sending import Sending
from ergonaut_telemetry.service.watching import Watching

__all__ = ["Placing", "Reporting", "Sampling", "Sending", "Watching"]
