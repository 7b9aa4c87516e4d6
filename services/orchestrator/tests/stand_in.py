"""A scheduler that answers PlanJob and a ledger that tells what runs used, over real gRPC, for tests of those who ask them."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from ergonaut.api.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from ergonaut.api.scheduling.v1 import scheduling_pb2, scheduling_pb2_grpc
from ergonaut.jobs import Plan, source_digest
from ergonaut.jobs_proto import plan_to_proto
from ergonaut_common.auth import KeyRing
from ergonaut_common.rpc import caller, serving


class Scheduler(scheduling_pb2_grpc.SchedulingServiceServicer):
    """Remembers what it was asked and the files that it was given, by which tenant, and answers what the test says."""

    def __init__(self, answer: Callable[[], Plan]) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.answer = answer
        self.sources: dict[tuple[str, str], bytes] = {}
        """By tenant and digest."""

    async def UploadSource(self, requests: Any, context: Any) -> Any:
        packed = b"".join([request.chunk async for request in requests])
        self.sources[caller().tenant, source_digest(packed)] = packed
        return scheduling_pb2.UploadSourceResponse(source=source_digest(packed))

    async def PlanJob(self, request: Any, context: Any) -> Any:
        self.asked.append((caller().tenant, request))
        return plan_to_proto(self.answer())


@asynccontextmanager
async def scheduling(scheduler: Scheduler, keys: KeyRing, address: str = "127.0.0.1:0") -> AsyncIterator[str]:
    """Answer while the block runs; gives the address."""

    def add(server: grpc.aio.Server) -> None:
        scheduling_pb2_grpc.add_SchedulingServiceServicer_to_server(scheduler, server)

    name = scheduling_pb2.DESCRIPTOR.services_by_name["SchedulingService"].full_name
    async with serving(address, service="scheduler", add=add, keys=keys, names=[name]) as server:
        yield f"127.0.0.1:{server.port}"


class Ledger(ledger_pb2_grpc.LedgerServiceServicer):
    """Knows that every run has ended, and what it used."""

    async def GetRunFootprint(self, request: Any, context: Any) -> Any:
        told = ledger_pb2.GetRunFootprintResponse(energy_joules=120.0)
        told.run.ended_at.GetCurrentTime()
        told.components.add(component="cpu", method="model", energy_joules=120.0, range_fraction=0.5)
        return told


@asynccontextmanager
async def ledger(keys: KeyRing) -> AsyncIterator[str]:
    """Answer while the block runs; gives the address."""

    def add(server: grpc.aio.Server) -> None:
        ledger_pb2_grpc.add_LedgerServiceServicer_to_server(Ledger(), server)

    async with serving("127.0.0.1:0", service="ledger", add=add, keys=keys, names=[]) as server:
        yield f"127.0.0.1:{server.port}"
