"""Endpoints: apply, roll back, list, remove, figures. Predictions of an endpoint are asked as those of a model, by its name."""

from typing import TYPE_CHECKING

from ergonaut.api.inference.v1 import endpoints_pb2 as pb
from ergonaut.api.inference.v1.endpoints_pb2_grpc import EndpointServiceStub
from ergonaut.channels import TRANSFER_TIMEOUT_SECONDS
from ergonaut.client.connection import Connection, doing

if TYPE_CHECKING:
    from ergonaut.api.inference.v1.endpoints_pb2_grpc import EndpointServiceAsyncStub


class Endpoints:
    """Names whose requests go to versions of models by routes; `ergonaut.endpointfile` reads them from files."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def _stub(self) -> "EndpointServiceAsyncStub":
        return EndpointServiceStub(self._connection.channel("gateway"))

    async def apply(self, endpoint: pb.Endpoint, *, expected: int | None = None) -> pb.Endpoint:
        """Send requests by these routes from now on. `expected` is the revision that it replaces, 0 for none. Raises Conflict,
        Refused."""
        request = pb.ApplyEndpointRequest(endpoint=endpoint, expected_revision=expected)
        with doing(f"applying endpoint {endpoint.name}"):
            # The versions that it names are loaded first.
            return (await self._stub.ApplyEndpoint(request, timeout=TRANSFER_TIMEOUT_SECONDS)).endpoint

    async def get(self, name: str) -> pb.GetEndpointResponse:
        """An endpoint as it is, and what it was before. Raises NotFound."""
        with doing(f"asking for endpoint {name}"):
            answer: pb.GetEndpointResponse = await self._stub.GetEndpoint(pb.GetEndpointRequest(name=name))
            return answer

    async def all(self) -> list[pb.Endpoint]:
        """Every endpoint, by name."""
        with doing("listing endpoints"):
            return [*(await self._stub.ListEndpoints(pb.ListEndpointsRequest())).endpoints]

    async def remove(self, name: str) -> None:
        """Serve an endpoint no longer; its models stay. Raises NotFound."""
        with doing(f"removing endpoint {name}"):
            await self._stub.RemoveEndpoint(pb.RemoveEndpointRequest(name=name))

    async def roll_back(
        self, name: str, *, to_revision: int = 0, expected: int | None = None, because: str = ""
    ) -> pb.Endpoint:
        """Go back to an earlier revision's routes, the one before where none is named. Raises NotFound, Refused, Conflict."""
        request = pb.RollBackEndpointRequest(
            name=name, to_revision=to_revision, expected_revision=expected, because=because
        )
        with doing(f"rolling endpoint {name} back"):
            return (await self._stub.RollBackEndpoint(request, timeout=TRANSFER_TIMEOUT_SECONDS)).endpoint

    async def figures(self, name: str) -> pb.GetEndpointFiguresResponse:
        """What each route did under the present revision. Raises NotFound."""
        with doing(f"asking for the figures of endpoint {name}"):
            answer: pb.GetEndpointFiguresResponse = await self._stub.GetEndpointFigures(
                pb.GetEndpointFiguresRequest(name=name)
            )
            return answer
