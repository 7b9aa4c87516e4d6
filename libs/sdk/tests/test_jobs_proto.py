"""Jobs, plans and states survive the way through protobuf; what is wrong in a message is told by its field."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergonaut.api.scheduling.v1 import scheduling_pb2 as pb
from ergonaut.errors import Refused
from ergonaut.jobs import KNOWN_PROVIDERS, Budget, Candidate, JobSpec, JobState, JobStatus, Objective, Plan, Resources
from ergonaut.jobs_proto import (
    plan_from_proto,
    plan_to_proto,
    spec_from_proto,
    spec_to_proto,
    status_from_proto,
    status_to_proto,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
CANDIDATE = Candidate(
    offer_id="aws/eu-north-1/c7i.large/spot", provider="aws", region="eu-north-1", zone="SE-SE3", machine_type="c7i.large",
    starts_at=NOW, ends_at=NOW + timedelta(seconds=30), cost_usd_expected=0.01, energy_joules_expected=900.5,
    carbon_grams_co2e_expected=0.2, price_microusd_per_hour=35_000, electricity_microusd_per_kwh=7, pue=1.15,
    score=0.4, feasible=False, because="aws is not connected",
)  # fmt: skip

specs = st.builds(
    JobSpec,
    name=st.just("digits"),
    command=st.lists(st.text(min_size=1), min_size=1, max_size=4).map(tuple),
    source=st.sampled_from(["", f"sha256-{'0' * 64}"]),
    environment=st.dictionaries(st.text(), st.text(), max_size=3),
    artifacts=st.just(("*.onnx",)),
    resources=st.builds(Resources, vcpus=st.floats(0.5, 64), memory_gib=st.floats(0.5, 64)),
    duration_seconds_expected=st.floats(0.1, 10_000),
    objective=st.sampled_from(Objective),
    deadline=st.none() | st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    budget=st.builds(Budget, cost_usd=st.none() | st.floats(0.001, 10), energy_joules=st.none() | st.floats(1, 1e9)),
    providers=st.lists(st.sampled_from(KNOWN_PROVIDERS), max_size=3).map(tuple),
    attempts_max=st.integers(1, 20),
)


@given(specs)
def test_a_job_survives_the_way_there_and_back(spec: JobSpec) -> None:
    wire = spec_to_proto(spec).SerializeToString()
    assert spec_from_proto(pb.JobSpec.FromString(wire)) == spec


def test_unset_numbers_stand_for_the_defaults_that_the_contract_names() -> None:
    spec = spec_from_proto(pb.JobSpec(name="digits", command=["true"], duration_seconds_expected=1))
    assert (spec.resources.vcpus, spec.resources.memory_gib, spec.attempts_max) == (1, 1, 3)
    assert spec.objective is Objective.BALANCED
    assert spec.budget == Budget()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "No Name"}, "name"),
        ({"command": []}, "command"),
        ({"duration_seconds_expected": 0}, "duration_seconds_expected"),
        ({"duration_seconds_expected": float("nan")}, "duration_seconds_expected"),
        ({"budget": pb.Budget(cost_usd=0)}, "budget.cost_usd"),
        ({"budget": pb.Budget(carbon_grams_co2e=-1)}, "budget.carbon_grams_co2e"),
        ({"providers": ["hertzner"]}, "providers"),
        ({"resources": pb.Resources(vcpus=-1)}, "resources.vcpus"),
        ({"source": "sha256-12"}, "source"),
        ({"objective": 99}, "objective"),
        ({"attempts_max": 21}, "attempts_max"),
        ({"artifacts": ["../secret"]}, "artifacts"),
        ({"deadline": {"seconds": 10**12}}, "deadline"),
    ],
)
def test_a_wrong_value_is_refused_by_its_field(changes: dict[str, object], field: str) -> None:
    values: dict[str, object] = {"name": "digits", "command": ["true"], "duration_seconds_expected": 1} | changes
    with pytest.raises(Refused) as caught:
        spec_from_proto(pb.JobSpec(**values))  # type: ignore[arg-type]
    assert caught.value.field == field


@pytest.mark.parametrize("plan", [
    Plan(chosen=CANDIDATE, alternatives=(CANDIDATE,), weighed=7),
    Plan(refused_because="deadline: too soon", weighed=1),
])  # fmt: skip
def test_a_plan_survives_the_way_there_and_back(plan: Plan) -> None:
    assert plan_from_proto(plan_to_proto(plan)) == plan


@pytest.mark.parametrize("state", JobState)
def test_a_status_survives_the_way_there_and_back(state: JobState) -> None:
    status = JobStatus(
        job_id="job-1", name="digits", state=state, placement=CANDIDATE, run_id="run-1", attempt=1, phase="train",
        metrics={"accuracy": 0.9}, because="", exit_code=0, artifacts=("run-1/m.onnx",), submitted_at=NOW, changed_at=NOW,
    )  # fmt: skip
    assert status_from_proto(status_to_proto(status)) == status


def test_a_state_that_is_not_known_yet_is_told_and_not_guessed() -> None:
    with pytest.raises(Refused, match="upgrade"):
        status_from_proto(pb.JobStatus(state=42))
