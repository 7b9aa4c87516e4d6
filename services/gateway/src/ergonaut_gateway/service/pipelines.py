"""Pipelines looked after: applied, checked, listed, removed, and held ready by each process as their records say. A record is
written after all that it needs is there; what remains to be done is found in it and done by whoever looks next."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from ergonaut.errors import ErgonautError, NotFound, Refused
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.changes import Held
from ergonaut_gateway.domain.models import Signature
from ergonaut_gateway.domain.pipelines.checking import checked
from ergonaut_gateway.domain.pipelines.forms import check_form
from ergonaut_gateway.domain.pipelines.graph import Graph
from ergonaut_gateway.domain.pipelines.recipes import Unfused, candidates
from ergonaut_gateway.domain.pipelines.records import (
    Applied,
    Fusion,
    PipelineEntry,
    PipelineRecord,
    Use,
    applied,
    event_of,
    held_by,
    removed,
)
from ergonaut_gateway.domain.pipelines.spec import Pipeline, place
from ergonaut_gateway.domain.revisions import check_because, check_expected, check_room
from ergonaut_gateway.ports import Announcer, ModelRegistry, PipelineBook
from ergonaut_gateway.service.fusing import MADE_BY, Fusing
from ergonaut_gateway.service.models import Models
from ergonaut_gateway.service.pipeline_counting import Board
from ergonaut_gateway.service.pipeline_runs import Engine, PipelinePlan
from ergonaut_gateway.service.plans import Plans
from ergonaut_gateway.service.shelf import Shelf

PIPELINES_MAX = 200
"""Pipelines of a tenant; each takes some 100 kB in every gateway process."""

UNNAMED_AFTER = timedelta(hours=1)
"""When a fused model is removed that no pipeline names: by then whoever made it has written its record, or has died."""

log = get_logger(__name__)
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class PipelineWorld:
    """What pipelines are kept in, told to, and made of."""

    book: PipelineBook
    announcer: Announcer
    clock: Clock
    registry: ModelRegistry
    models: Models
    fusing: Fusing


@dataclass(frozen=True, slots=True)
class Change:
    """Who changes a pipeline and why, and which revision it must have until then: 0 for none, None for any."""

    by: str
    because: str = ""
    expected: int | None = None


class Pipelines:
    """Looks after the pipelines of all tenants."""

    def __init__(self, world: PipelineWorld, plans: Plans, engine: Engine) -> None:
        self._world = world
        self._plans = plans
        self._engine = engine
        self._held: dict[Key, PipelineEntry] = {}
        self._board = Board()
        self._shelf = Shelf(
            world.book, world.announcer, world.clock, what="pipeline", event_of=event_of, hold=self._hold
        )

    async def apply(self, tenant: str, pipeline: Pipeline, change: Change) -> PipelineRecord:
        """Serve a pipeline from now on, its models loaded first. Raises Refused, Conflict, Unavailable."""
        check_because(change.because)
        graph, signature, uses = await self._fitted(tenant, pipeline)
        fusions = await self._world.fusing.fuse(tenant, graph)
        what = Applied(tenant, pipeline, signature, uses, fusions, change.by, change.because)

        def after(current: PipelineRecord | None) -> PipelineRecord:
            check_expected(current, f"pipeline {pipeline.name}", change.expected)
            held = (entry.record for entry in self._held.values())
            check_room(held, current, tenant, most=PIPELINES_MAX, what="pipelines")
            return applied(current, what, at=self._world.clock.now())

        record, is_other = await self._shelf.change(tenant, pipeline.name, after)
        if is_other:
            log.info("pipeline applied", tenant=tenant, pipeline=pipeline.name, revision=record.now.revision)
        return record

    async def check(self, tenant: str, pipeline: Pipeline) -> tuple[Signature, tuple[Fusion, ...]]:
        """What a pipeline would take and give, and which of its nodes cannot be one model; keeps nothing. Raises Refused."""
        graph, signature, _ = await self._fitted(tenant, pipeline, loads=False)
        found = [
            Fusion(node.path, node.node, because=recipe.because if isinstance(recipe, Unfused) else "")
            for node, recipe in candidates(graph)
        ]
        return signature, tuple(found)

    async def get(self, tenant: str, name: str) -> PipelineRecord:
        """A pipeline. Raises NotFound."""
        return await self._shelf.get(tenant, name)

    async def list(self, tenant: str) -> Sequence[PipelineRecord]:
        """The pipelines by name."""
        return await self._shelf.list(tenant)

    async def remove(self, tenant: str, name: str) -> None:
        """Keep a pipeline no longer; its models stay. Raises NotFound."""
        await self._shelf.remove(tenant, name, lambda current: removed(current, at=self._world.clock.now()))

    def named(self, tenant: str, name: str) -> str:
        """What a name stands for, where it is a pipeline's."""
        held = self._held.get((tenant, name))
        return "a pipeline" if held is not None and held.record.is_kept else ""

    def holds(self, tenant: str, model: str) -> Held:
        """The versions of a model that pipelines ask."""
        return held_by((entry.record for entry in self._held.values()), tenant, model)

    async def load_all(self) -> None:
        """Hold ready whatever the records say."""
        await self._shelf.load_all()

    async def follow(self, *, resync_seconds: float) -> None:
        """Keep current, for ever, also with what other gateways apply."""
        await self._shelf.follow(resync_seconds=resync_seconds)

    async def keep_finishing(self, *, every_seconds: float) -> None:
        """Do what processes that died did not come to, again and again, for ever."""
        await self._shelf.keep_finishing(self.finish_all, every_seconds=every_seconds)

    async def finish_all(self) -> None:
        """Tell facts, make lost fused models anew, and remove those that no pipeline names."""
        # Read before the pipelines: a model that is old enough is named by a record by now, or never will be.
        models = [entry.model for entry in await self._world.registry.entries()]
        made = [model.kept[-1] for model in models if model.is_kept and model.kept[-1].lineage.deployed_by == MADE_BY]
        entries = await self._shelf.tell_all()
        for entry in entries:
            await self._mended(entry.record)
        named = {(entry.record.tenant, model) for entry in entries for model in entry.record.fused_models}
        for record in made:
            is_old = self._world.clock.now() - record.deployed_at > UNNAMED_AFTER
            if is_old and (record.tenant, record.name) not in named:
                await self._world.fusing.drop(record.tenant, record.name)

    async def _fitted(
        self, tenant: str, pipeline: Pipeline, *, loads: bool = True
    ) -> tuple[Graph, Signature, tuple[Use, ...]]:
        """The pipeline's graph with its models as they are now. Raises Refused."""
        check_form(pipeline)
        await self._check_free(tenant, pipeline.name)
        uses = tuple([await self._use(tenant, pipeline, use, loads=loads) for use in pipeline.uses()])
        graph, signature = checked(pipeline, {(use.model, use.version): use.signature for use in uses})
        return graph, signature, uses

    async def _use(self, tenant: str, pipeline: Pipeline, use: tuple[str, str], *, loads: bool) -> Use:
        """A version that steps ask, loaded if it is not. Raises Refused, saying which step asks it."""
        name, version = use
        try:
            record = (await self._world.models.get(tenant, name)).named(version)
            if loads and not record.served:
                await self._world.models.load(tenant, name, str(record.version))
        except (NotFound, Refused) as error:
            at = next(place(*found) for found in pipeline.numbered_steps() if found[2].model == name)
            raise Refused(str(error), field=at) from error
        return Use(name, version, record.signature)

    async def _check_free(self, tenant: str, name: str) -> None:
        """Raise Refused where something else has the name."""
        plan = self._plans.get((tenant, name))
        if plan is not None and not isinstance(plan, PipelinePlan):
            raise Refused(f"an endpoint is called {name}; a pipeline needs a name of its own", field="name")
        try:
            await self._world.models.get(tenant, name)
        except NotFound:
            return
        raise Refused(f"a model is called {name}; a pipeline needs a name of its own", field="name")

    def _hold(self, entry: PipelineEntry) -> None:
        """Serve by an entry from now on; one that is older than what is known changes nothing."""
        record = entry.record
        key = (record.tenant, record.name)
        held = self._held.get(key)
        if held is not None and held.revision >= entry.revision:
            return
        self._held[key] = entry
        if not record.is_kept:
            # An endpoint may have taken the name since.
            if isinstance(self._plans.get(key), PipelinePlan):
                del self._plans[key]
            self._board.drop(key)
            return
        if held is not None and held.record.is_kept and replace(held.record, is_told=record.is_told) == record:
            return
        try:
            plan = PipelinePlan(record, self._engine)
        except Refused as error:
            # It fitted for the gateway that wrote it, which may be a newer one.
            log.error("pipeline not served", tenant=record.tenant, pipeline=record.name, error=str(error))
            return
        self._plans[key] = plan
        self._board.put(key, plan)

    async def _mended(self, record: PipelineRecord) -> None:
        """Make the fused models of a pipeline anew that were lost; until then its steps are asked one by one."""
        lost = [model for model in record.fused_models if not await self._world.fusing.is_there(record.tenant, model)]
        if not lost:
            return
        try:
            fusions = await self._world.fusing.fuse(record.tenant, record.graph())
        except ErgonautError as error:
            log.warning("fused model not made anew", pipeline=record.name, error=str(error))
            return
        for fusion in fusions:
            if fusion.path in {each.path for each in record.fusions if each.model in lost}:
                log.info("fused model made anew", pipeline=record.name, model=fusion.model, because=fusion.because)
