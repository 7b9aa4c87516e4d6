"""Who calls, told by the headers; remembered for a moment, since a key's digest takes longer than the rest of a request."""

import time
from collections.abc import Callable, Mapping

from ergonaut.errors import NotAllowed
from ergonaut.keys import Scope
from ergonaut_common.auth import Caller, KeyRing
from ergonaut_common.rpc.calls import TENANT_METADATA
from ergonaut_gateway.http.answers import Unknown

REMEMBERED_SECONDS = 1.0
"""How long a key that is no longer let in may go on: it is asked for again after this."""

_READ = Scope.READ

CALLERS_MAX = 1024
"""Callers remembered; beyond that all are forgotten, which costs each one digest."""


class Callers:
    """Finds the caller of a request."""

    def __init__(self, keys: KeyRing, *, now_seconds: Callable[[], float] = time.monotonic) -> None:
        self._keys = keys
        self._now_seconds = now_seconds
        self._known: dict[tuple[str, str], tuple[Caller, float]] = {}

    def of(self, headers: Mapping[str, str], scope: Scope = Scope.READ) -> Caller:
        """The caller behind headers, who has a tenant and the scope. Raises Unknown or another NotAllowed."""
        shown = (headers.get("authorization", ""), headers.get(TENANT_METADATA, ""))
        known = self._known.get(shown)
        if known is None or known[1] < self._now_seconds():
            known = self._asked(*shown)
            if len(self._known) >= CALLERS_MAX:
                self._known.clear()
            self._known[shown] = known
        who = known[0]
        # Whoever is known may read; to look for an enumeration's member takes longer than the look-up above.
        if scope is not _READ and scope not in who.scopes:
            who.require(scope)
        return who

    def known_until(self, headers: Mapping[str, str]) -> float:
        """Until when the caller behind headers need not be looked for again, by this clock; 0 for one who was not found."""
        known = self._known.get((headers.get("authorization", ""), headers.get(TENANT_METADATA, "")))
        return known[1] if known is not None else 0.0

    def _asked(self, authorization: str, tenant: str) -> tuple[Caller, float]:
        until_seconds = self._now_seconds() + REMEMBERED_SECONDS
        try:
            who = self._keys.authenticate(authorization)
        except NotAllowed as error:
            raise Unknown(str(error)) from error
        who.require(Scope.READ)
        if tenant:
            who = who.acting_for(tenant)
        if not who.tenant:
            raise NotAllowed(f"{who.principal} belongs to no tenant; say for whom you act in {TENANT_METADATA}")
        return who, until_seconds
