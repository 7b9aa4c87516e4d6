"""The gRPC doors for people: rollouts, retrainings and replicas of the caller's own tenant. Jobs come by the scheduler."""

from typing import Any, TypeVar

from grpc import aio

from ergonaut.api.orchestration.v1 import replicas_pb2 as replicas
from ergonaut.api.orchestration.v1 import replicas_pb2_grpc, retraining_pb2_grpc, rollouts_pb2_grpc
from ergonaut.api.orchestration.v1 import retraining_pb2 as retraining
from ergonaut.api.orchestration.v1 import rollouts_pb2 as rollouts
from ergonaut.errors import Refused, Unavailable
from ergonaut.ids import NAME_RULE, is_name
from ergonaut.keys import Scope
from ergonaut.orchestration_proto import (
    recipe_of,
    retraining_message,
    rollout_input_of,
    rollout_message,
)
from ergonaut.replicas_proto import replicas_message, serving_input_of, set_name_of
from ergonaut.retraining import RetrainingInput
from ergonaut_common.rpc import caller
from ergonaut_orchestrator.service import Desk, ServingDesk

Answering = TypeVar("Answering", Desk, ServingDesk)

BECAUSE_CHARACTERS_MAX = 1024
"""A reason is read by people, and kept in the workflow's history."""


class Reception:
    """Who answers, once there is somebody: the port is open before Temporal has answered, so that health can be asked."""

    def __init__(self) -> None:
        self._desk: Desk | None = None
        self._serving: ServingDesk | None = None

    def open(self, desk: Desk, serving: ServingDesk) -> None:
        """Answer from now on."""
        self._desk, self._serving = desk, serving

    @property
    def desk(self) -> Desk:
        """Who answers. Raises Unavailable before it is open."""
        return _there(self._desk)

    @property
    def serving(self) -> ServingDesk:
        """Who answers for replicas. Raises Unavailable before it is open."""
        return _there(self._serving)

    def add(self, server: aio.Server) -> None:
        """Put all doors on a server."""
        rollouts_pb2_grpc.add_RolloutServiceServicer_to_server(RolloutDoor(self), server)
        retraining_pb2_grpc.add_RetrainingServiceServicer_to_server(RetrainingDoor(self), server)
        replicas_pb2_grpc.add_ReplicasServiceServicer_to_server(ReplicasDoor(self), server)


SERVICE_NAMES = (
    rollouts.DESCRIPTOR.services_by_name["RolloutService"].full_name,
    retraining.DESCRIPTOR.services_by_name["RetrainingService"].full_name,
    replicas.DESCRIPTOR.services_by_name["ReplicasService"].full_name,
)


class RolloutDoor(rollouts_pb2_grpc.RolloutServiceServicer):
    """Answers RolloutService."""

    def __init__(self, reception: Reception) -> None:
        self._reception = reception

    async def StartRollout(self, request: Any, context: Any) -> Any:
        progress = await self._reception.desk.start_rollout(rollout_input_of(request, caller().tenant))
        return rollouts.StartRolloutResponse(rollout=rollout_message(progress))

    async def GetRollout(self, request: Any, context: Any) -> Any:
        progress = await self._reception.desk.rollout(caller().tenant, request.endpoint)
        return rollouts.GetRolloutResponse(rollout=rollout_message(progress))

    async def AbortRollout(self, request: Any, context: Any) -> Any:
        await self._reception.desk.abort(caller().tenant, request.endpoint, _reason(request.because))
        return rollouts.AbortRolloutResponse()

    async def ListRollouts(self, request: Any, context: Any) -> Any:
        found = await self._reception.desk.rollouts(caller().tenant)
        return rollouts.ListRolloutsResponse(rollouts=[rollout_message(each) for each in found])


class RetrainingDoor(retraining_pb2_grpc.RetrainingServiceServicer):
    """Answers RetrainingService."""

    def __init__(self, reception: Reception) -> None:
        self._reception = reception

    async def SetRetraining(self, request: Any, context: Any) -> Any:
        if not is_name(request.model):
            raise Refused(f"{request.model!r} must be {NAME_RULE}", field="model")
        wish = RetrainingInput(tenant=caller().tenant, model=request.model, recipe=recipe_of(request.recipe))
        await self._reception.desk.set_recipe(wish)
        return retraining.SetRetrainingResponse()

    async def GetRetraining(self, request: Any, context: Any) -> Any:
        progress = await self._reception.desk.retraining(caller().tenant, request.model)
        return retraining.GetRetrainingResponse(retraining=retraining_message(progress))

    async def ListRetrainings(self, request: Any, context: Any) -> Any:
        found = await self._reception.desk.retrainings(caller().tenant)
        return retraining.ListRetrainingsResponse(retrainings=[retraining_message(each) for each in found])

    async def RemoveRetraining(self, request: Any, context: Any) -> Any:
        await self._reception.desk.remove(caller().tenant, request.model)
        return retraining.RemoveRetrainingResponse()

    async def TrainNow(self, request: Any, context: Any) -> Any:
        await self._reception.desk.train_now(caller().tenant, request.model, _reason(request.because))
        return retraining.TrainNowResponse()

    async def PauseRetraining(self, request: Any, context: Any) -> Any:
        await self._reception.desk.pause(caller().tenant, request.model, _reason(request.because))
        return retraining.PauseRetrainingResponse()

    async def ResumeRetraining(self, request: Any, context: Any) -> Any:
        await self._reception.desk.resume(caller().tenant, request.model)
        return retraining.ResumeRetrainingResponse()


class ReplicasDoor(replicas_pb2_grpc.ReplicasServiceServicer):
    """Answers ReplicasService. Replicas hold the platform's own keys, so that only operators may have them started or ended."""

    def __init__(self, reception: Reception) -> None:
        self._reception = reception

    async def SetReplicas(self, request: Any, context: Any) -> Any:
        caller().require(Scope.OPERATE)
        await self._reception.serving.set_replicas(serving_input_of(request, caller().tenant))
        return replicas.SetReplicasResponse()

    async def GetReplicas(self, request: Any, context: Any) -> Any:
        progress = await self._reception.serving.replicas(caller().tenant, set_name_of(request.name))
        return replicas.GetReplicasResponse(replicas=replicas_message(progress))

    async def ListReplicas(self, request: Any, context: Any) -> Any:
        found = await self._reception.serving.all_replicas(caller().tenant)
        return replicas.ListReplicasResponse(sets=[replicas_message(each) for each in found])

    async def StopReplicas(self, request: Any, context: Any) -> Any:
        caller().require(Scope.OPERATE)
        because = _reason(request.because)
        await self._reception.serving.stop(caller().tenant, set_name_of(request.name), because)
        return replicas.StopReplicasResponse()


def _there(desk: Answering | None) -> Answering:
    if desk is None:
        raise Unavailable("the orchestrator is starting; ask again in a moment")
    return desk


def _reason(because: str) -> str:
    if len(because) > BECAUSE_CHARACTERS_MAX:
        raise Refused(f"is longer than {BECAUSE_CHARACTERS_MAX} characters", field="because")
    return because
