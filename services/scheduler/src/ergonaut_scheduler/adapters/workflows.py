"""Jobs' workflows in Temporal."""

import contextlib
from collections.abc import Iterator
from datetime import timedelta

from pydantic import ValidationError
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.common import RawValue, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from ergonaut.errors import Broken, Conflict, NotFound, Unavailable
from ergonaut.workflows import RUN_JOB, RUNS_TASK_QUEUE, Asked, RunJobInput, RunJobResult, job_workflow_id
from ergonaut_scheduler.ports import WorkflowEnd

TIMEOUT = timedelta(seconds=5)
"""One question to Temporal; a call that waits longer had better be made again by its caller."""

_PASSING = frozenset(
    {
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.CANCELLED,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.ABORTED,
    }
)

_RESULT_STATE = {
    WorkflowExecutionStatus.CANCELED: "cancelled",
    WorkflowExecutionStatus.TERMINATED: "cancelled",
}


class TemporalWorkflows:
    """Fills `Workflows`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def start(self, job: RunJobInput) -> None:
        workflow_id = job_workflow_id(job.tenant, job.job_id)
        try:
            with _reaching(f"starting the workflow {workflow_id}"):
                await self._client.start_workflow(
                    RUN_JOB,
                    job,
                    id=workflow_id,
                    task_queue=RUNS_TASK_QUEUE,
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                    rpc_timeout=TIMEOUT,
                )
        except WorkflowAlreadyStartedError as error:
            if await self._input_of(workflow_id) != job:
                raise Conflict(
                    f"another workflow runs as job {job.job_id} with a different spec; choose another job_id"
                ) from error

    async def cancel(self, workflow_id: str) -> None:
        with contextlib.suppress(NotFound), _reaching(f"cancelling the workflow {workflow_id}"):
            await self._client.get_workflow_handle(workflow_id).cancel(rpc_timeout=TIMEOUT)

    async def signal(self, workflow_id: str, name: str, asked: Asked) -> bool:
        try:
            with _reaching(f"passing {name} on to the workflow {workflow_id}"):
                await self._client.get_workflow_handle(workflow_id).signal(name, asked, rpc_timeout=TIMEOUT)
        except NotFound:
            return False
        return True

    async def end_of(self, workflow_id: str) -> WorkflowEnd | None:
        handle = self._client.get_workflow_handle(workflow_id)
        with _reaching(f"asking for the workflow {workflow_id}"):
            description = await handle.describe(rpc_timeout=TIMEOUT)
        if description.close_time is None:
            return None
        return WorkflowEnd(description.close_time, await self._result(description))

    async def _result(self, description: WorkflowExecutionDescription) -> RunJobResult:
        """What the workflow answered or, where it could not, how Temporal says that it ended."""
        handle = self._client.get_workflow_handle(description.id, run_id=description.run_id, result_type=RawValue)
        try:
            with _reaching(f"asking for the result of {description.id}"):
                raw: RawValue | None = await handle.result(rpc_timeout=TIMEOUT)
            return RunJobResult.model_validate_json(raw.payload.data if raw else b"")
        except ValidationError:
            because = "the workflow's answer is not that of RunJob"
            return RunJobResult(job_id="", run_id="", state="failed", because=because)
        except WorkflowFailureError as error:
            status = description.status
            assert status is not None
            because = f"the workflow ended in Temporal as {status.name.lower()}: {error.cause}"
            state = _RESULT_STATE.get(status, "failed")
            return RunJobResult(job_id="", run_id="", state=state, because=because)

    async def _input_of(self, workflow_id: str) -> RunJobInput | None:
        """What a workflow was started with; None where that could start no job. It may be anybody's, so nothing is believed."""
        handle = self._client.get_workflow_handle(workflow_id)
        with _reaching(f"reading the input of {workflow_id}"):
            async for event in handle.fetch_history_events(page_size=1, rpc_timeout=TIMEOUT):
                payloads = event.workflow_execution_started_event_attributes.input.payloads
                with contextlib.suppress(ValidationError):
                    given = RunJobInput.model_validate_json(payloads[0].data if payloads else b"")
                    return given.model_copy(update={"so_far": None})
                break
        return None


@contextlib.contextmanager
def _reaching(doing: str) -> Iterator[None]:
    try:
        yield
    except RPCError as error:
        message = f"{doing}: Temporal says {error.status.name}: {error.message}"
        if error.status is RPCStatusCode.NOT_FOUND:
            raise NotFound(message) from error
        raise (Unavailable if error.status in _PASSING else Broken)(message) from error
