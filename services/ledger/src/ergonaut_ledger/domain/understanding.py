"""From a message of the bus to the rows that keep it, or to the reason why it cannot be kept. Called by `Keeping`."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ergonaut.events import EVENT_TYPES, Event, IntensityChanged, OfferChanged, PowerSampled
from ergonaut.events.base import Name
from ergonaut_ledger.domain.rows import Batch, EventRow, IntensityRow, OfferRow, Row, SampleRow, Told

SUBJECT_PARTS = 7
"""`ergonaut.v1.<tenant>.<area>.<noun>.<past-verb>.<key>`."""

EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""Times outside are a broken clock; a row that the engine's calendar cannot hold would hold up its whole batch."""

INTEGER_MAX = 2**63 - 1
"""The widest whole number that a column holds."""

TEXT_CHARACTERS_MAX = 4096
"""Longer texts in a sample or offer are a bug or an attack; bodies are bounded by the bus."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message as the bus delivered it."""

    stream: str
    sequence: int
    subject: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Malformed:
    """A message that can never be kept, and why."""

    because: str


class _AnyEvent(BaseModel):
    """What every event has, known to us or not: a newer service may tell of things that this ledger does not know yet."""

    model_config = ConfigDict(extra="ignore")

    event_id: str = Field(min_length=1, max_length=200)
    tenant: Name
    occurred_at: datetime


def understand(message: Message) -> Batch | Malformed:
    """The rows of one message. The same message always gives the same rows."""
    parts = message.subject.split(".")
    if len(parts) != SUBJECT_PARTS or parts[:2] != ["ergonaut", "v1"]:
        return Malformed(f"subject {message.subject!r} is not ergonaut.v1.<tenant>.<area>.<noun>.<verb>.<key>")
    event_type = ".".join(parts[3:6])
    try:
        head = _AnyEvent.model_validate_json(message.data)
        known = EVENT_TYPES.get(event_type)
        event = known.model_validate_json(message.data) if known else None
        _must_match_subject(head, event, message.subject)
        batch = _rows(message, head, event, event_type)
        for row in batch.rows:
            _must_be_storable(row)
    except ValidationError as error:
        return Malformed(_first_problem(error))
    except ValueError as error:
        return Malformed(str(error))
    return batch


def _must_match_subject(head: _AnyEvent, event: Event | None, subject: str) -> None:
    """The subject is what the bus checked permissions on; a body that says otherwise would write into another's books."""
    tenant, key = subject.split(".")[2], subject.split(".")[6]
    if head.tenant != tenant:
        raise ValueError(f"tenant: the body says {head.tenant!r}, the subject {tenant!r}")
    if event is not None and event.key != key:
        raise ValueError(f"key: the body says {event.key!r}, the subject {key!r}")


def _rows(message: Message, head: _AnyEvent, event: Event | None, event_type: str) -> Batch:
    told = Told(head.event_id, message.stream, message.sequence)
    kept = EventRow(
        told=told,
        tenant=head.tenant,
        area=event_type.partition(".")[0],
        type=event_type,
        key=message.subject.rpartition(".")[2],
        occurred_at=head.occurred_at,
        subject=message.subject,
        producer=event.producer if isinstance(event, PowerSampled) else "",
        producer_sequence=event.sequence if isinstance(event, PowerSampled) else 0,
        body=message.data.decode(),
    )
    batch = Batch(events=[kept])
    match event:
        case PowerSampled():
            batch.samples.extend(_sample_rows(told, event))
        case OfferChanged():
            batch.offers.append(_offer_row(told, event))
        case IntensityChanged():
            batch.intensities.extend(_intensity_rows(told, event))
    return batch


def _sample_rows(told: Told, event: PowerSampled) -> list[SampleRow]:
    shared: dict[str, Any] = {
        "told": told,
        "tenant": event.tenant,
        "host": event.host,
        "producer": event.producer,
        "producer_sequence": event.sequence,
        "zone": event.zone,
        "intensity_grams_per_kwh": event.intensity_grams_per_kwh,
        "intensity_kind": event.intensity_kind,
        "intensity_source": event.intensity_source,
        "pue": event.pue,
        "intensity_signal": event.intensity_signal.value,
        "intensity_accounting": event.intensity_accounting.value,
        "intensity_boundary": event.intensity_boundary.value,
    }
    return [
        SampleRow(
            **shared,
            position=position,
            share=sample.share.value,
            run_id=sample.run_id,
            job_id=sample.job_id,
            component=sample.component,
            method=sample.method.value,
            source=sample.source,
            range_fraction=sample.range_fraction,
            started_at=sample.started_at,
            ended_at=sample.ended_at,
            energy_joules=sample.energy_joules,
            carbon_grams_co2e=sample.carbon_grams_co2e,
            cost_usd=sample.cost_usd,
            project=sample.project,
            embodied_grams_co2e=sample.embodied_grams_co2e,
        )
        for position, sample in enumerate(event.samples)
    ]


def _offer_row(told: Told, event: OfferChanged) -> OfferRow:
    told_of = {"told", "told_at", "market"}
    same_named = {field.name: getattr(event, field.name) for field in fields(OfferRow) if field.name not in told_of}
    return OfferRow(told=told, told_at=event.occurred_at, market=event.market.value, **same_named)


def _intensity_rows(told: Told, event: IntensityChanged) -> list[IntensityRow]:
    return [
        IntensityRow(
            told=told,
            position=position,
            tenant=event.tenant,
            told_at=event.occurred_at,
            zone=event.zone,
            starts_at=hour.starts_at,
            intensity_grams_per_kwh=hour.intensity_grams_per_kwh,
            range_fraction=hour.range_fraction,
            kind=hour.kind.value,
            source=event.source,
        )
        for position, hour in enumerate(event.hours)
    ]


def _storable_time(value: datetime) -> bool:
    return EARLIEST <= value < LATEST


_STORABLE: dict[type, Callable[[Any], bool]] = {
    datetime: _storable_time,
    float: math.isfinite,
    int: lambda value: 0 <= value <= INTEGER_MAX,
    str: lambda value: len(value) <= TEXT_CHARACTERS_MAX,
}


def _must_be_storable(row: Row) -> None:
    for field in fields(row):
        value = getattr(row, field.name)
        check = _STORABLE.get(type(value))
        if check is not None and field.name != "body" and not check(value):
            raise ValueError(f"{field.name}: {str(value)[:80]} is beyond what the ledger can hold")


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
