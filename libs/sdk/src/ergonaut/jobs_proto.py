"""Translates jobs between the protobuf messages of `ergonaut.api.scheduling.v1` and the types of `ergonaut.jobs`.

The client and the scheduler both speak through here, so that a job is validated by one set of rules whichever door it takes.
"""

from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import ValidationError

from ergonaut.api.scheduling.v1 import scheduling_pb2 as pb
from ergonaut.errors import Refused
from ergonaut.faults import field_errors
from ergonaut.jobs import Candidate, JobSpec, JobState, JobStatus, Objective, Plan

_OBJECTIVES = {
    Objective.BALANCED: pb.OBJECTIVE_BALANCED,
    Objective.CHEAPEST: pb.OBJECTIVE_CHEAPEST,
    Objective.GREENEST: pb.OBJECTIVE_GREENEST,
    Objective.FASTEST: pb.OBJECTIVE_FASTEST,
}
_OBJECTIVE_OF = {number: objective for objective, number in _OBJECTIVES.items()}

_STATES = {
    JobState.SUBMITTED: pb.JOB_STATE_SUBMITTED,
    JobState.PLACED: pb.JOB_STATE_PLACED,
    JobState.RUNNING: pb.JOB_STATE_RUNNING,
    JobState.PAUSED: pb.JOB_STATE_PAUSED,
    JobState.SUCCEEDED: pb.JOB_STATE_SUCCEEDED,
    JobState.FAILED: pb.JOB_STATE_FAILED,
    JobState.CANCELLED: pb.JOB_STATE_CANCELLED,
    JobState.REFUSED: pb.JOB_STATE_REFUSED,
}
_STATE_OF = {number: state for state, number in _STATES.items()}


def spec_to_proto(spec: JobSpec) -> pb.JobSpec:
    """A job as it travels by gRPC."""
    resources, budget = spec.resources, spec.budget
    return pb.JobSpec(
        name=spec.name,
        command=spec.command,
        source=spec.source,
        environment=spec.environment,
        artifacts=spec.artifacts,
        resources=pb.Resources(
            vcpus=resources.vcpus,
            memory_gib=resources.memory_gib,
            accelerator=resources.accelerator,
            accelerator_count=resources.accelerator_count,
        ),
        duration_seconds_expected=spec.duration_seconds_expected,
        objective=_OBJECTIVES[spec.objective],
        deadline=_timestamp(spec.deadline) if spec.deadline else None,
        budget=pb.Budget(
            cost_usd=budget.cost_usd,
            carbon_grams_co2e=budget.carbon_grams_co2e,
            energy_joules=budget.energy_joules,
            action=budget.action.value,
        ),
        providers=spec.providers,
        attempts_max=spec.attempts_max,
        project=spec.project,
    )


def spec_from_proto(message: pb.JobSpec) -> JobSpec:
    """The job that a message tells of; raises `Refused`, naming the first field that is wrong."""
    try:
        return JobSpec.model_validate(_spec_values(message))
    except ValidationError as error:
        first, *others = field_errors(error, JobSpec)
        rest = "".join(f"; {other.field}: {other.message}" for other in others)
        raise Refused(first.message + rest, field=first.field) from error


def _spec_values(message: pb.JobSpec) -> dict[str, Any]:
    """The values that were set; an unset number is left out, so that the contract's default is used."""
    values: dict[str, Any] = {
        "name": message.name,
        "command": tuple(message.command),
        "source": message.source,
        "environment": dict(message.environment),
        "artifacts": tuple(message.artifacts),
        "resources": _resource_values(message.resources),
        "duration_seconds_expected": message.duration_seconds_expected,
        "budget": {field.name: value for field, value in message.budget.ListFields()},
        "providers": tuple(message.providers),
        "project": message.project,
    }
    if message.objective != pb.OBJECTIVE_UNSPECIFIED:
        values["objective"] = _OBJECTIVE_OF.get(message.objective, str(message.objective))
    if message.HasField("deadline"):
        values["deadline"] = _moment(message.deadline, field="deadline")
    if message.attempts_max:
        values["attempts_max"] = message.attempts_max
    return values


def _resource_values(message: pb.Resources) -> dict[str, Any]:
    return {field.name: value for field, value in message.ListFields()}


def candidate_to_proto(candidate: Candidate) -> pb.Candidate:
    """A weighed candidate as it travels by gRPC."""
    return pb.Candidate(
        offer_id=candidate.offer_id,
        provider=candidate.provider,
        region=candidate.region,
        machine_type=candidate.machine_type,
        zone=candidate.zone,
        starts_at=_timestamp(candidate.starts_at),
        ends_at=_timestamp(candidate.ends_at),
        cost_usd_expected=candidate.cost_usd_expected,
        energy_joules_expected=candidate.energy_joules_expected,
        carbon_grams_co2e_expected=candidate.carbon_grams_co2e_expected,
        price_microusd_per_hour=candidate.price_microusd_per_hour,
        electricity_microusd_per_kwh=candidate.electricity_microusd_per_kwh,
        pue=candidate.pue,
        score=candidate.score,
        feasible=candidate.feasible,
        because=candidate.because,
    )


def candidate_from_proto(message: pb.Candidate) -> Candidate:
    """The candidate that a message tells of; it is a `Placement` too."""
    return Candidate(
        offer_id=message.offer_id,
        provider=message.provider,
        region=message.region,
        machine_type=message.machine_type,
        zone=message.zone,
        starts_at=_moment(message.starts_at, field="starts_at"),
        ends_at=_moment(message.ends_at, field="ends_at"),
        cost_usd_expected=message.cost_usd_expected,
        energy_joules_expected=message.energy_joules_expected,
        carbon_grams_co2e_expected=message.carbon_grams_co2e_expected,
        price_microusd_per_hour=message.price_microusd_per_hour,
        electricity_microusd_per_kwh=message.electricity_microusd_per_kwh,
        pue=message.pue or 1.0,
        score=message.score,
        feasible=message.feasible,
        because=message.because,
    )


def plan_to_proto(plan: Plan) -> pb.PlanJobResponse:
    """The answer to PlanJob."""
    return pb.PlanJobResponse(
        chosen=candidate_to_proto(plan.chosen) if plan.chosen else None,
        alternatives=[candidate_to_proto(candidate) for candidate in plan.alternatives],
        refused_because=plan.refused_because,
        weighed=plan.weighed,
    )


def plan_from_proto(message: pb.PlanJobResponse) -> Plan:
    """The plan that PlanJob answered."""
    return Plan(
        chosen=candidate_from_proto(message.chosen) if message.HasField("chosen") else None,
        alternatives=tuple(candidate_from_proto(candidate) for candidate in message.alternatives),
        refused_because=message.refused_because,
        weighed=message.weighed,
    )


def status_to_proto(status: JobStatus) -> pb.JobStatus:
    """How a job stands, as it travels by gRPC."""
    return pb.JobStatus(
        job_id=status.job_id,
        name=status.name,
        state=_STATES[status.state],
        placement=candidate_to_proto(status.placement) if status.placement else None,
        run_id=status.run_id,
        attempt=status.attempt,
        phase=status.phase,
        metrics=status.metrics,
        because=status.because,
        exit_code=status.exit_code,
        artifacts=status.artifacts,
        submitted_at=_timestamp(status.submitted_at),
        changed_at=_timestamp(status.changed_at),
    )


def status_from_proto(message: pb.JobStatus) -> JobStatus:
    """How a job stands; raises `Refused` for a state that this version does not know."""
    if message.state not in _STATE_OF:
        raise Refused(f"state {message.state} is not known; upgrade this client", field="state")
    return JobStatus(
        job_id=message.job_id,
        name=message.name,
        state=_STATE_OF[message.state],
        placement=candidate_from_proto(message.placement) if message.HasField("placement") else None,
        run_id=message.run_id,
        attempt=message.attempt,
        phase=message.phase,
        metrics=dict(message.metrics),
        because=message.because,
        exit_code=message.exit_code if message.HasField("exit_code") else None,
        artifacts=tuple(message.artifacts),
        submitted_at=_moment(message.submitted_at, field="submitted_at"),
        changed_at=_moment(message.changed_at, field="changed_at"),
    )


def _timestamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment.astimezone(UTC))
    return stamp


def _moment(stamp: Timestamp, *, field: str) -> datetime:
    try:
        return stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise Refused(f"{stamp.seconds} seconds is no moment between the years 1 and 9999", field=field) from error
