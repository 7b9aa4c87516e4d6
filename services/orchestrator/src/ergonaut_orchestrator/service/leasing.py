"""Gets machines and gives them back, whoever got them."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import BinaryIO

from ergonaut.errors import ErgonautError, NotFound
from ergonaut.jobs import Plan
from ergonaut.workflows import RunJobInput
from ergonaut_common.observe import get_logger
from ergonaut_orchestrator.domain import Attempt, Lease, LeaseState, StopReason, facts
from ergonaut_orchestrator.ports import Provider
from ergonaut_orchestrator.service.world import World

log = get_logger(__name__)


class Leasing:
    """Gets machines and gives them back."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def place(self, request: RunJobInput, workflow_id: str) -> Plan:
        """Ask where and when the job runs; what else was weighed is left out, for the workflow's history need not hold it."""
        plan = await self._world.placing.place(request, workflow_id)
        return plan.model_copy(update={"alternatives": ()})

    async def provision(self, attempt: Attempt) -> None:
        """Get the attempt's machine, with the job's files on it."""
        lease, source = attempt.lease, attempt.job.source
        provider = self._world.provider(lease.provider)
        archive = await self._world.sources.fetch(lease.tenant, source) if source else None
        with await self._checkpoint(attempt) as checkpoint:
            acquired = await provider.provision(lease, archive, checkpoint)
        await self._world.announcer.tell(facts.lease_acquired(lease, host=acquired.host, at=acquired.at))

    async def ask_to_stop(self, lease: Lease, reason: StopReason) -> None:
        """Leave word for the program at once; the watch sees it, and waits until it has ended."""
        await self._world.provider(lease.provider).ask_to_stop(lease.lease_id, reason)
        log.info("run asked to stop", run_id=lease.run_id, reason=reason)

    async def _checkpoint(self, attempt: Attempt) -> AbstractContextManager[BinaryIO | None]:
        """What an earlier attempt saved. One that is lost costs the work done so far, not the job."""
        if not attempt.checkpoint:
            return nullcontext()
        try:
            return await self._world.artifacts.fetch(attempt.lease.tenant, attempt.checkpoint)
        except NotFound as error:
            log.error("checkpoint lost; the job begins again", job_id=attempt.lease.job_id, error=str(error))
            return nullcontext()

    async def tear_down(self, lease: Lease, because: str, *, again: bool = False) -> None:
        """Give the machine back. A lease that was never got needs nothing, but `again`, it may be gone and that not yet told."""
        provider = self._world.providers.get(lease.provider)
        if provider is None or not (again or await _is_held(provider, lease)):
            return
        await provider.tear_down(lease.lease_id)
        log.info("lease released", lease_id=lease.lease_id, run_id=lease.run_id, because=because)
        await self._world.announcer.tell(facts.lease_released(lease, because=because, at=self._world.clock.now()))

    async def reconcile(self) -> None:
        """Give back the machines whose workflow is gone, whoever got them."""
        for lease in await _held(self._world.providers.values()):
            try:
                if not await self._world.workflows.is_live(lease):
                    await self.tear_down(lease, "its workflow is gone")
            except ErgonautError as error:
                log.warning("lease not reconciled", lease_id=lease.lease_id, error=str(error))

    async def ask_all_to_stop(self) -> None:
        """Ask every program on this machine to end, as preempted, and return at once."""
        for lease in await _held(self._providers_here()):
            await self._world.provider(lease.provider).ask_to_stop(lease.lease_id, StopReason.PREEMPTED)

    async def interrupt_all(self) -> None:
        """Stop every program on this machine, as preempted; return when all have ended."""
        await self.ask_all_to_stop()
        for lease in await _held(self._providers_here()):
            while (await self._world.provider(lease.provider).observe(lease.lease_id)).state is LeaseState.RUNNING:
                await self._world.clock.sleep(0.1)

    def _providers_here(self) -> list[Provider]:
        return [provider for provider in self._world.providers.values() if provider.on_this_machine]


async def _is_held(provider: Provider, lease: Lease) -> bool:
    return (await provider.observe(lease.lease_id)).state is not LeaseState.ABSENT


async def _held(providers: Iterable[Provider]) -> list[Lease]:
    return [lease for provider in providers for lease in await provider.held()]
