"""Tells what served models were asked and what that used, and lets logged requests go. Called by the gRPC door and by `main`."""

from datetime import UTC, datetime, timedelta

from ergonaut.errors import Broken, Unavailable
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_ledger.domain.served import ModelFootprint, Page, RequestsQuestion, page_of
from ergonaut_ledger.domain.usage import Span
from ergonaut_ledger.ports.served import ModelBooks

FOOTPRINTS_MAX = 1_000
PAUSE_SECONDS = 3_600.0
"""Between two looks for days that have reached their age."""

log = get_logger(__name__)


class ServingModels:
    """Answers for one tenant at a time."""

    def __init__(self, books: ModelBooks, clock: Clock, *, requests_days: int) -> None:
        self.books = books
        self._clock = clock
        self._age = timedelta(days=requests_days)

    async def footprints(self, tenant: str, model: str, during: Span) -> list[ModelFootprint]:
        """What versions served and used in a time."""
        return await self.books.footprints(tenant, model, during, FOOTPRINTS_MAX)

    async def requests(self, question: RequestsQuestion) -> Page:
        """A page of logged requests."""
        return page_of(await self.books.requests(question), question.limit)

    async def forget(self, tenant: str, model: str, before: datetime) -> None:
        """Drop a model's logged requests."""
        await self.books.forget(tenant, model, before)
        # By name and number only: what was asked is private.
        log.info("logged requests forgotten", tenant=tenant, model=model, before=before.isoformat())

    async def let_go(self) -> None:
        """Drop the days that have reached their age."""
        oldest = self._clock.now() - self._age
        for day in await self.books.days_of_requests():
            if datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1) <= oldest:
                await self.books.drop_requests(day)
                log.info("logged requests dropped by age", day=day.isoformat())

    async def keep_letting_go(self) -> None:
        """Do that again and again, for ever; trouble is waited out."""
        while True:
            try:
                await self.let_go()
            except (Unavailable, Broken) as error:
                log.warning("old logged requests will be looked for again", because=str(error))
            await self._clock.sleep(PAUSE_SECONDS)
