"""Makes one model of a pipeline's node where that is possible, and lets nobody use it that does not give what the steps give."""

import asyncio
import threading
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ergonaut.errors import ErgonautError, NotFound, Refused, Unavailable
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.drawing import Drawing, drawings
from ergonaut_gateway.domain.models import Lineage, ModelRecord, Signature
from ergonaut_gateway.domain.pipelines.graph import Graph
from ergonaut_gateway.domain.pipelines.recipes import Recipe, Stage, Unfused, candidates, computed
from ergonaut_gateway.domain.pipelines.records import Fusion
from ergonaut_gateway.domain.tensors import Tensor
from ergonaut_gateway.ports import Fuser, ModelFiles, ModelLoader, ModelSigner, Runner, Stop
from ergonaut_gateway.service.catalogue import Catalogue
from ergonaut_gateway.service.dozing import Dozing
from ergonaut_gateway.service.models import Deployment, Models
from ergonaut_gateway.service.spool import Spool

FRAMEWORK = "ergonaut pipelines"
MADE_BY = "pipelines"
"""How the models are told that were made here; nobody else is called so, since principals are named by keys."""

STAGES_BYTES_MAX = 256 * 1024 * 1024
"""Files of all stages together; to merge them takes several times as much memory."""

WAITING_MAX = 8
"""Pipelines that may wait to be fused; one at a time is, since it takes a core and memory."""

ROWS = (1, 2, 3, 7)
"""How many rows both forms are compared with."""

COMPARING_SECONDS_MAX = 20.0
"""After this both forms stay uncompared, and the steps are asked one by one."""

ULPS_MAX = 16
"""How far both may be apart, in units of the last place of the largest element: reordered sums, and nothing more."""

UNSIGNED = (
    "signature_policy is require, and the gateway has no key to sign the model with that it would make; name one: "
    "ERGONAUT_GATEWAY_FUSING_KEY"
)

log = get_logger(__name__)
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Tools:
    """What merges and loads models, and where their files are."""

    fuser: Fuser
    loader: ModelLoader
    files: ModelFiles
    signer: ModelSigner | None = None
    must_sign: bool = False
    """Whether nothing is served that is not signed."""


class Fusing:
    """Looks for nodes that can be one model, makes and checks the models, and deploys them as any other."""

    def __init__(self, models: Models, catalogue: Catalogue, spool: Spool, tools: Tools) -> None:
        self._models = models
        self._catalogue = catalogue
        self._spool = spool
        self._tools = tools
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def fuse(self, tenant: str, graph: Graph) -> tuple[Fusion, ...]:
        """What came of each node that might be one model; why there is none is told and no error. Raises Unavailable where that
        cannot be found out now."""
        return tuple([await self._fused(tenant, node, found) for node, found in candidates(graph)])

    async def is_there(self, tenant: str, model: str) -> bool:
        """Whether a model that was made here can be asked, and its file is kept."""
        try:
            record = (await self._models.get(tenant, model)).named("")
        except NotFound:
            return False
        return self._catalogue.is_current(record) and await self._tools.files.exists(tenant, record.file)

    async def drop(self, tenant: str, model: str) -> None:
        """Keep a model no longer that was made here."""
        try:
            await self._models.remove(tenant, model)
        except NotFound:
            return
        log.info("fused model removed", tenant=tenant, model=model)

    async def _fused(self, tenant: str, node: Graph, found: Recipe | Unfused) -> Fusion:
        if isinstance(found, Unfused):
            return Fusion(node.path, node.node, because=found.because)
        if self._tools.must_sign and self._tools.signer is None:
            return Fusion(node.path, node.node, because=UNSIGNED)
        if self._waiting >= WAITING_MAX:
            raise Unavailable(f"{self._waiting} other pipelines wait for their models to be merged; ask again")
        self._waiting += 1
        try:
            async with self._turn:
                name, because = await self._made(tenant, node, found)
                return Fusion(node.path, node.node, name, because)
        except Unavailable:
            raise
        except (ErgonautError, ValueError) as error:
            return Fusion(node.path, node.node, because=str(error))
        finally:
            self._waiting -= 1

    async def _made(self, tenant: str, node: Graph, recipe: Recipe) -> tuple[str, str]:
        """The model's name, and what speaks for it. Raises what keeps it from being made."""
        records = {_key(stage): await self._record(tenant, stage) for stage in recipe.stages}
        if sum(record.size_bytes for record in records.values()) > STAGES_BYTES_MAX:
            raise Refused(f"the files of its models have more than {STAGES_BYTES_MAX} bytes together")
        name = recipe.name({key: record.digest for key, record in records.items()})
        stages = ", ".join(f"{model} {version}" for model, version in records)
        because = f"gives what {stages} give one by one, on {len(ROWS)} generated requests"
        if await self.is_there(tenant, name):
            return name, because
        runners = {key: await self._awake(record) for key, record in records.items()}
        async with AsyncExitStack() as stack:
            files = {}
            for key, record in records.items():
                files[key] = await stack.enter_async_context(self._spool.room())
                await self._write(record, files[key])
            target = await stack.enter_async_context(self._spool.room())
            rows_alike = all(runner.traits.joinable for runner in runners.values())
            await self._tools.fuser.fuse(recipe, files, target, rows_alike=rows_alike)
            fused = await self._tools.loader.load(target)
            _check_signature(fused.signature, Signature(node.inputs, node.outputs))
            await asyncio.to_thread(_Comparison(recipe, runners, fused).run)
            lineage = Lineage(framework=FRAMEWORK, deployed_by=MADE_BY)
            signer = self._tools.signer
            bundle = await asyncio.to_thread(signer.sign, target) if signer is not None else ""
            await self._models.deploy(Deployment(tenant, name, lineage, bundle), self._spool.pieces(target))
        log.info("pipeline node fused", tenant=tenant, node=node.node, model=name, stages=stages)
        return name, because

    async def _record(self, tenant: str, stage: Stage) -> ModelRecord:
        return (await self._models.get(tenant, stage.model)).named(stage.version)

    async def _awake(self, record: ModelRecord) -> Runner:
        runner = await self._catalogue.runner_of(record)
        if isinstance(runner, Dozing):
            await runner.wake()
        return runner

    async def _write(self, record: ModelRecord, path: Path) -> None:
        with path.open("wb") as file:
            async for piece in self._models.read(record.tenant, record.name, str(record.version)):
                await asyncio.to_thread(file.write, piece)


class _Comparison:
    """Both forms of a node, computed on the same generated requests. Runs in a thread."""

    def __init__(self, recipe: Recipe, runners: Mapping[Key, Runner], fused: Runner) -> None:
        self._recipe = recipe
        self._runners = runners
        self._fused = fused
        self._stops: list[Stop] = [runner.stop() for runner in (*runners.values(), fused)]
        self._stop_of = dict(zip(runners, self._stops, strict=False))

    def run(self) -> None:
        """Raise Refused where a request is answered otherwise by one than by the other."""
        timer = threading.Timer(COMPARING_SECONDS_MAX, self._expire)
        timer.daemon = True
        timer.start()
        try:
            self._compare()
        except Unavailable as error:
            raise Refused(f"comparing with its steps took longer than {COMPARING_SECONDS_MAX:g} s") from error
        finally:
            timer.cancel()

    def _compare(self) -> None:
        draw = next((draw for draw in drawings(self._signature) if self._computes(draw)), None)
        if draw is None:
            raise Refused(
                "its models cannot compute generated inputs, so that nobody knows whether one model gives the same"
            )
        for rows in ROWS:
            inputs = draw(rows)
            expected = self._apart(inputs)
            given = self._fused.compute(inputs, [spec.name for spec, _ in self._recipe.outputs], self._stops[-1])
            for name, tensor in expected.items():
                if why := difference(given[name], tensor):
                    raise Refused(f"one model gives another {name} than its steps do: {why}")

    @property
    def _signature(self) -> Signature:
        return Signature(tuple(spec for spec, _ in self._recipe.inputs), ())

    def _computes(self, draw: Drawing) -> bool:
        try:
            self._apart(draw(1))
        except (Refused, ValueError):
            return False
        return True

    def _apart(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return computed(self._recipe, inputs, self._ask)

    def _ask(self, stage: Stage, inputs: dict[str, Tensor]) -> Mapping[str, Tensor]:
        key = _key(stage)
        return self._runners[key].compute(inputs, [own for own, _ in stage.gives], self._stop_of[key])

    def _expire(self) -> None:
        for stop in self._stops:
            stop.terminate = True


def difference(given: Tensor, expected: Tensor) -> str:
    """How two tensors differ by more than the order of sums could explain; empty where they do not."""
    if (given.dtype, given.shape) != (expected.dtype, expected.shape):
        return f"{given.dtype} {list(given.shape)} and not {expected.dtype} {list(expected.shape)}"
    if given.dtype.kind != "f":
        return "" if np.array_equal(given, expected) else "other values"
    finite = np.abs(expected[np.isfinite(expected)])
    scale = float(np.max(finite, initial=0.0))
    tolerance = ULPS_MAX * float(np.finfo(given.dtype).eps) * scale
    if np.allclose(given, expected, rtol=0.0, atol=tolerance, equal_nan=True):
        return ""
    with np.errstate(invalid="ignore"):
        apart = float(np.nanmax(np.abs(given.astype(float) - expected.astype(float)), initial=0.0))
    return f"up to {apart:.3g} apart, at most {tolerance:.3g} is rounding"


def _check_signature(fused: Signature, wanted: Signature) -> None:
    for given, expected in ((fused.inputs, wanted.inputs), (fused.outputs, wanted.outputs)):
        forms = [{spec.name: (spec.datatype, len(spec.shape)) for spec in side} for side in (given, expected)]
        if forms[0] != forms[1]:
            raise Refused(f"one model would have other tensors than its steps: {forms[0]} and not {forms[1]}")


def _key(stage: Stage) -> Key:
    return stage.model, stage.version
