"""What exports hold: the tables, their columns with units and meanings, and the forms of the files. Asked by `Exporting`."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ergonaut.errors import Refused
from ergonaut_ledger.domain.usage import Span

VERSION = "1"
"""Of the dictionary: raised when a column changes its meaning; columns may be added without."""

LICENCE_NOTE = (
    "The figures belong to whoever ran the system that measured them, who decides on the licence of what is published. "
    "Intensities come from the source that each row names; that source's licence holds for them."
)
ANONYMOUS_NOTE = (
    "Names of hosts, regions, runs, jobs and projects are keyed digests (BLAKE2b-80 with a secret of the tenant that is in no "
    "file); the same name has the same digest in all exports of the tenant."
)
OPEN_NOTE = "Names are as they were told."

DIGEST_BYTES = 10
"""80 bits: among a million names the chance of two alike is below one in a trillion."""

_TIME = pa.timestamp("us", tz="UTC")
_TEXT = pa.string()
_NUMBER = pa.float64()
_COUNT = pa.uint64()


@dataclass(frozen=True, slots=True)
class Column:
    """One column of an export."""

    name: str
    type: Any
    unit: str
    description: str
    names: str = ""
    """What a digest of it begins with, for columns that name somebody's things; empty for all others."""


@dataclass(frozen=True, slots=True)
class Export:
    """What is asked for: whose, of which table, when, of which run only, and whether by digests."""

    tenant: str
    table: str
    span: Span
    run_id: str = ""
    anonymous: bool = False


_LABELS = (
    Column("run_id", _TEXT, "", "The run charged; empty for others and idle.", "run"),
    Column("job_id", _TEXT, "", "The run's job; empty where there is none.", "job"),
    Column("project", _TEXT, "", "The run's project; empty where there is none.", "project"),
    Column("host", _TEXT, "", "The host that was measured.", "host"),
    Column("share", _TEXT, "", "To whom it is charged: `run`, `others` or `idle`."),
    Column(
        "component", _TEXT, "", "`cpu`, `dram`, `gpu0`, ...; `machine` is the machine itself: its rent and its making."
    ),
    Column("method", _TEXT, "", "`counter`, `power-samples`, `model` or `not-measured`."),
    Column("source", _TEXT, "", "What was read or which model was used."),
    Column("zone", _TEXT, "", "Grid zone; empty where unknown."),
    Column("intensity_kind", _TEXT, "", "What the intensity rests on: `yearly`, `forecast`, `measured`, ..."),
    Column("intensity_source", _TEXT, "", "Where the intensity was taken from."),
    Column("intensity_signal", _TEXT, "", "`average` or `marginal`."),
    Column("intensity_accounting", _TEXT, "", "`location-based` or `market-based` (GHG Protocol, Scope 2)."),
    Column("intensity_boundary", _TEXT, "", "`life-cycle`, `direct` or `unknown`."),
)
_MONEY_AND_GRAMS = (
    Column("carbon_grams_co2e", _NUMBER, "g", "Operational CO2e, PUE included; null where energy is not known."),
    Column(
        "embodied_grams_co2e", _NUMBER, "g", "Part of the machine's making (ISO/IEC 21031), never in the column before."
    ),
    Column("cost_usd", _NUMBER, "USD", "Electricity; on `machine` the rent. Null where not known."),
)
_SAMPLES = (
    Column("event_id", _TEXT, "", "The message that told it; with `position` the sample's identity.", "event"),
    Column("position", pa.uint32(), "", "Its place in that message."),
    Column("producer", _TEXT, "", "Who numbered the message.", "agent"),
    Column(
        "producer_sequence", _COUNT, "", "The message's number; a gap in one producer's numbers is missing samples."
    ),
    Column("started_at", _TIME, "", "Beginning of the interval, UTC."),
    Column("ended_at", _TIME, "", "End of the interval, UTC."),
    *_LABELS,
    Column("intensity_grams_per_kwh", _NUMBER, "g/kWh", "Intensity used."),
    Column("pue", _NUMBER, "1", "Energy of the building over that of the machines; 1 where not told."),
    Column("energy_joules", _NUMBER, "J", "Energy over the interval; null where not measured."),
    Column(
        "range_fraction", _NUMBER, "1", "The true energy lies within plus or minus this fraction; null where not known."
    ),
    *_MONEY_AND_GRAMS,
)
_ROLLED = (
    Column("at", _TIME, "", "Beginning of the minute, hour or day, UTC; a sample counts where it began."),
    *_LABELS,
    Column("energy_joules", _NUMBER, "J", "Sum of the samples' energy; null where none was measured."),
    Column("energy_joules_range", _NUMBER, "J", "Sum of the samples' error ranges: they may all err alike."),
    Column("building_joules", _NUMBER, "J", "Sum of energy times PUE."),
    *_MONEY_AND_GRAMS,
    Column("seconds", _NUMBER, "s", "Sum of the samples' durations."),
    Column("samples", _COUNT, "1", "Samples that these are the sums of."),
)
_RUNS = (
    Column("run_id", _TEXT, "", "The run.", "run"),
    Column("job_id", _TEXT, "", "Its job; empty where there is none.", "job"),
    Column("project", _TEXT, "", "Its project; empty where there is none.", "project"),
    Column("name", _TEXT, "", "A name for people.", "name"),
    Column("host", _TEXT, "", "Where it started last.", "host"),
    Column("state", _TEXT, "", "`running`, `paused`, `succeeded`, `failed`, `cancelled` or `preempted`."),
    Column("started_at", _TIME, "", "Its first start, UTC."),
    Column("ended_at", _TIME, "", "Its end, UTC; null while it runs."),
    Column("provider", _TEXT, "", "Whose machine it ran on."),
    Column("region", _TEXT, "", "The provider's region; on one's own machines that is the host.", "region"),
    Column("machine_type", _TEXT, "", "The provider's machine type."),
    Column("zone", _TEXT, "", "Grid zone; empty where unknown."),
    Column("metrics", _TEXT, "", "Final figures as the run told them, a JSON object of numbers by name."),
)
_PHASES = (
    Column("run_id", _TEXT, "", "The run.", "run"),
    Column(
        "phase", _TEXT, "", "The phase and those around it, outermost first, joined by `/`, in the run's own words."
    ),
    Column("step", pa.int64(), "", "Its number, such as the epoch; null where it has none."),
    Column("started_at", _TIME, "", "Its beginning, UTC."),
    Column("ended_at", _TIME, "", "Its end, UTC."),
    Column("metrics", _TEXT, "", "Figures told within it, a JSON object of numbers by name."),
)
_REQUESTS = (
    Column("answered_at", _TIME, "", "When it was answered, UTC."),
    Column("model", _TEXT, "", "The model's name."),
    Column("version", _COUNT, "", "The version that answered."),
    Column("request_id", _TEXT, "", "The caller's id of the request; empty where it gave none."),
    Column("latency_ms", _NUMBER, "ms", "Until the answer, waiting included; null where not told."),
    Column("rate", _NUMBER, "1", "The share of requests that was logged then."),
    Column(
        "inputs", _TEXT, "", "A JSON list of tensors: name, datatype, shape, values, and what was left out of them."
    ),
    Column("outputs", _TEXT, "", "Likewise."),
    Column("event_id", _TEXT, "", "The message that told it; with `position` the request's identity."),
    Column("position", pa.uint32(), "", "Its place in that message."),
)
REQUESTS = "requests"
"""The table that holds what callers sent, so that it is never anonymous, and belongs to no run."""

TABLES: Mapping[str, tuple[Column, ...]] = {
    "samples": _SAMPLES,
    "minutes": _ROLLED,
    "hours": _ROLLED,
    "days": _ROLLED,
    "runs": _RUNS,
    "phases": _PHASES,
    REQUESTS: _REQUESTS,
}


def columns_of(table: str) -> tuple[Column, ...]:
    """A table's columns in the file's order. Raises Refused."""
    if table not in TABLES:
        raise Refused(f"unknown table {table!r}; known are {', '.join(TABLES)}", field="table")
    return TABLES[table]


def check(export: Export) -> None:
    """Raise Refused for an export that cannot be made."""
    columns_of(export.table)
    if export.table == REQUESTS and export.anonymous:
        raise Refused("is not possible for requests; they hold what callers sent", field="anonymous")
    if export.table == REQUESTS and export.run_id:
        raise Refused("requests belong to no run", field="run_id")


def schema_of(export: Export) -> Any:
    """The file's schema, the dictionary within it: each column's unit and meaning, and under `ergonaut` the whole as JSON."""
    columns = columns_of(export.table)
    whole = {
        "dictionary_version": VERSION,
        "table": export.table,
        "starts_at": export.span.starts_at.isoformat(),
        "ends_at": export.span.ends_at.isoformat(),
        "anonymous": export.anonymous,
        "names": ANONYMOUS_NOTE if export.anonymous else OPEN_NOTE,
        "licence": LICENCE_NOTE,
        "columns": [
            {"name": each.name, "type": str(each.type), "unit": each.unit, "description": each.description}
            for each in columns
        ],
    }
    fields = [
        pa.field(each.name, each.type, metadata={"unit": each.unit, "description": each.description})
        for each in columns
    ]
    return pa.schema(fields, metadata={"ergonaut": json.dumps(whole, ensure_ascii=False)})


def shaped(rows: Any, schema: Any, export: Export, key: bytes) -> Any:
    """Rows in the file's form; where it is to be anonymous, names as digests under the tenant's key."""
    arrays = []
    for column, field in zip(columns_of(export.table), schema, strict=True):
        array = _cast(rows.column(column.name), field.type)
        arrays.append(_digests(array, column.names, key) if export.anonymous and column.names else array)
    return pa.Table.from_arrays(arrays, schema=schema)


def _cast(array: Any, wanted: Any) -> Any:
    """ClickHouse gives times of whole seconds as plain numbers."""
    if pa.types.is_timestamp(wanted) and pa.types.is_integer(array.type):
        return array.cast(pa.int64()).cast(pa.timestamp("s", tz="UTC")).cast(wanted)
    return array.cast(wanted)


def _digests(array: Any, prefix: str, key: bytes) -> Any:
    """Each different name once; an empty one stays empty, for it says that there is none."""
    coded = array.combine_chunks().dictionary_encode()
    coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
    digests: Sequence[str] = [_digest(name, prefix, key) for name in coded.dictionary.to_pylist()]
    return pa.array(digests, pa.string()).take(coded.indices)


def _digest(name: str, prefix: str, key: bytes) -> str:
    if not name:
        return ""
    return f"{prefix}-{hashlib.blake2b(name.encode(), key=key, digest_size=DIGEST_BYTES).hexdigest()}"
