"""The gRPC door: turns requests into questions and answers into protobuf. Every answer is for the caller's tenant."""

from collections.abc import Callable

from grpc import aio

from ergonaut.api.ledger.v1 import ledger_pb2
from ergonaut.api.ledger.v1.ledger_pb2_grpc import add_LedgerServiceServicer_to_server
from ergonaut_ledger.rpc.runs import LedgerDoor
from ergonaut_ledger.service import Reporting

SERVICE_NAMES: tuple[str, ...] = (ledger_pb2.DESCRIPTOR.services_by_name["LedgerService"].full_name,)


def door(reporting: Reporting) -> Callable[[aio.Server], None]:
    """What puts the ledger's services on a server."""

    def add(server: aio.Server) -> None:
        add_LedgerServiceServicer_to_server(LedgerDoor(reporting), server)

    return add
