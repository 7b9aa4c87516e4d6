"""Asks the ledger, by gRPC, what runs used. Fills the port `Lineages`."""

from dataclasses import fields

import grpc

from ergonaut.api.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from ergonaut.client.models import lineage_from
from ergonaut.errors import NotFound
from ergonaut_common.rpc import error_of, for_tenant
from ergonaut_orchestrator.domain.trials import Lineage

ANSWER_SECONDS = 10.0
"""The ledger reads one run's rows; slower than this it is in trouble."""


class LedgerLineages:
    """The ledger behind a channel that carries the services' key."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = ledger_pb2_grpc.LedgerServiceStub(channel)

    async def of_run(self, tenant: str, run_id: str) -> Lineage | None:
        request = ledger_pb2.GetRunFootprintRequest(run_id=run_id)
        try:
            answer = await self._stub.GetRunFootprint(request, metadata=for_tenant(tenant), timeout=ANSWER_SECONDS)
        except grpc.RpcError as error:
            failure = error_of(error, doing=f"asking what {run_id} used")
            if isinstance(failure, NotFound):
                return None
            raise failure from error
        if not answer.run.HasField("ended_at"):
            return None
        told = {field.name: value for field, value in lineage_from(answer).ListFields()}
        return Lineage(**{each.name: told.get(each.name) for each in fields(Lineage)})
