"""What people ask of sets of replicas: keep one, look, stop. The workflow `Serving` does the work. Called by `rpc`."""

from collections.abc import Sequence

from ergonaut.errors import NotFound
from ergonaut.replicas import SERVING, SET_REPLICAS_SIGNAL, ServingInput, ServingProgress, serving_workflow_id
from ergonaut.workflows import STOP_SIGNAL, Asked
from ergonaut_orchestrator.ports import Standing, Workflows
from ergonaut_orchestrator.service.desk import LISTED_MAX, each_found
from ergonaut_orchestrator.service.fleets import Fleets


class ServingDesk:
    """Takes wishes in and tells how sets stand."""

    def __init__(self, workflows: Workflows, fleets: Fleets) -> None:
        self._workflows = workflows
        self._fleets = fleets

    async def set_replicas(self, wish: ServingInput) -> None:
        """Keep a set from now on; one that stops goes on."""
        workflow_id = serving_workflow_id(wish.tenant, wish.name)
        await self._workflows.start_or_signal(SERVING, workflow_id, wish, signal=SET_REPLICAS_SIGNAL, asked=wish.spec)

    async def replicas(self, tenant: str, name: str) -> ServingProgress:
        """How a set stands. Raises NotFound where none is kept under this name."""
        missing = f"no replicas are kept as {name}; set some"
        try:
            progress, standing = await self._workflows.progress(serving_workflow_id(tenant, name), ServingProgress)
        except NotFound as error:
            raise NotFound(missing) from error
        if standing is not Standing.RUNNING:
            raise NotFound(missing)
        return progress

    async def all_replicas(self, tenant: str) -> Sequence[ServingProgress]:
        """Every set that is kept, by name."""
        prefix = serving_workflow_id(tenant, "")
        ids = await self._workflows.ids(SERVING, prefix, count_max=LISTED_MAX, only_running=True)
        names = sorted(each.removeprefix(prefix) for each in ids)
        return await each_found(names, lambda name: self.replicas(tenant, name))

    async def stop(self, tenant: str, name: str, because: str) -> None:
        """Let all replicas of a set end, also where its workflow was terminated. Raises NotFound where there are none."""
        if await self._workflows.signal(serving_workflow_id(tenant, name), STOP_SIGNAL, Asked(because=because)):
            return
        if not await self._fleets.let_others_leave(tenant, name, ()):
            raise NotFound(f"no replicas are kept as {name}")
