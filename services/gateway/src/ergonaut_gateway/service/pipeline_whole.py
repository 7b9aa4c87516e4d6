"""Requests of pipelines that are one model as a whole: handed to it as they are, at the cost of little more than a look-up."""

import asyncio
from typing import TYPE_CHECKING

from ergonaut.errors import ErgonautError
from ergonaut_gateway.domain.inference import InferenceAnswer, InferenceRequest
from ergonaut_gateway.domain.pipelines.graph import Call
from ergonaut_gateway.domain.pipelines.troubles import told_in_place
from ergonaut_gateway.service.lanes import OVER_ALREADY, Done
from ergonaut_gateway.service.plans import Cancellable
from ergonaut_gateway.service.predictions import Wish

if TYPE_CHECKING:
    from ergonaut_gateway.service.pipeline_runs import PipelinePlan


class WholeRequest:
    """One such request, until it is answered."""

    __slots__ = ("_began_seconds", "_call", "_done", "_over", "_plan", "_request")

    def __init__(self, plan: "PipelinePlan", request: InferenceRequest, done: Done) -> None:
        self._plan = plan
        self._request = request
        self._done = done
        self._over = False
        self._call: Call | None = None
        self._began_seconds = plan.engine.monotonic()

    def begun(self, wish: Wish, call: Call) -> Cancellable:
        """What drops the request, after it was handed to the model that the call names."""
        plan, self._call = self._plan, call
        plan.in_flight += 1
        # Its tensors have the pipeline's own names, so the request is the model's too.
        asked = Wish(wish.tenant, plan.graph.fused, "", wish.deadline_seconds, wish.priority)
        ticket = plan.engine.submit_model(asked, self._request, self._answered)
        return OVER_ALREADY if self._over else ticket

    def _answered(self, outcome: InferenceAnswer | BaseException) -> None:
        plan, call = self._plan, self._call
        assert call is not None, "it was begun"
        self._over = True
        plan.in_flight -= 1
        seconds = plan.engine.monotonic() - self._began_seconds
        failed = isinstance(outcome, BaseException)
        plan.count(self._request, seconds, failed=failed)
        if not isinstance(outcome, asyncio.CancelledError):
            counts = plan.counts[call.index]
            counts.requests += 1
            counts.failures += failed
            counts.seconds += seconds
        if not isinstance(outcome, BaseException):
            self._done(InferenceAnswer(self._request.id, plan.name, plan.told.now.revision, outcome.outputs))
        elif isinstance(outcome, ErgonautError):
            self._done(told_in_place(outcome, call.place))
        else:
            self._done(outcome)
