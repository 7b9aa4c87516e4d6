"""Sets of replicas of the gateway, which are kept running as jobs. Only operators may change them."""

from typing import TYPE_CHECKING

from ergonaut.api.orchestration.v1 import replicas_pb2 as pb
from ergonaut.api.orchestration.v1.replicas_pb2_grpc import ReplicasServiceStub
from ergonaut.client.connection import Connection, doing
from ergonaut.replicas import ReplicasSpec
from ergonaut.replicas_proto import spec_message

if TYPE_CHECKING:
    from ergonaut.api.orchestration.v1.replicas_pb2_grpc import ReplicasServiceAsyncStub


class ReplicaSets:
    """Sets of gateways that the orchestrator keeps."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def _stub(self) -> "ReplicasServiceAsyncStub":
        return ReplicasServiceStub(self._connection.channel("orchestrator"))

    async def set(self, name: str, spec: ReplicasSpec) -> None:
        """Keep a set from now on, or change it. Raises Refused naming the field, NotAllowed without the scope `operate`."""
        with doing(f"setting the replicas {name}"):
            await self._stub.SetReplicas(pb.SetReplicasRequest(name=name, spec=spec_message(spec)))

    async def get(self, name: str) -> pb.Replicas:
        """How a set stands. Raises NotFound."""
        with doing(f"asking for the replicas {name}"):
            return (await self._stub.GetReplicas(pb.GetReplicasRequest(name=name))).replicas

    async def all(self) -> list[pb.Replicas]:
        """Every set that is kept, by name."""
        with doing("listing replicas"):
            return [*(await self._stub.ListReplicas(pb.ListReplicasRequest())).sets]

    async def stop(self, name: str, *, because: str = "") -> None:
        """Keep a set no longer: its replicas finish their requests and end. Raises NotFound, NotAllowed."""
        with doing(f"stopping the replicas {name}"):
            await self._stub.StopReplicas(pb.StopReplicasRequest(name=name, because=because))
