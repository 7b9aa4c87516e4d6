"""Models looked after, on the fakes: versions, races, and what is left when a process dies between any two effects."""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ergonaut.errors import NotFound, Refused, Unavailable
from ergonaut.events import ModelDeployed, ModelRemoved
from ergonaut_gateway.domain.inference import InferenceRequest
from ergonaut_gateway.domain.models import Lineage
from ergonaut_gateway.fakes import FakeModelLoader, FakeRunner
from ergonaut_gateway.service import Deployment
from ergonaut_gateway.service.spool import CHUNK_BYTES_MAX

from .conftest import Gateway, Gateways, chunks


def request() -> InferenceRequest:
    return InferenceRequest("", {"x": np.ones((2, 3), dtype="<f4")})


async def test_the_first_file_is_version_1_and_is_told(gateway: Gateway) -> None:
    record = await gateway.deploy(b"model a", run_id="run-1")
    assert (record.name, record.version, record.size_bytes, record.run_id) == ("digits", 1, 7, "run-1")
    assert record.digest == f"sha256-{hashlib.sha256(b'model a').hexdigest()}"
    assert gateway.catalogue.find("default", "digits").record.version == 1
    (told,) = gateway.announcer.told
    assert isinstance(told, ModelDeployed)
    assert (told.tenant, told.model, told.version, told.digest, told.run_id) == (
        "default",
        "digits",
        1,
        record.digest,
        "run-1",
    )


async def test_another_file_is_the_next_version_and_the_old_one_is_kept_but_rests(gateway: Gateway) -> None:
    await gateway.deploy(b"model a")
    record = await gateway.deploy(b"model b")
    assert record.version == 2
    assert sorted(gateway.files.kept.values()) == [b"model a", b"model b"]
    model = await gateway.models.get("default", "digits")
    assert [(each.version, each.state) for each in model.versions] == [(1, "unloaded"), (2, "ready")]


async def test_the_same_file_again_gives_the_version_that_is_there_and_tells_nothing(gateway: Gateway) -> None:
    first = await gateway.deploy(b"model a")
    again = await gateway.deploy(b"model a", run_id="run-2")
    assert again == first
    assert len(gateway.announcer.told) == len(gateway.files.kept) == 1


async def test_what_is_no_model_is_refused_and_nothing_is_kept_or_told(gateway: Gateway) -> None:
    await gateway.deploy(b"model a")
    before = (dict(gateway.files.kept), await gateway.registry.entries(), list(gateway.announcer.told))
    with pytest.raises(Refused, match=r"^chunk: is not an ONNX model: "):
        await gateway.deploy(b"hello")
    assert (gateway.files.kept, await gateway.registry.entries(), gateway.announcer.told) == before
    assert list(gateway.spool_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("wish", "content", "message"),
    [
        (
            Deployment("default", "Digits!"),
            [b"model"],
            "name: 'Digits!' cannot be a model's name; use 1 to 63 lower-case",
        ),
        (Deployment("default", ""), [b"model"], "name: '' cannot be a model's name"),
        (
            Deployment("default", "digits", Lineage(run_id="../run")),
            [b"model"],
            "run_id: '../run' cannot be a run's id",
        ),
        (Deployment("default", "digits"), [], "chunk: the file is empty"),
        (Deployment("default", "digits"), [b"model", b"x" * 10_000], "chunk: the file is larger than 10000 bytes"),
        (Deployment("default", "digits"), [b"x" * (CHUNK_BYTES_MAX + 1)], "chunk: has 1048577 bytes, at most 1048576"),
    ],
)
async def test_a_deployment_that_breaks_a_rule_is_refused_with_the_field(
    gateway: Gateway, wish: Deployment, content: list[bytes], message: str
) -> None:
    with pytest.raises(Refused) as refused:
        await gateway.models.deploy(wish, chunks(*content))
    assert str(refused.value).startswith(message)
    assert await gateway.registry.entries() == []


async def test_many_deployers_of_different_files_never_make_the_same_version(gateways: Gateways) -> None:
    deployers = [gateways.another() for _ in range(4)]
    records = await asyncio.gather(*(each.deploy(f"model {at}".encode()) for at, each in enumerate(deployers)))
    assert sorted(record.version for record in records) == [1, 2, 3, 4]
    served = await deployers[0].models.get("default", "digits")
    assert served.named("").version == 4
    assert {("default", record.file) for record in served.kept} == set(gateways.files.kept)
    assert [record.version for record in served.kept] == [2, 3, 4]
    assert sorted(told.version for told in gateways.announcer.told) == [1, 2, 3, 4]


async def test_many_deployers_of_the_same_file_make_one_version(gateways: Gateways) -> None:
    records = await asyncio.gather(*(gateways.another().deploy(b"model a") for _ in range(5)))
    assert {record.version for record in records} == {1}
    assert len(gateways.files.kept) == len(gateways.announcer.told) == 1


async def test_a_removed_model_is_served_no_longer_and_versions_go_on_counting(gateway: Gateway) -> None:
    await gateway.deploy(b"model a")
    await gateway.models.remove("default", "digits")
    for ask in (gateway.models.get("default", "digits"), gateway.models.remove("default", "digits")):
        with pytest.raises(NotFound, match="no model digits is served"):
            await ask
    with pytest.raises(NotFound):
        gateway.catalogue.find("default", "digits")
    assert (await gateway.models.list("default"), gateway.files.kept) == ([], {})
    assert [type(told) for told in gateway.announcer.told] == [ModelDeployed, ModelRemoved]
    assert (await gateway.deploy(b"model a")).version == 2


async def test_models_are_listed_by_name_and_belong_to_their_tenant(gateway: Gateway) -> None:
    await gateway.deploy(b"model a", "zebra")
    await gateway.deploy(b"model a", "ant")
    await gateway.deploy(b"model a", "ant", tenant="other")
    assert [model.name for model in await gateway.models.list("default")] == ["ant", "zebra"]
    assert [model.name for model in await gateway.models.list("other")] == ["ant"]
    with pytest.raises(NotFound):
        await gateway.models.get("other", "zebra")
    with pytest.raises(NotFound):
        gateway.catalogue.find("other", "zebra")


async def test_more_models_than_the_most_are_refused_but_a_new_version_is_not(gateway: Gateway) -> None:
    for name in ("one", "two", "three"):
        await gateway.deploy(b"model a", name)
    with pytest.raises(Refused, match=r"^name: 3 models are served, which is the most; remove or unload one first$"):
        await gateway.deploy(b"model a", "four")
    assert (await gateway.deploy(b"model b", "three")).version == 2


async def test_more_deployments_at_once_than_the_most_are_told_to_come_back(gateways: Gateways) -> None:
    gate = asyncio.Event()

    class Waiting(FakeModelLoader):
        async def load(self, path: Path) -> FakeRunner:
            await gate.wait()
            return await super().load(path)

    gateway = gateways.another(Waiting())
    async with asyncio.TaskGroup() as group:
        for at in range(2):
            group.create_task(gateway.deploy(b"model a", f"model-{at}"))
        while len(list(gateway.spool_folder.glob("*"))) < 2:
            await asyncio.sleep(0.01)
        with pytest.raises(Unavailable, match="2 models are being deployed now"):
            await gateway.deploy(b"model a", "late")
        gate.set()
    assert (await gateway.deploy(b"model a", "late")).version == 1


class Killed(BaseException):
    """The process is no more; nothing in it catches this."""


def _kill_before(target: Any, method: str) -> Callable[[], None]:
    """Let the process die when it is about to do this; gives what undoes it, for the next process."""

    async def die(*_: object, **__: object) -> None:
        raise Killed

    setattr(target, method, die)
    return lambda: delattr(target, method)


@pytest.mark.parametrize(
    ("moment", "serves_version"),
    [
        (("notes", "get"), 1),
        (("files", "store"), 1),
        (("notes", "put"), 1),
        (("registry", "put"), 1),
        (("announcer", "publish"), 2),
    ],
)
async def test_a_kill_at_any_moment_leaves_one_version_served_and_all_is_told_in_the_end(
    gateways: Gateways, moment: tuple[str, str], serves_version: int
) -> None:
    killed = gateways.another()
    await killed.deploy(b"model a")
    undo = _kill_before(getattr(gateways, moment[0]), moment[1])
    with pytest.raises(Killed):
        await killed.deploy(b"model b")
    undo()
    following = gateways.another()
    await following.catalogue.load_all()
    await following.models.finish_all()
    assert (await following.predictions.infer("default", "digits", "", request())).version == serves_version
    told = [event.version for event in gateways.announcer.told if isinstance(event, ModelDeployed)]
    assert told == list(range(1, serves_version + 1))
    assert (await following.deploy(b"model b")).version == 2


async def test_what_could_not_be_told_is_told_later_once(gateway: Gateway) -> None:
    gateway.announcer.away = True
    with pytest.raises(Unavailable):
        await gateway.deploy(b"model a")
    assert gateway.catalogue.find("default", "digits").record.version == 1
    gateway.announcer.away = False
    await gateway.models.finish_all()
    await gateway.models.finish_all()
    assert (await gateway.deploy(b"model a")).version == 1
    assert len(gateway.announcer.told) == 1


async def test_a_deployment_by_one_gateway_is_served_by_another_that_follows(gateways: Gateways) -> None:
    one, two = gateways.another(), gateways.another()
    following = asyncio.create_task(two.catalogue.follow(gateways.clock, resync_seconds=0.05))
    for content, version in ((b"model a", 1), (b"model b", 2)):
        await one.deploy(content)
        async with asyncio.timeout(30):
            while not two.catalogue.is_current((await one.models.get("default", "digits")).named("")):
                await asyncio.sleep(0.01)
        assert (await two.predictions.infer("default", "digits", "", request())).version == version
    await one.models.remove("default", "digits")
    async with asyncio.timeout(30):
        while two.catalogue.list("default"):
            await asyncio.sleep(0.01)
    following.cancel()


async def test_the_version_that_works_stays_in_use_while_a_newer_one_cannot_be_loaded(gateways: Gateways) -> None:
    one, two = gateways.another(), gateways.another()
    await one.deploy(b"model a")
    await two.catalogue.load_all()
    record = await one.deploy(b"model b")
    kept = gateways.files.kept.pop(("default", record.file))
    await two.catalogue.load_all()
    assert two.catalogue.find("default", "digits").record.version == 1
    assert not two.catalogue.is_current(record)
    gateways.files.kept["default", record.file] = kept
    await two.catalogue.load_all()
    assert two.catalogue.find("default", "digits").record.version == 2


async def test_a_model_whose_file_was_lost_is_unavailable_until_the_same_file_is_deployed_again(
    gateways: Gateways,
) -> None:
    await gateways.another().deploy(b"model a")
    gateways.files.kept.clear()
    restarted = gateways.another()
    await restarted.catalogue.load_all()
    with pytest.raises(Unavailable, match="could not be loaded"):
        restarted.catalogue.find("default", "digits")
    assert (await restarted.deploy(b"model a")).version == 1
    assert restarted.catalogue.find("default", "digits").record.version == 1


async def test_a_version_that_is_not_served_is_not_found_by_its_number(gateway: Gateway) -> None:
    await gateway.deploy(b"model a")
    await gateway.deploy(b"model b")
    assert gateway.catalogue.find("default", "digits", "2").record.version == 2
    with pytest.raises(
        NotFound, match="version 1 of model digits is not loaded; load it: ergonaut models load digits 1"
    ):
        gateway.catalogue.find("default", "digits", "1")
    with pytest.raises(NotFound, match="version 3 of model digits is not served, versions 1, 2 are"):
        gateway.catalogue.find("default", "digits", "3")


async def test_old_news_change_nothing(gateway: Gateway) -> None:
    await gateway.deploy(b"model a")
    old = await gateway.registry.get("default", "digits")
    await gateway.deploy(b"model b")
    assert old is not None
    await gateway.catalogue.apply(old)
    assert gateway.catalogue.find("default", "digits").record.version == 2
