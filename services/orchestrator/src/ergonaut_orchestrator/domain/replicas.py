"""The program of a replica: the platform's own gateway, which is given the platform's keys. For `RunJob` and `service.running`.

The keys follow the program, not the wish: whatever a job says, what is started with them is the gateway that is installed beside
the orchestrator, with settings of gateways alone, and without files of the job on its path.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ergonaut.errors import Refused
from ergonaut.replicas import NOT_TO_BE_SET, SETTING_PATTERN, serving_workflow_id
from ergonaut.workflows import RunJobInput
from ergonaut_orchestrator.domain.attempts import Attempt
from ergonaut_orchestrator.domain.machines import Program, context_of

STOP_SECONDS_SETTING = "ERGONAUT_GATEWAY_STOP_SECONDS"
NAME_SETTING = "ERGONAUT_GATEWAY_REPLICA"

STOP_SECONDS_DEFAULT = 10.0
STOP_SLACK_SECONDS = 10.0
"""On top of the time for requests at work: the gateway's workers may take 8 s more to end."""


@dataclass(frozen=True, slots=True)
class GatewayProgram:
    """How the platform's gateway is started here."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    """Addresses, and secrets as paths of files."""


def check_replica(request: RunJobInput, *, parent_id: str) -> None:
    """Raise Refused where a job calls itself a replica and is not started by the workflow of its set, or brings files along."""
    if not request.replica_of:
        return
    if parent_id != serving_workflow_id(request.tenant, request.replica_of):
        raise Refused("is for the workflow of a set of replicas alone; leave it out", field="replica_of")
    if request.job.source:
        raise Refused("a replica has no files; leave it out", field="job.source")


def replica_program(attempt: Attempt, gateway: GatewayProgram | None) -> Program:
    """What is started for a replica. Raises Refused where no gateway can be started here."""
    if gateway is None:
        raise Refused("no gateway is installed beside the orchestrator; install ergonaut-gateway there")
    wished = {name: value for name, value in attempt.job.environment.items() if _may_be_set(name)}
    environment = {**gateway.environment, **wished, NAME_SETTING: attempt.lease.job_id}
    stop_seconds = float(environment.get(STOP_SECONDS_SETTING, STOP_SECONDS_DEFAULT))
    return Program(gateway.command, environment, context_of(attempt), stop_seconds + STOP_SLACK_SECONDS)


def _may_be_set(name: str) -> bool:
    return name == STOP_SECONDS_SETTING or (
        name not in NOT_TO_BE_SET and re.fullmatch(SETTING_PATTERN, name) is not None
    )
