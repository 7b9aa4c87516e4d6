"""In-memory twins of the ports, for tests; the contract tests hold them to the same promises as the adapters."""

from collections.abc import Sequence

from ergonaut_pricing.domain import Host, Offer, ZoneForecast
from ergonaut_pricing.ports import Told


class FakeAnnouncer:
    """Keeps what was told; `failing` makes the next tellings fail with that error."""

    def __init__(self) -> None:
        self.offers: list[tuple[Offer, bool]] = []
        self.forecasts: list[ZoneForecast] = []
        self.failing: Exception | None = None
        self._changes: set[str] = set()

    async def offer_changed(self, offer: Offer, *, available: bool, change: str) -> None:
        if self._is_new(change):
            self.offers.append((offer, available))

    async def intensity_changed(self, forecast: ZoneForecast, *, change: str) -> None:
        if self._is_new(change):
            self.forecasts.append(forecast)

    def _is_new(self, change: str) -> bool:
        if self.failing is not None:
            raise self.failing
        new = change not in self._changes
        self._changes.add(change)
        return new


class FakeAnnouncedBook:
    """What was told, in a dictionary."""

    def __init__(self) -> None:
        self._told: dict[str, Told] = {}
        self._revision = 0

    async def last(self, key: str) -> Told | None:
        return self._told.get(key)

    async def keys(self) -> Sequence[str]:
        return sorted(self._told)

    async def remember(self, key: str, text: str) -> None:
        self._revision += 1
        self._told[key] = Told(text, self._revision)

    async def forget(self, key: str) -> None:
        self._told.pop(key, None)


class FakeHostBook:
    """Hosts, in a dictionary."""

    def __init__(self) -> None:
        self._hosts: dict[tuple[str, str], Host] = {}

    async def host(self, tenant: str, name: str) -> Host | None:
        return self._hosts.get((tenant, name))

    async def all(self) -> Sequence[Host]:
        return [self._hosts[key] for key in sorted(self._hosts)]

    async def keep(self, host: Host) -> None:
        self._hosts[(host.tenant, host.name)] = host
