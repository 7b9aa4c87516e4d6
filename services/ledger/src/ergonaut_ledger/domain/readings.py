"""The fast way to understand power samples: many messages at once, parsed and checked as columns. Called by `understanding`.

It answers only where it is certain: messages that hold anything odd are left to the careful way, which reads them one by one and
has the last word. Whatever is accepted here, the careful way would accept with the same rows.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import json as arrow_json

from ergonaut.events import PowerSampled
from ergonaut.events.pricing import Accounting, Boundary, Signal
from ergonaut.events.telemetry import Method, Share
from ergonaut.ids import is_name
from ergonaut_ledger.domain.bounds import EARLIEST, EVENT_ID_CHARACTERS_MAX, LATEST, TEXT_CHARACTERS_MAX, Message

BYTES_MAX = 1 << 30
"""Of one parse; Arrow counts a block's bytes in 32 bits. Batches are bounded far below by whoever reads the bus."""

BLOCK_BYTES = 4 * 1024 * 1024
"""Parsed at a time: what fits the processor's caches is parsed a tenth faster than the whole batch at once."""

# The first column that Arrow makes of Python's values has it load pandas, up to a second's work: now, not within a batch.
pa.array([0])

_WORD = pa.string()
_NUMBER = pa.float64()

_SAMPLE_WORDS = (
    "share",
    "run_id",
    "job_id",
    "project",
    "component",
    "method",
    "source",
)
_SAMPLE_NUMBERS = ("range_fraction", "energy_joules", "carbon_grams_co2e", "cost_usd", "embodied_grams_co2e")
_SAMPLE_TIMES = ("started_at", "ended_at")
_EVENT_WORDS = (
    "tenant",
    "host",
    "producer",
    "zone",
    "intensity_kind",
    "intensity_source",
    "intensity_signal",
    "intensity_accounting",
    "intensity_boundary",
    "pue_source",
)
_EVENT_NUMBERS = ("intensity_grams_per_kwh", "pue")
_EVENT_NUMBERS_UNKEPT = ("joules_per_cpu_second",)
"""Checked, but for others to read: the books have the joules themselves."""

_SAMPLE = pa.struct(
    [(name, _WORD) for name in (*_SAMPLE_WORDS, *_SAMPLE_TIMES)] + [(name, _NUMBER) for name in _SAMPLE_NUMBERS]
)
_SCHEMA = pa.schema([
    ("event_id", pa.string()),
    ("occurred_at", _WORD),
    ("sequence", pa.int64()),
    *((name, _WORD) for name in _EVENT_WORDS),
    *((name, _NUMBER) for name in (*_EVENT_NUMBERS, *_EVENT_NUMBERS_UNKEPT)),
    ("samples", pa.list_(_SAMPLE)),
])  # fmt: skip

_UTC_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")
"""The one form of a time that is read here, that which pydantic writes; every other goes the careful way."""

_TIME = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True)
class Readings:
    """The rows of many messages as Arrow tables, named as the fields of `EventRow` and `SampleRow`."""

    events: Any
    samples: Any


class _Odd(Exception):
    """Something that the careful way must look at."""


def is_reading(message: Message) -> bool:
    """Whether the message's subject is that of power samples."""
    return f".{PowerSampled.TYPE}." in message.subject


def readings_of(messages: Sequence[Message], not_before: datetime = EARLIEST) -> Readings | None:
    """The rows of messages whose subjects are those of power samples; None where any of them is odd."""
    try:
        events = _parsed(messages)
        _check_events(events)
        _check_subjects(events, messages)
        return _tables(messages, events, not_before)
    except (_Odd, pa.ArrowException, UnicodeDecodeError):
        return None


def _parsed(messages: Sequence[Message]) -> Any:
    """One row a message, in their order."""
    for message in messages:
        # With these three no line can be empty or give less than one row, so that equal counts prove that each gives its own.
        if not (message.data.startswith(b"{") and message.data.endswith(b"}")) or b"\n" in message.data:
            raise _Odd
    lines = b"\n".join(message.data for message in messages)
    if len(lines) > BYTES_MAX or (b"\\" in lines and b"\\u" in lines):
        # An escape may stand for half a character or for none, about which parsers differ.
        raise _Odd
    if not lines.isascii():
        lines.decode()
    longest = max(len(message.data) for message in messages)
    table = arrow_json.read_json(
        pa.BufferReader(lines),
        read_options=arrow_json.ReadOptions(use_threads=False, block_size=max(BLOCK_BYTES, longest + 1)),
        parse_options=arrow_json.ParseOptions(explicit_schema=_SCHEMA, unexpected_field_behavior="ignore"),
    ).combine_chunks()
    if table.num_rows != len(messages):
        raise _Odd
    return table


def _column(table: Any, name: str) -> Any:
    column = table.column(name)
    one = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return one.dictionary_encode() if name in _EVENT_WORDS or name == "occurred_at" else one


def _check_events(events: Any) -> None:
    for name in _EVENT_WORDS:
        _check_words(_column(events, name), _EVENT_RULES.get(name, _is_short))
    lengths = pc.min_max(pc.utf8_length(_column(events, "event_id"))).as_py()
    if _column(events, "event_id").null_count or lengths["min"] < 1 or lengths["max"] > EVENT_ID_CHARACTERS_MAX:
        raise _Odd
    sequences = _column(events, "sequence")
    if sequences.null_count or pc.min(sequences).as_py() < 1:
        raise _Odd
    _check_numbers(_column(events, "intensity_grams_per_kwh"), above=0.0)
    _check_numbers(_column(events, "pue"), least=1.0)
    for name in _EVENT_NUMBERS_UNKEPT:
        _check_numbers(_column(events, name), least=0.0, known=False)


def _check_subjects(events: Any, messages: Sequence[Message]) -> None:
    """Each subject must be that of the message's own tenant and host, which are names by now, so that none holds a dot."""
    own = pc.binary_join_element_wise("ergonaut.v1", events["tenant"], PowerSampled.TYPE, events["host"], ".")
    if own.to_pylist() != [message.subject for message in messages]:
        raise _Odd


def _tables(messages: Sequence[Message], events: Any, not_before: datetime) -> Readings:
    listed = _column(events, "samples")
    samples = listed.flatten()
    if listed.null_count or samples.null_count:
        raise _Odd
    parents = pc.list_parent_indices(listed)
    counts = pc.list_value_length(listed).to_numpy()
    firsts = np.cumsum(counts) - counts
    told = {
        "event_id": _column(events, "event_id"),
        "stream": pa.array([message.stream for message in messages]).dictionary_encode(),
        "sequence": pa.array([message.sequence for message in messages], pa.uint64()),
    }
    own = {name: samples.field(name).dictionary_encode() for name in _SAMPLE_WORDS}
    own |= {name: samples.field(name) for name in _SAMPLE_NUMBERS}
    for name in _SAMPLE_WORDS:
        _check_words(own[name], _SAMPLE_RULES.get(name, _is_short))
    for name in _SAMPLE_NUMBERS:
        _check_numbers(own[name], least=0.0, known=False)
    producer_sequence = _column(events, "sequence").cast(pa.uint64())
    shared = told | {name: _column(events, name) for name in (*_EVENT_WORDS, *_EVENT_NUMBERS)}
    shared["producer_sequence"] = producer_sequence
    columns = {name: column.take(parents) for name, column in shared.items()}
    columns["position"] = pa.array((np.arange(len(samples)) - firsts.repeat(counts)).astype(np.uint32))
    columns |= own | {name: _times(samples.field(name).dictionary_encode()) for name in _SAMPLE_TIMES}
    if len(samples) and pc.min(columns["started_at"]).as_py() < not_before:
        raise _Odd
    return Readings(events=_event_table(messages, told, events, producer_sequence), samples=pa.table(columns))


def _event_table(messages: Sequence[Message], told: dict[str, Any], events: Any, producer_sequence: Any) -> Any:
    same = [""] * len(messages)
    return pa.table(
        told
        | {
            "tenant": _column(events, "tenant"),
            "area": pa.array([PowerSampled.TYPE.partition(".")[0]] * len(messages)),
            "type": pa.array([PowerSampled.TYPE] * len(messages)),
            "key": _column(events, "host"),
            "occurred_at": _times(_column(events, "occurred_at")),
            "subject": pa.array([message.subject for message in messages]),
            "producer": _column(events, "producer"),
            "producer_sequence": producer_sequence,
            "body": pa.array(same),
        }
    )


def _check_words(column: Any, rule: Callable[[str], bool]) -> None:
    """Each different word once; there are few."""
    if column.null_count or not all(rule(word) for word in column.dictionary.to_pylist()):
        raise _Odd


def _check_numbers(column: Any, *, least: float | None = None, above: float | None = None, known: bool = True) -> None:
    if known and column.null_count:
        raise _Odd
    smallest = pc.min(column).as_py()
    if smallest is None:
        return
    if not pc.all(pc.is_finite(column)).as_py():
        raise _Odd
    if (least is not None and smallest < least) or (above is not None and smallest <= above):
        raise _Odd


def _times(column: Any) -> Any:
    """Times, each different one read once: all samples of an interval share theirs."""
    if column.null_count or not all(_UTC_TIME.fullmatch(word) for word in column.dictionary.to_pylist()):
        raise _Odd
    times = column.dictionary.cast(_TIME)
    bounds = pc.min_max(times).as_py()
    if len(times) and (bounds["min"] < EARLIEST or bounds["max"] >= LATEST):
        raise _Odd
    return times.take(column.indices)


def _is_short(word: str) -> bool:
    return len(word) <= TEXT_CHARACTERS_MAX


_SAMPLE_RULES: dict[str, Callable[[str], bool]] = {
    "share": frozenset(Share).__contains__,
    "method": frozenset(Method).__contains__,
}
_EVENT_RULES: dict[str, Callable[[str], bool]] = {
    "tenant": is_name,
    "host": is_name,
    "producer": is_name,
    "intensity_signal": frozenset(Signal).__contains__,
    "intensity_accounting": frozenset(Accounting).__contains__,
    "intensity_boundary": frozenset(Boundary).__contains__,
}
