"""Asks the scheduler, by gRPC, where and when a job runs. Fills the port `Placing`."""

import grpc

from ergonaut.api.scheduling.v1 import scheduling_pb2, scheduling_pb2_grpc
from ergonaut.jobs import Plan
from ergonaut.jobs_proto import plan_from_proto, spec_to_proto
from ergonaut.workflows import RunJobInput
from ergonaut_common.rpc import error_of, for_tenant


class SchedulerPlacing:
    """The scheduler behind a channel that carries the services' key."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = scheduling_pb2_grpc.SchedulingServiceStub(channel)

    async def place(self, request: RunJobInput, workflow_id: str) -> Plan:
        asked = scheduling_pb2.PlanJobRequest(
            job=spec_to_proto(request.job), job_id=request.job_id, workflow_id=workflow_id
        )
        try:
            answer = await self._stub.PlanJob(asked, metadata=for_tenant(request.tenant))
        except grpc.RpcError as error:
            raise error_of(error, doing=f"placing the job {request.job_id}") from error
        return plan_from_proto(answer)
