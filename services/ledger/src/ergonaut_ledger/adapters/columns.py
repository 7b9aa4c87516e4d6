"""The rows as Arrow tables: one schema a table, its columns named as the fields of the rows. Used by the ClickHouse store."""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

import pyarrow as pa

from ergonaut_ledger.domain.rolling import touched_minutes
from ergonaut_ledger.domain.rows import Batch, Row, Told

INSERT_SETTINGS = {
    # A batch may hold events of many months, after a long absence or from a wrong clock; refusing it would hold it up for ever.
    "max_partitions_per_insert_block": 0,
    # Repeats within one insert are rare and are left to merges and FINAL; to look for them doubled the time of an insert.
    "optimize_on_insert": 0,
}

_TIME = pa.timestamp("us", tz="UTC")
_TYPES: dict[str, pa.DataType] = {
    "sequence": pa.uint64(),
    "producer_sequence": pa.uint64(),
    "position": pa.uint32(),
    "occurred_at": _TIME,
    "told_at": _TIME,
    "noted_at": _TIME,
    "started_at": _TIME,
    "ended_at": _TIME,
    "starts_at": _TIME,
    "intensity_grams_per_kwh": pa.float64(),
    "range_fraction": pa.float64(),
    "pue": pa.float64(),
    "energy_joules": pa.float64(),
    "carbon_grams_co2e": pa.float64(),
    "cost_usd": pa.float64(),
    "embodied_grams_co2e": pa.float64(),
    "vcpus": pa.float64(),
    "memory_gib": pa.float64(),
    "power_watts_expected": pa.float64(),
    "accelerator_count": pa.uint64(),
    "price_microusd_per_hour": pa.uint64(),
    "electricity_microusd_per_kwh": pa.uint64(),
    "billing_increment_seconds": pa.uint64(),
    "available": pa.bool_(),
    "version": pa.uint64(),
    "answered_at": _TIME,
    "latency_ms": pa.float64(),
    "rate": pa.float64(),
}
"""Columns that are not text."""


def arrow_tables(batch: Batch) -> Iterator[tuple[str, Any]]:
    """What is to be inserted: a table's name and its rows. Events go last: one that is here proves that its rows are here."""
    told: dict[str, Sequence[Row]] = {
        "power_samples": batch.samples,
        "offers": batch.offers,
        "intensities": batch.intensities,
        "model_requests": batch.requests,
    }
    for table, rows in told.items():
        if rows:
            yield table, arrow_table(rows)
    for readings in batch.readings:
        if readings.samples.num_rows:
            yield "power_samples", readings.samples
    touched = touched_minutes(batch)
    if touched:
        # After the samples: whoever sees the touch sees them too. Before the events: what is acknowledged will be rolled up.
        yield "touched_minutes", _touch_table(touched)
    if batch.events:
        yield "events", arrow_table(batch.events)
    for readings in batch.readings:
        yield "events", readings.events


def _touch_table(touched: Sequence[tuple[str, datetime]]) -> Any:
    tenants, minutes = zip(*touched, strict=True)
    return pa.table(
        {
            "tenant": pa.array(tenants, pa.string()),
            "minute": pa.array(minutes, pa.timestamp("s", tz="UTC")),
            "sign": pa.array([1] * len(touched), pa.int8()),
        }
    )


def arrow_table(rows: Sequence[Row]) -> Any:
    """The rows, all of one kind, as an Arrow table whose columns are the ClickHouse table's."""
    columns: dict[str, list[Any]] = {
        field.name: [getattr(row.told, field.name) for row in rows] for field in fields(Told)
    }
    columns |= {
        field.name: [getattr(row, field.name) for row in rows] for field in fields(rows[0]) if field.name != "told"
    }
    return pa.table({name: pa.array(values, _TYPES.get(name, pa.string())) for name, values in columns.items()})
