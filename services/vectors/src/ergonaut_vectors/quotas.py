"""Holds tenants to what they may have. The doors ask before each call, and before each write for what it would add."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from prometheus_client import Counter

from ergonaut.errors import Unavailable
from ergonaut_vectors.catalogue import Opened
from ergonaut_vectors.domain.quotas import BURST_SECONDS, Calls, Quota, Usage, called, check_room, fits, rate_of
from ergonaut_vectors.settings import Settings

TENANTS_MAX = 100_000
"""Tenants whose calls are remembered, 200 bytes each; who has not called for longest is forgotten, and may begin anew."""

COUNTED_EVERY_SECONDS = 30.0
"""Between two countings of what a bounded tenant has; what it writes meanwhile is added up."""

COUNTED_ANYWHERE_EVERY_SECONDS = 5.0
"""The same where nodes share collections, and others write meanwhile what is not known here: by so much of that a tenant may have
more than it should."""

_held_up = Counter(
    "ergonaut_vectors_calls_held_up_total", "Calls that were sent away because a tenant called too often."
)


class _Known(NamedTuple):
    """What a tenant has, as far as is known."""

    used: Usage
    at_seconds: float


class Quotas:
    """What each tenant may have: its own quota, or everybody's."""

    def __init__(
        self, everybody: Quota, own: Mapping[str, Quota] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._everybody = everybody
        self._own = dict(own or {})
        self._clock = clock
        self._calls: OrderedDict[str, Calls] = OrderedDict()
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def of(self, tenant: str) -> Quota:
        """What a tenant may have."""
        return self._own.get(tenant, self._everybody)

    def enter(self, tenant: str) -> None:
        """Count a call. Raises Unavailable where there were too many just now."""
        per_second = self.of(tenant).calls_per_second
        if not per_second:
            return
        now = self._clock()
        before = self._calls.get(tenant) or Calls(per_second * BURST_SECONDS, now)
        self._calls[tenant], wait_seconds = called(before, now, per_second)
        self._calls.move_to_end(tenant)
        if len(self._calls) > TENANTS_MAX:
            self._calls.popitem(last=False)
        if wait_seconds:
            _held_up.inc()
            message = (
                f"tenant {tenant} calls more than {per_second:g} times a second; try again in {wait_seconds:.2f} s"
            )
            raise Unavailable(message)

    def calls_per_second(self, tenant: str) -> float:
        """How often it called, over the last seconds; 0 where that is not bounded, and so not counted."""
        quota, calls = self.of(tenant), self._calls.get(tenant)
        if not quota.calls_per_second or calls is None:
            return 0.0
        return rate_of(calls, self._clock(), quota.calls_per_second)

    def check_room(self, tenant: str, more: Usage, collections: Callable[[], Sequence[Opened]]) -> None:
        """Raise Refused where a tenant may not have so much more, and count it in where it may.

        What is written anew counts as more until the tenant's collections are counted again: now and then, for there
        may be many, and before anybody is refused.
        """
        if self._is_bounded(tenant, more):
            known = self._known_lately(tenant, more, COUNTED_EVERY_SECONDS) or self._counted(
                tenant, usage_of(collections())
            )
            self._take(tenant, known, more)

    async def check_room_anywhere(self, tenant: str, more: Usage, count: Callable[[], Awaitable[Usage]]) -> None:
        """The same where counting is asked of other nodes. While one is away what was counted last holds."""
        if not self._is_bounded(tenant, more):
            return
        known = self._known_lately(tenant, more, COUNTED_ANYWHERE_EVERY_SECONDS)
        if known is None:
            try:
                known = self._counted(tenant, await count())
            except Unavailable:
                known = self._known.get(tenant) or self._counted(tenant, Usage())
        self._take(tenant, known, more)

    def _is_bounded(self, tenant: str, more: Usage) -> bool:
        quota = self.of(tenant)
        return bool(quota.vectors or quota.vector_bytes or (more.collections and quota.collections))

    def _known_lately(self, tenant: str, more: Usage, every_seconds: float) -> _Known | None:
        """What it has, where that was counted lately and leaves room."""
        known = self._known.get(tenant)
        if known is None or known.at_seconds + every_seconds < self._clock():
            return None
        return known if fits(self.of(tenant), known.used, more) else None

    def _counted(self, tenant: str, used: Usage) -> _Known:
        self._known[tenant] = _Known(used, self._clock())
        return self._known[tenant]

    def _take(self, tenant: str, known: _Known, more: Usage) -> None:
        check_room(self.of(tenant), known.used, more)
        self._known[tenant] = _Known(known.used.with_more(more), known.at_seconds)
        self._known.move_to_end(tenant)
        if len(self._known) > TENANTS_MAX:
            self._known.popitem(last=False)


def quotas_of(settings: Settings) -> Quotas:
    """What the settings let each tenant have."""
    everybody = Quota(
        settings.collections_max, settings.vectors_max, settings.vector_bytes_max, settings.calls_per_second
    )
    return Quotas(everybody, settings.tenant_quotas)


def usage_of(collections: Sequence[Opened]) -> Usage:
    """What there is in these collections."""
    return Usage(
        len(collections),
        sum(opened.count for opened in collections),
        sum(opened.count * opened.schema.space.row_bytes for opened in collections),
    )
