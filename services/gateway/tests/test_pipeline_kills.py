"""A gateway that dies between any two effects of a change of pipelines: what is left is finished by the next one."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from ergonaut.errors import NotFound
from ergonaut.events import PipelineChanged, PipelineRemoved
from ergonaut_gateway.domain.pipelines.spec import Pipeline
from ergonaut_gateway.domain.tensors import Tensor
from ergonaut_gateway.fakes import FakeFuser, FakeModelLoader, FakePipelineBook, FakeRunner
from ergonaut_gateway.ports import Stop

from .conftest import Gateways
from .pipeline_forms import node, step
from .pipeline_models import House, house_of
from .test_versions import Killed, Mortal

ONE = np.ones((1, 3), dtype="<f4")


class Doubling(FakeRunner):
    """Doubles as often as it says."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self._factor = np.float32(2**times)

    def compute(self, inputs: Mapping[str, Tensor], outputs: Sequence[str], stop: Stop | None) -> dict[str, Tensor]:
        return dict.fromkeys(outputs, inputs["x"] * self._factor)


class Loader(FakeModelLoader):
    """What was made of several files doubles for each of them."""

    async def load(self, path: Path) -> FakeRunner:
        content = await asyncio.to_thread(path.read_bytes)
        return Doubling(content.count(b"model") - content.startswith(b"model of"))


def again(world: Gateways, book: FakePipelineBook) -> House:
    loader = Loader()
    return house_of(world.another(loader, models_max=20), loader, book, FakeFuser())


def doubled(*names: str) -> Pipeline:
    return Pipeline("checked", (node("sequence", *(step(name, version="1") for name in names)),))


async def _apply(house: House) -> None:
    await house.apply(doubled("first", "second", "third"))


async def _remove(house: House) -> None:
    await house.pipelines.remove("default", "checked")


@pytest.mark.parametrize("work", [_apply, _remove])
async def test_a_kill_between_any_two_effects_leaves_a_pipeline_that_is_served_and_told_or_none(
    gateways: Gateways, work: Callable[[House], Awaitable[None]]
) -> None:
    """Each effect in turn is the one before which the process dies, until the work ends alive."""
    for calls_left in range(100):
        world, book = Gateways(gateways.folder), FakePipelineBook()
        before = again(world, book)
        await before.deploy(first=b"model a", second=b"model b", third=b"model c")
        await before.apply(doubled("first", "second"))
        mortal = Mortal(world, calls_left)
        mortal._watch(book, "put")
        died = False
        try:
            await work(before)
        except Killed:
            died = True
        mortal.revive()
        following = again(world, book)
        await following.gateway.catalogue.load_all()
        await following.pipelines.load_all()
        # By then a model that was made before its pipeline's record was written is given up.
        await world.clock.advance(3_700)
        for _ in range(2):
            await following.gateway.models.finish_all()
            await following.pipelines.finish_all()
        await _check_whole(world, following)
        try:
            await work(following)
        except NotFound:
            assert work is _remove
        await _check_whole(world, following)
        if not died:
            return
    raise AssertionError("the work never ended")


async def _check_whole(world: Gateways, house: House) -> None:
    """What is recorded is answered, by one model that is there, no other is for long, and the last change was told once."""
    (entry,) = await house.book.entries()
    record, told = entry.record, world.announcer.told
    if record.is_kept:
        (fusion,) = record.fusions
        assert await house.pipelines._world.fusing.is_there("default", fusion.model)
        steps = len(record.now.pipeline.nodes[0].steps)
        assert float((await house.ask(x=ONE))["y"][0, 0]) == 2**steps
        changed = [each for each in told if isinstance(each, PipelineChanged) and each.revision == record.now.revision]
        assert len(changed) == 1
    else:
        assert len([each for each in told if isinstance(each, PipelineRemoved)]) == 1
        with pytest.raises(NotFound):
            await house.ask(x=ONE)
    assert record.is_told
    await world.clock.advance(3_700)
    await house.pipelines.finish_all()
    made = {model.name for model in await house.gateway.models.list("default")} - {"first", "second", "third"}
    assert made == set(record.fused_models)
