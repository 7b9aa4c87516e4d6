"""What pricing needs of the world: to tell its listeners, to remember what it told, and to remember the hosts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ergonaut_pricing.domain import Host, Offer, ZoneForecast


@dataclass(frozen=True, slots=True)
class Told:
    """What was told last about an offer or a zone."""

    text: str
    revision: int
    """Grows with each thing told; makes the next fact's id new, and the same again should telling be repeated."""


class Announcer(Protocol):
    """Tells everybody who listens. Telling the same change twice is telling it once."""

    async def offer_changed(self, offer: Offer, *, available: bool, change: str) -> None:
        """An offer is from now on like this, or gone."""
        ...

    async def intensity_changed(self, forecast: ZoneForecast, *, change: str) -> None:
        """A zone's coming hours are from now on like this."""
        ...


class AnnouncedBook(Protocol):
    """Remembers over restarts what was told last, so that only changes are told."""

    async def last(self, key: str) -> Told | None:
        """What was told last under a key."""
        ...

    async def keys(self) -> Sequence[str]:
        """All keys under which something was told and not forgotten."""
        ...

    async def remember(self, key: str, text: str) -> None:
        """This was told."""
        ...

    async def forget(self, key: str) -> None:
        """What was under this key is gone for good."""
        ...


class HostBook(Protocol):
    """Remembers the hosts that reported, over restarts."""

    async def host(self, tenant: str, name: str) -> Host | None:
        """One host."""
        ...

    async def all(self) -> Sequence[Host]:
        """Every host of every tenant."""
        ...

    async def keep(self, host: Host) -> None:
        """Remember a host as it is now."""
        ...
