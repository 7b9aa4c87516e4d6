"""How long a step's beats may stay away, as it is set for a worker and not written in the workflows. Given to it by `main`."""

from datetime import timedelta
from typing import Any

from temporalio.worker import (
    Interceptor,
    StartActivityInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)
from temporalio.workflow import ActivityHandle


class Patience(Interceptor):
    """Has every step that beats taken up again this long after its last beat."""

    def __init__(self, timeout: timedelta) -> None:
        self._timeout = timeout

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:  # noqa: A002, ARG002 - its name is Temporal's
        timeout = self._timeout

        class Inbound(WorkflowInboundInterceptor):
            def init(self, outbound: WorkflowOutboundInterceptor) -> None:
                super().init(_Outbound(outbound, timeout))

        return Inbound


class _Outbound(WorkflowOutboundInterceptor):
    def __init__(self, following: WorkflowOutboundInterceptor, timeout: timedelta) -> None:
        super().__init__(following)
        self._timeout = timeout

    def start_activity(self, input: StartActivityInput) -> ActivityHandle[Any]:  # noqa: A002 - its name is Temporal's
        if input.heartbeat_timeout is not None:
            input.heartbeat_timeout = self._timeout
        return super().start_activity(input)
