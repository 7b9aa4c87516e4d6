"""Starts workflows at Temporal, asks which still run and how they stand, passes wishes on to them. Fills the port `Workflows`."""

from collections.abc import Sequence
from datetime import timedelta

from pydantic import BaseModel
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowQueryFailedError
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from ergonaut.errors import Conflict, NotFound, Unavailable
from ergonaut.workflows import PROGRESS_QUERY, RUNS_TASK_QUEUE
from ergonaut_orchestrator.domain import Lease
from ergonaut_orchestrator.ports import Progress, Standing

ANSWER_TIMEOUT = timedelta(seconds=10)
"""Temporal answers within milliseconds or is in trouble."""

_STANDINGS = {
    WorkflowExecutionStatus.RUNNING: Standing.RUNNING,
    WorkflowExecutionStatus.COMPLETED: Standing.ENDED,
    WorkflowExecutionStatus.CANCELED: Standing.ENDED,
    WorkflowExecutionStatus.CONTINUED_AS_NEW: Standing.RUNNING,
}
"""All others are failures."""

_GONE = {RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT}


class TemporalWorkflows:
    """Workflows by their exact execution: a later one of the same id has leases of its own."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def is_live(self, lease: Lease) -> bool:
        handle = self._client.get_workflow_handle(lease.workflow_id, run_id=lease.workflow_run_id)
        try:
            description = await handle.describe(rpc_timeout=ANSWER_TIMEOUT)
        except RPCError as error:
            if error.status in _GONE:
                return False
            raise Unavailable(f"Temporal does not tell of {lease.workflow_id}: {error.message}") from error
        return description.status is WorkflowExecutionStatus.RUNNING

    async def signal(self, workflow_id: str, name: str, asked: BaseModel) -> bool:
        try:
            await self._client.get_workflow_handle(workflow_id).signal(name, asked, rpc_timeout=ANSWER_TIMEOUT)
        except RPCError as error:
            if error.status in _GONE:
                return False
            raise Unavailable(f"Temporal does not pass {name} on to {workflow_id}: {error.message}") from error
        return True

    async def start(self, workflow: str, workflow_id: str, given: BaseModel) -> None:
        try:
            await self._client.start_workflow(
                workflow,
                given,
                id=workflow_id,
                task_queue=RUNS_TASK_QUEUE,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                rpc_timeout=ANSWER_TIMEOUT,
            )
        except WorkflowAlreadyStartedError as error:
            raise Conflict(f"{workflow_id} runs already; wait until it has ended, or end it") from error
        except RPCError as error:
            raise Unavailable(f"Temporal does not start {workflow_id}: {error.message}") from error

    async def start_or_signal(
        self, workflow: str, workflow_id: str, given: BaseModel, *, signal: str, asked: BaseModel
    ) -> None:
        try:
            await self._client.start_workflow(
                workflow,
                given,
                id=workflow_id,
                task_queue=RUNS_TASK_QUEUE,
                start_signal=signal,
                start_signal_args=[asked],
                rpc_timeout=ANSWER_TIMEOUT,
            )
        except RPCError as error:
            raise Unavailable(f"Temporal does not start {workflow_id}: {error.message}") from error

    async def progress(self, workflow_id: str, kind: type[Progress]) -> tuple[Progress, Standing]:
        handle = self._client.get_workflow_handle(workflow_id)
        try:
            description = await handle.describe(rpc_timeout=ANSWER_TIMEOUT)
            answer = await handle.query(PROGRESS_QUERY, result_type=kind, rpc_timeout=ANSWER_TIMEOUT)
        except WorkflowQueryFailedError as error:
            raise Unavailable(f"{workflow_id} does not tell how it stands: {error}") from error
        except RPCError as error:
            if error.status in _GONE:
                raise NotFound(f"there is no {workflow_id}") from error
            raise Unavailable(f"Temporal does not tell of {workflow_id}: {error.message}") from error
        status = description.status
        return answer, _STANDINGS.get(status, Standing.FAILED) if status is not None else Standing.FAILED

    async def cancel(self, workflow_id: str) -> bool:
        try:
            await self._client.get_workflow_handle(workflow_id).cancel(rpc_timeout=ANSWER_TIMEOUT)
        except RPCError as error:
            if error.status in _GONE:
                return False
            raise Unavailable(f"Temporal does not cancel {workflow_id}: {error.message}") from error
        return True

    async def ids(self, workflow: str, prefix: str, *, count_max: int, only_running: bool) -> Sequence[str]:
        # Names are letters, digits and dashes, so that nothing in them can be taken for a part of the question.
        asked = f"WorkflowType = '{workflow}' AND WorkflowId STARTS_WITH '{prefix}'"
        asked += " AND ExecutionStatus = 'Running'" if only_running else ""
        found: dict[str, None] = {}
        try:
            async for each in self._client.list_workflows(asked, page_size=count_max, rpc_timeout=ANSWER_TIMEOUT):
                found[each.id] = None
                if len(found) >= count_max:
                    break
        except RPCError as error:
            raise Unavailable(f"Temporal does not list {prefix}: {error.message}") from error
        return [*found]
