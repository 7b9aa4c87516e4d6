"""A stand-in for the books of served models, over what a `FakeStore` keeps."""

import json
from collections import defaultdict
from collections.abc import Iterable
from datetime import date, datetime
from math import fsum
from typing import Any

from ergonaut_ledger.domain.rows import RequestRow
from ergonaut_ledger.domain.served import LoggedRequest, ModelFootprint, RequestsQuestion
from ergonaut_ledger.domain.usage import Span
from ergonaut_ledger.fakes.store import FakeStore

_SERVED = "inference.request.served"


class FakeModelBooks:
    """Fills `ModelBooks`."""

    def __init__(self, store: FakeStore) -> None:
        self._store = store

    async def footprints(self, tenant: str, model: str, during: Span, limit: int) -> list[ModelFootprint]:
        told: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
        for row in self._store.events_of(tenant, _SERVED):
            if model in ("", row.key) and during.starts_at <= row.occurred_at < during.ends_at:
                body = json.loads(row.body)
                told[row.key, body["version"]].append(body)
        return [_footprint(*key, bodies) for key, bodies in sorted(told.items())][:limit]

    async def requests(self, question: RequestsQuestion) -> list[LoggedRequest]:
        found = [
            _logged(row)
            for row in self._store.requests.values()
            if (row.tenant, row.model) == (question.tenant, question.model)
            and question.since <= row.answered_at < question.until
            and question.version in (0, row.version)
        ]
        after = question.after
        if after is not None:
            edge = (after.answered_at, after.event_id, after.position)
            found = [each for each in found if _order(each) < edge]
        return sorted(found, key=_order, reverse=True)[: question.limit + 1]

    async def forget(self, tenant: str, model: str, before: datetime) -> None:
        self._keep(
            lambda row: (row.tenant, row.model) != (tenant, model) or row.answered_at >= before,
        )

    async def days_of_requests(self) -> list[date]:
        return sorted({row.answered_at.date() for row in self._store.requests.values()})

    async def drop_requests(self, day: date) -> None:
        self._keep(lambda row: row.answered_at.date() != day)

    def _keep(self, stays: Any) -> None:
        self._store.requests = {key: row for key, row in self._store.requests.items() if stays(row)}


def _logged(row: RequestRow) -> LoggedRequest:
    names = (name for name in LoggedRequest.__dataclass_fields__ if name != "event_id")
    return LoggedRequest(event_id=row.told.event_id, **{name: getattr(row, name) for name in names})


def _order(request: LoggedRequest) -> tuple[datetime, str, int]:
    return request.answered_at, request.event_id, request.position


def _footprint(model: str, version: int, bodies: list[dict[str, Any]]) -> ModelFootprint:
    measured = [body for body in bodies if body.get("energy_joules") is not None]
    return ModelFootprint(
        model=model,
        version=version,
        requests=sum(body["requests"] for body in bodies),
        predictions=sum(body["rows"] for body in bodies),
        failed=sum(body["failed"] for body in bodies),
        cpu_seconds=fsum(body.get("cpu_seconds") or 0.0 for body in bodies),
        predictions_measured=sum(body["rows"] for body in measured),
        energy_joules=_sum(body["energy_joules"] for body in measured),
        energy_joules_low=_sum(body["energy_joules_low"] for body in measured),
        energy_joules_high=_sum(body["energy_joules_high"] for body in measured),
        methods=tuple(sorted({body["energy_method"] for body in bodies if body.get("energy_method")})),
        carbon_grams_co2e=_sum(body["carbon_grams_co2e"] for body in measured),
        cost_usd=_sum(body["cost_usd"] for body in measured),
    )


def _sum(values: Iterable[float | None]) -> float | None:
    """None where there are none, or some are not known."""
    given = [*values]
    known = [value for value in given if value is not None]
    return fsum(known) if given and len(known) == len(given) else None
