"""Tells events over NATS."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from nats.errors import AuthorizationError, ConnectionClosedError, MaxPayloadError, ProtocolError

from ergonaut.errors import Broken, Refused
from ergonaut.events import Event
from ergonaut.events.envelope import headers_of
from ergonaut_common.bus import Bus
from ergonaut_common.bus.connection import PUBLISH_PATIENCE_SECONDS, until_answered
from ergonaut_common.settings import PlatformSettings
from ergonaut_telemetry.adapters.publishing_link import NotPlain, PublishingLink, open_link


class BusAnnouncer:
    """The Announcer port over JetStream; the events' ids make a repeat harmless.

    No span is made: one a second, of nothing that anybody asked for, would cost more than it tells.
    """

    def __init__(
        self, bus: Bus, platform: PlatformSettings, patience_seconds: float = PUBLISH_PATIENCE_SECONDS
    ) -> None:
        self._bus = bus
        self._patience_seconds = patience_seconds
        self._platform = platform
        self._link: PublishingLink | None = None
        self._plain = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._link is not None:
            self._link.close()

    async def tell(self, event: Event, body: bytes = b"") -> None:
        try:
            await self._tell(event, body)
        except Broken as error:
            if isinstance(error.__cause__, MaxPayloadError):
                raise Refused(str(error)) from error
            raise

    async def _tell(self, event: Event, body: bytes) -> None:
        subject, payload, headers = event.subject, body or event.model_dump_json().encode(), headers_of(event)
        if self._plain:
            try:
                await until_answered(
                    lambda: self._ask(subject, payload, headers),
                    what=f"publishing on {subject}",
                    patience_seconds=self._patience_seconds,
                )
            except NotPlain:
                self._plain = False
        if not self._plain:
            await self._bus.publish_ready(subject, payload, headers)

    async def _ask(self, subject: str, payload: bytes, headers: Mapping[str, str]) -> None:
        try:
            if self._link is None or not self._link.is_open:
                self._link = await open_link(self._platform)
            await self._link.publish(subject, payload, headers)
        except OSError as error:
            raise ConnectionClosedError from error
        except (AuthorizationError, ProtocolError) as error:
            raise Broken(f"publishing on {subject}: NATS refused: {error}") from error
