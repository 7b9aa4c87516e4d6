"""Events as code, and events as promised to their readers."""

import copy
import json

import pytest

from ergonaut.events import JobSubmitted
from ergonaut.events.schemas import FOLDER, broken_promises, concrete_types, promised, schema_of
from ergonaut.jobs import JobSpec

TYPES = concrete_types()


@pytest.mark.parametrize("name", TYPES)
def test_an_event_keeps_what_was_promised(name: str) -> None:
    before = promised(name)
    assert before is not None, f"{name} has no snapshot; run `make docs`"
    assert broken_promises(before, schema_of(TYPES[name])) == []


@pytest.mark.parametrize("name", TYPES)
def test_a_snapshot_is_that_of_the_code(name: str) -> None:
    assert promised(name) == schema_of(TYPES[name]), f"the snapshot of {name} is old; run `make docs`"


def test_there_is_a_snapshot_for_each_event_and_no_other() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(TYPES)


def test_bases_that_are_never_told_promise_nothing() -> None:
    assert "runs.run.observed" not in TYPES
    assert "leases.lease.observed" not in TYPES


def test_a_new_optional_field_breaks_nothing() -> None:
    before = schema_of(TYPES["runs.run.finished"])
    now = copy.deepcopy(before)
    now["properties"]["retries"] = {"type": "integer", "default": 0}
    now["properties"]["state"]["description"] = "in other words"
    assert broken_promises(before, now) == []


def test_a_removed_field_is_caught() -> None:
    before = schema_of(TYPES["runs.run.finished"])
    now = copy.deepcopy(before)
    del now["properties"]["because"]
    assert broken_promises(before, now) == ["because was promised and is gone"]


def test_a_newly_required_field_is_caught() -> None:
    before = schema_of(TYPES["runs.run.finished"])
    now = copy.deepcopy(before)
    now["properties"]["retries"] = {"type": "integer"}
    now["required"].append("retries")
    assert broken_promises(before, now) == ["retries is required now; events told before lack it"]


def test_a_field_that_may_now_be_absent_is_caught() -> None:
    before = schema_of(TYPES["runs.run.finished"])
    now = copy.deepcopy(before)
    now["required"].remove("state")
    assert broken_promises(before, now) == ["state was always there and may be absent now"]


def test_a_change_inside_a_nested_part_is_caught() -> None:
    before = schema_of(TYPES["telemetry.power.sampled"])
    now = copy.deepcopy(before)
    now["$defs"]["PowerSample"]["properties"]["component"]["type"] = "integer"
    del now["$defs"]["PowerSample"]["properties"]["source"]
    assert broken_promises(before, now) == [
        "samples.source was promised and is gone",
        "samples.component was 'string' and is 'integer'",
    ]


def test_a_value_added_to_a_closed_list_is_caught() -> None:
    before = schema_of(TYPES["runs.run.finished"])
    now = copy.deepcopy(before)
    now["$defs"]["RunState"]["enum"].append("paused")
    assert any("paused" in sentence for sentence in broken_promises(before, now))


def test_what_is_told_forbids_no_unknown_field_even_where_a_person_may_write_none() -> None:
    told = JobSubmitted(
        tenant="default", job_id="job-1", job=JobSpec(name="a", command=("b",), duration_seconds_expected=1)
    )
    body = json.loads(told.model_dump_json())
    body["job"]["budget"]["water_litres"] = 1
    assert JobSubmitted.model_validate(body).job == told.job
    assert "additionalProperties" not in json.dumps(schema_of(JobSubmitted)["$defs"]["Budget"])
