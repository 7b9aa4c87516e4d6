"""Finds out where the host stands and tells whoever reckons with it; a cloud that is silent after a boot is asked again."""

from collections.abc import Awaitable, Callable

from ergonaut.carbon import yearly_factor
from ergonaut.metering import Place, ask_again_seconds
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_telemetry.domain import Terms

Ask = Callable[[bool], Awaitable[Place]]
"""Asks for the host's place; where true, also if nobody answered lately. May take a second."""

log = get_logger(__name__)


class Placing:
    """The terms by which the host is reckoned, with its place as far as that is known."""

    def __init__(self, terms: Terms, ask: Ask) -> None:
        self.terms = terms
        self._ask = ask
        self._asked = 0
        self._settled = bool(terms.zone)
        self._listeners: list[Callable[[Terms], None]] = []
        if terms.zone:
            _tell_of_zone(terms.zone)

    def tell(self, listener: Callable[[Terms], None]) -> None:
        """Let a listener have the terms whenever they change."""
        self._listeners.append(listener)

    async def look(self) -> None:
        """Ask once, unless the place is known. Raises Refused for a setting that cannot be."""
        if self._settled:
            return
        place = await self._ask(self._asked > 0)
        self._asked += 1
        self._settled = not place.may_be_told_later
        if not place.zone:
            if self._asked == 1:
                log.warning("the place is unknown; the world's average counts, marked as such", why=place.source)
            return
        told = {"zone": place.zone, "region": place.region, "told_by": place.source, "pue_told_by": place.pue_source}
        log.info("the place is known", **told)
        self.terms = self.terms.placed(place)
        for listener in self._listeners:
            listener(self.terms)

    async def run(self, clock: Clock) -> None:
        """Look again after growing pauses, until the place is known or it is no use any more."""
        while not self._settled:
            pause_seconds = ask_again_seconds(self._asked)
            if pause_seconds is None:
                return
            await clock.sleep(pause_seconds)
            await self.look()


def _tell_of_zone(zone: str) -> None:
    # Said once, at the start: a slip of the pen looks like a zone of no table.
    if yearly_factor(zone) is None:
        log.warning("the zone is in no table; the world's average counts where pricing tells nothing else", zone=zone)
