"""The gRPC door: turns requests into questions and answers into protobuf. Every answer is for the caller's tenant."""

from collections.abc import Callable

from grpc import aio

from ergonaut.api.ledger.v1 import analysis_pb2, budgets_pb2, exports_pb2, ledger_pb2, models_pb2, statements_pb2
from ergonaut.api.ledger.v1.ledger_pb2_grpc import add_LedgerServiceServicer_to_server
from ergonaut_ledger.rpc.analysis import analysis_door
from ergonaut_ledger.rpc.budgets import budget_door
from ergonaut_ledger.rpc.exports import export_door
from ergonaut_ledger.rpc.models import model_book_door
from ergonaut_ledger.rpc.runs import LedgerDoor
from ergonaut_ledger.rpc.statements import statement_door
from ergonaut_ledger.service import Reporting, Using

SERVICE_NAMES: tuple[str, ...] = (
    ledger_pb2.DESCRIPTOR.services_by_name["LedgerService"].full_name,
    budgets_pb2.DESCRIPTOR.services_by_name["BudgetService"].full_name,
    analysis_pb2.DESCRIPTOR.services_by_name["AnalysisService"].full_name,
    models_pb2.DESCRIPTOR.services_by_name["ModelBookService"].full_name,
    exports_pb2.DESCRIPTOR.services_by_name["ExportService"].full_name,
    statements_pb2.DESCRIPTOR.services_by_name["StatementService"].full_name,
)


def door(reporting: Reporting, using: Using, *others: Callable[[aio.Server], None]) -> Callable[[aio.Server], None]:
    """What puts the ledger's services on a server; `others` put further ones on it, such as `budget_door`."""

    def add(server: aio.Server) -> None:
        add_LedgerServiceServicer_to_server(LedgerDoor(reporting, using), server)
        for other in others:
            other(server)

    return add


__all__ = [
    "SERVICE_NAMES",
    "analysis_door",
    "budget_door",
    "door",
    "export_door",
    "model_book_door",
    "statement_door",
]
