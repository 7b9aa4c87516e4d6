"""What is kept of an endpoint: what it is, what it was, and what is to be told of it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from ergonaut.errors import Refused
from ergonaut.events import EndpointChanged, EndpointRemoved, Event
from ergonaut.ids import derived_id
from ergonaut_gateway.domain.endpoints.spec import Endpoint
from ergonaut_gateway.domain.revisions import HISTORY_MAX, check_expected


@dataclass(frozen=True, slots=True)
class Revision:
    """An endpoint as somebody applied it."""

    revision: int
    endpoint: Endpoint
    changed_by: str
    changed_at: datetime
    because: str = ""


@dataclass(frozen=True, slots=True)
class EndpointRecord:
    """The one truth about an endpoint."""

    tenant: str
    name: str
    now: Revision
    history: tuple[Revision, ...] = ()
    """What it was, the newest first."""
    removed_at: datetime | None = None
    is_told: bool = False
    """Whether the other services were told of the newest change."""

    @property
    def is_kept(self) -> bool:
        """Whether requests may go to it."""
        return self.removed_at is None


@dataclass(frozen=True, slots=True)
class EndpointEntry:
    """A record and the revision under which it is kept; a writer must name the revision that it replaces."""

    record: EndpointRecord
    revision: int


@dataclass(frozen=True, slots=True)
class Change:
    """Who changes an endpoint and why, and which revision it must have until then: 0 for none, None for any."""

    by: str
    because: str = ""
    expected: int | None = None


def applied(
    current: EndpointRecord | None, tenant: str, endpoint: Endpoint, change: Change, *, at: datetime
) -> EndpointRecord:
    """The record after an endpoint was applied; the same one where nothing is other. Raises Conflict."""
    check_expected(current, f"endpoint {endpoint.name}", change.expected)
    if current is not None and current.is_kept and current.now.endpoint == endpoint:
        return current
    # Revisions go on counting after a removal, so that figures of the one before are never taken for those of this one.
    last = current.now.revision if current is not None else 0
    past = (current.now, *current.history)[:HISTORY_MAX] if current is not None else ()
    return EndpointRecord(tenant, endpoint.name, Revision(last + 1, endpoint, change.by, at, change.because), past)


def before(current: EndpointRecord, revision: int = 0) -> Endpoint:
    """What the endpoint was at an earlier revision, the one before where none is named. Raises Refused."""
    if not current.history:
        raise Refused("has no earlier revision", field="to_revision")
    if not revision:
        return current.history[0].endpoint
    for past in current.history:
        if past.revision == revision:
            return past.endpoint
    known = ", ".join(str(past.revision) for past in current.history)
    raise Refused(f"is {revision}; kept are {known}", field="to_revision")


def removed(current: EndpointRecord, *, at: datetime) -> EndpointRecord:
    """The record after the endpoint was removed; what it was is kept a while."""
    return replace(current, removed_at=at, is_told=False)


def event_of(record: EndpointRecord) -> Event:
    """The event behind the newest change, the same however often it is asked for."""
    parts = (record.tenant, record.name, str(record.now.revision))
    if record.removed_at is not None:
        return EndpointRemoved(
            event_id=derived_id("event", "endpoint-removed", *parts),
            tenant=record.tenant,
            occurred_at=record.removed_at,
            endpoint=record.name,
        )
    endpoint = record.now.endpoint
    total = sum(route.weight for route in endpoint.routes)
    return EndpointChanged(
        event_id=derived_id("event", "endpoint-changed", *parts),
        tenant=record.tenant,
        occurred_at=record.now.changed_at,
        endpoint=record.name,
        revision=record.now.revision,
        changed_by=record.now.changed_by,
        because=record.now.because,
        shares={f"{route.name}={route.told}": route.weight / total for route in endpoint.routes},
    )


def held_by(records: Iterable[EndpointRecord], tenant: str, model: str) -> dict[str, str]:
    """By the versions of a model that endpoints send requests to: which endpoint."""
    held: dict[str, str] = {}
    for record in records:
        if record.tenant == tenant and record.is_kept:
            for _, used, version in record.now.endpoint.uses():
                if used == model:
                    held.setdefault(version, f"endpoint {record.name}")
    return held
