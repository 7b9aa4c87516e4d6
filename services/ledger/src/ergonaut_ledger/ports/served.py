"""What the ledger needs to tell of served models."""

from datetime import date, datetime
from typing import Protocol

from ergonaut_ledger.domain.served import LoggedRequest, ModelFootprint, RequestsQuestion
from ergonaut_ledger.domain.usage import Span


class ModelBooks(Protocol):
    """What the gateway told of models. All raise Unavailable when busy."""

    async def footprints(self, tenant: str, model: str, during: Span, limit: int) -> list[ModelFootprint]:
        """What versions served in a time, by model and version; an empty model does not narrow."""
        ...

    async def requests(self, question: RequestsQuestion) -> list[LoggedRequest]:
        """The newest logged requests, newest first; one more than asked for where there are more."""
        ...

    async def forget(self, tenant: str, model: str, before: datetime) -> None:
        """Drop a model's logged requests that were answered before a moment."""
        ...

    async def days_of_requests(self) -> list[date]:
        """The days of which requests are kept, oldest first."""
        ...

    async def drop_requests(self, day: date) -> None:
        """Drop a day's logged requests of all tenants."""
        ...
