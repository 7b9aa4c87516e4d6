"""The gRPC door: translates between `ergonaut.api.vectors.v1` and the service's words. `main` opens it."""

from collections.abc import Callable

from grpc import aio

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.api.vectors.v1 import vectors_pb2_grpc as pb_grpc
from ergonaut_vectors.asking import Asking
from ergonaut_vectors.catalogue import Catalogue, Snapshots, Splits
from ergonaut_vectors.changes import Changes
from ergonaut_vectors.quotas import Quotas
from ergonaut_vectors.rpc.keeping import KeepingCalls
from ergonaut_vectors.rpc.reading import ReadingCalls
from ergonaut_vectors.rpc.shared import Behind
from ergonaut_vectors.rpc.writing import WritingCalls
from ergonaut_vectors.workers import Workers

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["VectorsService"].full_name


class VectorsDoor(KeepingCalls, WritingCalls, ReadingCalls, pb_grpc.VectorsServiceServicer):
    """Answers the calls of a tenant about its own collections."""


def behind_of(
    catalogue: Catalogue,
    quotas: Quotas,
    searching: Workers,
    snapshots: Snapshots | None = None,
    changes: Changes | None = None,
    splits: Splits | None = None,
) -> Behind:
    """What a door needs behind it."""
    asking = Asking(catalogue, quotas, searching, changes)
    return Behind(catalogue, asking, quotas, searching, snapshots, changes, splits)


def door_before(behind: Behind) -> Callable[[aio.Server], None]:
    """What `serving` needs to add this door to a server."""
    return lambda server: pb_grpc.add_VectorsServiceServicer_to_server(VectorsDoor(behind), server)


def door(
    catalogue: Catalogue,
    quotas: Quotas,
    searching: Workers,
    snapshots: Snapshots | None = None,
    changes: Changes | None = None,
) -> Callable[[aio.Server], None]:
    """The same, of its parts."""
    return door_before(behind_of(catalogue, quotas, searching, snapshots, changes))
