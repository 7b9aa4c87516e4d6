"""Keeps what runs leave, and tells how they ended."""

import contextlib

from ergonaut.errors import NotFound, Refused
from ergonaut_orchestrator.domain import Attempt, Collected, Ending, EndKind, Lease, Saved, facts, within_bounds
from ergonaut_orchestrator.ports import Provider
from ergonaut_orchestrator.service.world import Bounds, World

LOGS = ("stdout.log", "stderr.log")


def artifact_name(run_id: str, path: str) -> str:
    """The name under which a run's file is kept, and under which anybody fetches it."""
    return f"{run_id}/{path}"


def checkpoint_name(job_id: str, run_id: str) -> str:
    """The name under which a run's checkpoint is kept; no run's own name is `checkpoints`."""
    return f"checkpoints/{job_id}/{run_id}.tar"


class Keeping:
    """Keeps what runs leave, and tells how they ended."""

    def __init__(self, world: World, bounds: Bounds) -> None:
        self._world = world
        self._bounds = bounds

    async def collect(self, attempt: Attempt) -> Collected:
        """Keep the run's files and outputs, within bounds."""
        lease, bounds = attempt.lease, self._bounds
        provider = self._world.provider(lease.provider)
        await self._keep_logs(provider, lease)
        found = await provider.files(lease.lease_id, attempt.job.artifacts)
        kept, said = within_bounds(found, count_max=bounds.artifacts_count_max, bytes_max=bounds.artifacts_bytes_max)
        for file in kept:
            with await provider.open_file(lease.lease_id, file.path) as content:
                await self._world.artifacts.keep(lease.tenant, artifact_name(lease.run_id, file.path), content)
        return Collected(tuple(artifact_name(lease.run_id, file.path) for file in kept), said)

    async def save(self, attempt: Attempt) -> Saved:
        """Keep what an interrupted attempt leaves for the next one: its checkpoint; and its outputs, for people."""
        lease = attempt.lease
        provider = self._world.provider(lease.provider)
        try:
            await self._keep_logs(provider, lease)
            packed = await provider.checkpoint(lease.lease_id)
        except NotFound:
            return Saved(because="the machine is gone, and with it what was saved since the last checkpoint")
        except Refused as error:
            return Saved(because=str(error))
        if packed is None:
            return Saved()
        name = checkpoint_name(lease.job_id, lease.run_id)
        with packed:
            await self._world.artifacts.keep(lease.tenant, name, packed)
        return Saved(name)

    async def drop(self, tenant: str, checkpoint: str) -> None:
        """A checkpoint that a newer one replaces, or whose job has ended, is kept no longer."""
        await self._world.artifacts.drop(tenant, checkpoint)

    async def _keep_logs(self, provider: Provider, lease: Lease) -> None:
        """What the program wrote; no run's name is `logs`, so that no artifact can be in the way."""
        for name in LOGS:
            with contextlib.suppress(NotFound), await provider.open_log(lease.lease_id, name) as content:
                await self._world.artifacts.keep(lease.tenant, f"logs/{lease.run_id}/{name}", content)

    async def tell_ended(self, ending: Ending) -> None:
        """Tell how an attempt ended: preempted or paused with another to follow, or for good."""
        interrupted = {EndKind.PREEMPTED: facts.run_preempted, EndKind.PAUSED: facts.run_paused}
        fact = interrupted.get(ending.end.kind, facts.run_finished)
        await self._world.announcer.tell(fact(ending))
