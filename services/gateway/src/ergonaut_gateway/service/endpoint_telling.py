"""What this process counted of endpoints, told to the others under its name: as often as it changes, and from time to time though
it does not, so that nobody takes the process for gone."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.endpoints.figures import GONE, EndpointFigures, RouteFigures, added, since
from ergonaut_gateway.ports import FiguresBook
from ergonaut_gateway.service.endpoint_folding import BEAT_SECONDS
from ergonaut_gateway.service.traffic import EndpointPlan

Key = tuple[str, str]

log = get_logger(__name__)


@dataclass(slots=True)
class _Told:
    """What was told of one endpoint, and under which name."""

    process: str
    counted: tuple[int, int] = (0, 0)
    """Revision, and how much there was."""
    looked_seconds: float | None = None
    base_revision: int = 0
    base: Mapping[str, RouteFigures] = field(default_factory=dict)
    """What stands in the sum of those that are gone already, under that revision."""


class OwnFigures:
    """Tells them."""

    def __init__(self, book: FiguresBook, clock: Clock, process: str) -> None:
        self._book = book
        self._clock = clock
        self._process = process
        self._told: dict[Key, _Told] = {}

    async def tell(self, key: Key, plan: EndpointPlan) -> None:
        """Tell what a plan counted, where that is news or was told long ago. Raises Unavailable."""
        counted = (plan.revision, sum(each.requests + each.labelled for each in plan.counts))
        told = self._told.get(key)
        if told is None:
            if not counted[1]:
                return
            told = self._told[key] = _Told(self._process)
        now = self._clock.monotonic()
        beats = told.looked_seconds is None or now - told.looked_seconds >= BEAT_SECONDS
        if told.counted == counted and not beats:
            return
        await self._write(key, plan, told)
        if beats and await self._was_folded(key, plan, told):
            await self._write(key, plan, told)
        told.counted = counted
        if beats:
            told.looked_seconds = now

    def forget(self, key: Key) -> None:
        """An endpoint is gone."""
        self._told.pop(key, None)

    async def _write(self, key: Key, plan: EndpointPlan, told: _Told) -> None:
        routes: Mapping[str, RouteFigures]
        routes = {route.name: counts for route, counts in zip(plan.routes, plan.counts, strict=True)}
        if told.base_revision == plan.revision:
            routes = since(routes, told.base)
        await self._book.tell(*key, EndpointFigures(told.process, plan.revision, routes))

    async def _was_folded(self, key: Key, plan: EndpointPlan, told: _Told) -> bool:
        """Whether others took this process for gone, as where it had not reached them for long. From then on it goes on under
        another name, and with what it counted beyond what they have."""
        sums = (each for each in await self._book.told(*key) if each.process == GONE and each.revision == plan.revision)
        folded = next((each.folded[told.process] for each in sums if told.process in each.folded), None)
        if folded is None:
            return False
        before = told.base if told.base_revision == plan.revision else {}
        told.base_revision, told.base = plan.revision, added(before, folded)
        number = 1 + int(told.process.removeprefix(self._process).removeprefix("-") or 1)
        told.process = f"{self._process}-{number}"
        log.info("counts go on under another name", tenant=key[0], endpoint=key[1], process=told.process)
        return True
