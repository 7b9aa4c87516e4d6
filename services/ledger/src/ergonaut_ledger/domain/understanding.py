"""From a message of the bus to the rows that keep it, or to the reason why it cannot be kept. Called by `Keeping`."""

import math
from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ergonaut.events import EVENT_TYPES, Event, IntensityChanged, OfferChanged, PowerSampled, RequestsLogged
from ergonaut.events.base import Name
from ergonaut.events.quality import LoggedTensor
from ergonaut_ledger.domain.bounds import (
    EARLIEST,
    EVENT_ID_CHARACTERS_MAX,
    INTEGER_MAX,
    LATEST,
    TEXT_CHARACTERS_MAX,
    Malformed,
    Message,
)
from ergonaut_ledger.domain.readings import is_reading, readings_of
from ergonaut_ledger.domain.rows import Batch, EventRow, IntensityRow, OfferRow, RequestRow, Row, SampleRow, Told

SUBJECT_PARTS = 7
"""`ergonaut.v1.<tenant>.<area>.<noun>.<past-verb>.<key>`."""

_tensors = TypeAdapter(tuple[LoggedTensor, ...])

LONG = frozenset({"body", "inputs", "outputs"})
"""Texts that the bus bounds."""

CAREFULLY_MAX = 4
"""So few messages beside an odd one are read one by one; to halve them again would cost as much."""


class _AnyEvent(BaseModel):
    """What every event has, known to us or not: a newer service may tell of things that this ledger does not know yet."""

    model_config = ConfigDict(extra="ignore")

    event_id: str = Field(min_length=1, max_length=EVENT_ID_CHARACTERS_MAX)
    tenant: Name
    occurred_at: datetime


def understand_all(
    messages: Sequence[Message], not_before: datetime = EARLIEST
) -> tuple[Batch, list[Malformed | None]]:
    """The rows of a whole batch, and for each message None or why it can never be kept.

    Power samples are read as columns where nothing is odd about them, about ten times as fast; the answers are the same.
    Samples that began before `not_before` come too late: those of their time have been dropped by age.
    """
    whole = Batch()
    problems: dict[int, Malformed] = {}
    numbered = [*enumerate(messages)]
    careful = [pair for pair in numbered if not is_reading(pair[1])]
    careful += _columns_into(whole, [pair for pair in numbered if is_reading(pair[1])], not_before)
    for number, message in careful:
        result = understand(message, not_before)
        if isinstance(result, Batch):
            whole.add(result)
        else:
            problems[number] = result
    return whole, [problems.get(number) for number, _ in numbered]


def _columns_into(
    whole: Batch, numbered: Sequence[tuple[int, Message]], not_before: datetime
) -> list[tuple[int, Message]]:
    """Add what can be read as columns; gives the messages that cannot. Halved until what is odd stands alone, or nearly."""
    if not numbered:
        return []
    readings = readings_of([message for _, message in numbered], not_before)
    if readings is not None:
        whole.readings.append(readings)
        return []
    if len(numbered) <= CAREFULLY_MAX:
        return [*numbered]
    half = len(numbered) // 2
    return _columns_into(whole, numbered[:half], not_before) + _columns_into(whole, numbered[half:], not_before)


def understand(message: Message, not_before: datetime = EARLIEST) -> Batch | Malformed:
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
        _must_not_be_too_late(batch, not_before)
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
        # What has rows of its own would double the books in the body too, and could not be forgotten there.
        body="" if isinstance(event, (PowerSampled, RequestsLogged)) else message.data.decode(),
    )
    batch = Batch(events=[kept])
    match event:
        case PowerSampled():
            batch.samples.extend(_sample_rows(told, event))
        case OfferChanged():
            batch.offers.append(_offer_row(told, event))
        case RequestsLogged():
            batch.requests.extend(_request_rows(told, event))
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
        "pue_source": event.pue_source,
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


def _request_rows(told: Told, event: RequestsLogged) -> list[RequestRow]:
    return [
        RequestRow(
            told=told,
            position=position,
            tenant=event.tenant,
            model=event.model,
            version=event.version,
            answered_at=request.answered_at,
            request_id=request.request_id,
            latency_ms=request.latency_ms,
            rate=event.rate,
            inputs=_tensors.dump_json(request.inputs).decode(),
            outputs=_tensors.dump_json(request.outputs).decode(),
        )
        for position, request in enumerate(event.requests)
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
        if check is not None and field.name not in LONG and not check(value):
            raise ValueError(f"{field.name}: {str(value)[:80]} is beyond what the ledger can hold")


def _must_not_be_too_late(batch: Batch, not_before: datetime) -> None:
    for row in batch.samples:
        if row.started_at < not_before:
            raise ValueError(
                f"started_at: {row.started_at} is before {not_before}; the samples of its time have been dropped by age, and a "
                "sum without them would be wrong"
            )


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
