"""An in-memory stand-in for the gateways that announce themselves. The adapter passes the same contract test."""

from collections.abc import Sequence
from datetime import UTC, datetime

from ergonaut.errors import Unavailable
from ergonaut.gateways import GatewayAnnounced


class FakeGateways:
    """Fills `Gateways`: who is heard is what the test says."""

    def __init__(self) -> None:
        self.announced: dict[str, GatewayAnnounced] = {}
        """By process."""
        self.is_away = False

    async def heard(self) -> Sequence[GatewayAnnounced]:
        if self.is_away:
            raise Unavailable("who announces itself is not known now")
        return list(self.announced.values())

    def tell(self, replica: str, *, process: str = "", draining: bool = False, wanted: int | None = None) -> None:
        """Let a process of a gateway be heard from now on."""
        process = process or f"{replica}-process"
        self.announced[process] = GatewayAnnounced(
            replica=replica,
            process=process,
            address=f"{replica}:7405",
            told_at=datetime.now(UTC),
            draining=draining,
            replicas_wanted=wanted,
        )

    def silence(self, replica: str) -> None:
        """Let a gateway be heard no more."""
        self.announced = {process: told for process, told in self.announced.items() if told.replica != replica}
