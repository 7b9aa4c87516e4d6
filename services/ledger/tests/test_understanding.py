"""What can be kept and what never can."""

import json
from dataclasses import replace
from typing import Any

import pytest

from ergonaut_ledger.domain.bounds import Message
from ergonaut_ledger.domain.rows import Batch
from ergonaut_ledger.domain.understanding import understand

from .told import RUN, because, cpu_sample, day, gpu_sample, message, offer, reading, started


def damaged(fact: Message, **changes: Any) -> Message:
    """The same message with other words in its body."""
    return replace(fact, data=json.dumps(json.loads(fact.data) | changes).encode())


def damaged_sample(**changes: Any) -> Message:
    body = json.loads(message(reading("a", 1), 1).data)
    body["samples"][0] |= changes
    return replace(message(reading("a", 1), 1), data=json.dumps(body).encode())


def test_a_reading_gives_its_event_and_a_row_a_sample() -> None:
    result = understand(message(reading("a", 3, cpu_sample(0), gpu_sample(0)), 12))
    assert isinstance(result, Batch)
    [event] = result.events
    assert (event.area, event.type, event.key) == ("telemetry", "telemetry.power.sampled", "host-1")
    assert (event.producer, event.producer_sequence, event.told.sequence) == ("agent-1", 3, 12)
    assert [(row.position, row.component, row.energy_joules) for row in result.samples] == [
        (0, "cpu", 20.0),
        (1, "gpu0", None),
    ]


def test_prices_give_rows_of_their_own() -> None:
    told = understand(message(offer("public", "aws/eu/m1/spot"), 1))
    hours = understand(message(day("public", "DE", 300), 1))
    assert isinstance(told, Batch)
    assert isinstance(hours, Batch)
    assert [row.market for row in told.offers] == ["spot"]
    assert [row.position for row in hours.intensities] == list(range(24))


def test_the_same_message_always_gives_the_same_rows() -> None:
    fact = message(reading("a", 1), 1)
    assert understand(fact) == understand(fact)


def test_an_event_of_a_newer_service_is_kept_as_it_is() -> None:
    body = b'{"event_id": "e1", "tenant": "a", "occurred_at": "2026-03-01T00:00:00Z", "warp": 9}'
    result = understand(Message("S", 1, "ergonaut.v1.a.runs.run.teleported.run-1", body))
    assert isinstance(result, Batch)
    assert result.events[0].body == body.decode()


@pytest.mark.parametrize(
    ("fact", "word"),
    [
        (Message("S", 1, "ergonaut.v1", b"{}"), "subject"),
        (Message("S", 1, "other.v1.a.runs.run.started.run-1", b"{}"), "subject"),
        (replace(message(started("a"), 1), data=b"not json"), "JSON"),
        (replace(message(started("a"), 1), data=b"\xff\xfe"), "JSON"),
        (replace(message(started("a"), 1), data=b"[]"), "object"),
        (damaged(message(started("a"), 1), tenant="b"), "tenant"),
        (damaged(message(started("a"), 1), run_id="run-2"), "key"),
        (damaged(message(started("a"), 1), started_at="yesterday"), "started_at"),
        (damaged(message(started("a"), 1), event_id=""), "event_id"),
        (damaged(message(started("a"), 1), event_id="x" * 201), "event_id"),
        (damaged(message(started("a"), 1), occurred_at="9999-01-01T00:00:00Z"), "occurred_at"),
        (damaged(message(started("a"), 1), occurred_at="1969-01-01T00:00:00Z"), "occurred_at"),
        (damaged(message(started("a"), 1), occurred_at="2026-01-01T00:00:00"), "occurred_at"),
        (damaged(message(reading("a", 1), 1), sequence=2**63), "producer_sequence"),
        (damaged_sample(energy_joules=-1), "energy_joules"),
        (damaged_sample(energy_joules=float("inf")), "energy_joules"),
        (damaged_sample(cost_usd=float("nan")), "cost_usd"),
        (damaged_sample(component="c" * 5000), "component"),
        (damaged_sample(ended_at="2300-01-01T00:00:00Z"), "ended_at"),
        (damaged(message(offer("public", "aws/eu/m1/spot"), 1), price_microusd_per_hour=2**64), "price_microusd"),
    ],
)
def test_what_cannot_be_kept_says_why(fact: Message, word: str) -> None:
    assert word in because(understand(fact))


def test_a_body_cannot_write_into_another_tenants_books() -> None:
    stolen = damaged(message(reading("a", 1), 1), tenant="victim")
    assert "victim" in because(understand(stolen))


def test_a_run_of_another_key_is_refused_under_this_subject() -> None:
    fact = message(started("a"), 1)
    assert because(understand(replace(fact, subject=fact.subject.replace(RUN, "run-9")))).startswith("key")
