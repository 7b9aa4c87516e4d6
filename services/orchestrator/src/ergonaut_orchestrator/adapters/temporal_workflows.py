"""Asks Temporal which workflows still run, and passes wishes on to them. Fills the port `Workflows`."""

from datetime import timedelta

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from ergonaut.errors import Unavailable
from ergonaut.retraining import Drifted
from ergonaut.workflows import Asked
from ergonaut_orchestrator.domain import Lease

ANSWER_TIMEOUT = timedelta(seconds=10)
"""Temporal answers within milliseconds or is in trouble."""


class TemporalWorkflows:
    """Workflows by their exact execution: a later one of the same id has leases of its own."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def is_live(self, lease: Lease) -> bool:
        handle = self._client.get_workflow_handle(lease.workflow_id, run_id=lease.workflow_run_id)
        try:
            description = await handle.describe(rpc_timeout=ANSWER_TIMEOUT)
        except RPCError as error:
            if error.status in {RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT}:
                return False
            raise Unavailable(f"Temporal does not tell of {lease.workflow_id}: {error.message}") from error
        return description.status is WorkflowExecutionStatus.RUNNING

    async def signal(self, workflow_id: str, name: str, asked: Asked | Drifted) -> bool:
        try:
            await self._client.get_workflow_handle(workflow_id).signal(name, asked, rpc_timeout=ANSWER_TIMEOUT)
        except RPCError as error:
            if error.status in {RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT}:
                return False
            raise Unavailable(f"Temporal does not pass {name} on to {workflow_id}: {error.message}") from error
        return True
