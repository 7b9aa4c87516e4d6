"""Power samples read as columns give what they give when read one by one; the careful way has the last word."""

import json
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ergonaut.events import PowerSample, PowerSampled
from ergonaut.events.pricing import Accounting, Boundary, Signal
from ergonaut_ledger.adapters.columns import arrow_table
from ergonaut_ledger.domain.bounds import Message
from ergonaut_ledger.domain.readings import _SAMPLE, _SCHEMA, readings_of
from ergonaut_ledger.domain.rows import Batch, EventRow, SampleRow
from ergonaut_ledger.domain.touched import touched_by
from ergonaut_ledger.domain.understanding import understand, understand_all
from ergonaut_ledger.fakes.store import rows_of

from .told import T0, cpu_sample, gpu_sample, message, reading, rent_sample, started


def plain(number: int, chance: random.Random) -> Message:
    """A message as an agent tells it, with figures of all magnitudes."""
    samples = [
        cpu_sample(chance.uniform(0, 1e6), chance.uniform(0, 10) ** chance.randint(-9, 9), run_id=f"run-{number % 3}"),
        gpu_sample(number),
        rent_sample(number, chance.random()).model_copy(update={"embodied_grams_co2e": chance.random()}),
        cpu_sample(number, project="apollo", source='read from "/sys" \\ by hand, 3 µJ'),
    ]
    chance.shuffle(samples)
    bases = {
        "intensity_signal": chance.choice([*Signal]),
        "intensity_accounting": chance.choice([*Accounting]),
        "intensity_boundary": chance.choice([*Boundary]),
    }
    fact = reading(f"tenant-{number % 2}", number, *samples[: chance.randint(1, 4)], host=f"host-{number % 5}", **bases)
    return message(fact, number)


VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1.0, 1.5, -0.0, 2**53 + 1, 2**63, 2**64, 10**400, "", "cpu", "20.5", "1e3", "é", "\u2028", "a\nb", "\x00",
    "x" * 4096, "x" * 4097, [], {}, [None], float("nan"), float("inf"), "run", "idle", "counter", "marginal", "direct",
    "2026-03-01T12:30:00", "2026-03-01T12:30:00Z", "2026-03-01T12:30:00.5Z", "2026-03-01T12:30:00.1234567Z", "2026-03-01",
    "2026-03-01T12Z", "2026-03-01T12:30Z", "2026-03-01 12:30:00Z", "2026-03-01T12:30:00+02:00", "1969-12-31T23:59:59Z",
    "2200-01-01T00:00:00Z", "2199-12-31T23:59:59.999999Z", "2026-02-30T00:00:00Z", 1772368200,
)  # fmt: skip


def with_other_words(fact: Message, chance: random.Random) -> Message:
    """One field of the event or of one of its samples says something else, or nothing, or is new."""
    body = json.loads(fact.data)
    place = chance.choice([body, *body["samples"]])
    name = chance.choice([*place, "unheard"])
    if chance.random() < 0.2:
        place.pop(name, None)
    else:
        place[name] = chance.choice(VALUES)
    return replace(fact, data=json.dumps(body, ensure_ascii=chance.random() < 0.5).encode(errors="surrogatepass"))


def with_other_bytes(fact: Message, chance: random.Random) -> Message:
    """Bytes cut, doubled or put in, as no JSON writer would."""
    data, at = bytearray(fact.data), chance.randrange(len(fact.data))
    strange = (b"\n", b" ", b"{}", b"\xff", b",", b'"', b"\\ud800", b"\\u0041", b"NaN", b"-", b"}{", b"/**/", b"\x00")
    match chance.randrange(4):
        case 0:
            data[at:at] = chance.choice(strange)
        case 1:
            del data[at : at + chance.randint(1, 5)]
        case 2:
            data = data + chance.choice((b" ", b"\n", data, b"{}", b"\n" + data))
        case 3:
            data = bytearray(chance.choice((b"", b" ", b"{}", b"[]", b"null", b"{ }", b'{"samples":[]}')))
    return replace(fact, data=bytes(data))


def with_another_subject(fact: Message, chance: random.Random) -> Message:
    """Told under the subject of another tenant, host or event."""
    parts = fact.subject.split(".")
    parts[chance.choice((1, 2, 4, 5, 6))] = chance.choice(("tenant-0", "host-1", "Host", "power", "v2"))
    return replace(fact, subject=".".join(parts))


def carefully(messages: Sequence[Message]) -> tuple[list[EventRow], list[SampleRow], list[str | None]]:
    whole, problems = Batch(), []
    for each in messages:
        result = understand(each)
        if isinstance(result, Batch):
            whole.add(result)
        problems.append(None if isinstance(result, Batch) else result.because)
    return in_order(whole.events, whole.samples, problems)


def in_order(
    events: list[EventRow], samples: list[SampleRow], problems: list[str | None]
) -> tuple[list[EventRow], list[SampleRow], list[str | None]]:
    events.sort(key=lambda row: row.told.sequence)
    samples.sort(key=lambda row: (row.told.sequence, row.position))
    return events, samples, problems


def quickly(messages: Sequence[Message]) -> tuple[list[EventRow], list[SampleRow], list[str | None]]:
    batch, problems = understand_all(messages)
    events, samples = [*batch.events], [*batch.samples]
    for columns in batch.readings:
        events += rows_of(columns.events, EventRow)
        samples += rows_of(columns.samples, SampleRow)
    return in_order(events, samples, [problem and problem.because for problem in problems])


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("strange", [with_other_words, with_other_bytes, with_another_subject])
def test_columns_give_the_same_rows_and_refusals_as_one_by_one(
    seed: int, strange: Callable[[Message, random.Random], Message]
) -> None:
    chance = random.Random(seed)
    messages = [plain(number, chance) for number in range(1, 13)]
    for at in chance.sample(range(12), chance.randint(0, 4)):
        messages[at] = strange(messages[at], chance)
    messages.insert(chance.randrange(12), message(started("tenant-0"), 100))
    assert quickly(messages) == carefully(messages)


def test_one_odd_message_leaves_the_others_to_columns() -> None:
    chance = random.Random(3)
    messages = [plain(number, chance) for number in range(1, 257)]
    messages[77] = replace(messages[77], data=b"rubbish")
    batch, problems = understand_all(messages)
    assert [number for number, problem in enumerate(problems) if problem] == [77]
    assert len(batch.events) < 4
    assert sum(columns.events.num_rows for columns in batch.readings) >= 252


def test_what_agents_write_is_read_as_columns() -> None:
    chance = random.Random(5)
    assert readings_of([plain(number, chance) for number in range(1, 50)]) is not None


def test_columns_tell_the_same_runs_touched_as_rows() -> None:
    chance = random.Random(9)
    messages = [plain(number, chance) for number in range(1, 40)]
    one_by_one = Batch()
    for each in messages:
        result = understand(each)
        assert isinstance(result, Batch)
        one_by_one.add(result)
    as_columns, _ = understand_all(messages)
    assert not as_columns.samples
    assert set(touched_by(as_columns)) == set(touched_by(one_by_one))


def test_columns_of_both_ways_have_the_same_names() -> None:
    fact = message(reading("a", 1), 1)
    columns = readings_of([fact])
    result = understand(fact)
    assert columns is not None
    assert isinstance(result, Batch)
    assert {*columns.samples.column_names} == {*arrow_table(result.samples).column_names}
    assert {*columns.events.column_names} == {*arrow_table(result.events).column_names}


def test_columns_know_every_field_of_the_contract() -> None:
    """A field that is added to the contract must be read as a column too, or a wrong value in it would be accepted."""
    assert {*_SCHEMA.names} == {*PowerSampled.model_fields}
    assert {_SAMPLE[at].name for at in range(_SAMPLE.num_fields)} == {*PowerSample.model_fields}


def test_samples_of_a_time_that_was_dropped_by_age_are_refused_in_both_ways() -> None:
    late, fresh = (message(reading("a", number, cpu_sample(60.0 * number)), number) for number in (1, 2))
    batch, problems = understand_all([late, fresh], T0 + timedelta(seconds=90))
    assert [problem is None for problem in problems] == [False, True]
    assert "dropped by age" in problems[0].because if problems[0] else None
    assert sum(columns.events.num_rows for columns in batch.readings) + len(batch.events) == 1


def test_a_first_batch_does_not_wait_for_libraries_to_load() -> None:
    script = f"""
import sys
from ergonaut_ledger.domain.bounds import Message
from ergonaut_ledger.domain.understanding import understand_all
loaded = set(sys.modules)
assert understand_all([{plain(1, random.Random(1))!r}])[0].readings
print([name for name in sys.modules if name not in loaded])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
