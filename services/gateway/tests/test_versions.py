"""Versions of a model on the fakes: kept, named by aliases, loaded, unloaded; what requests reach, what processes leave."""

import asyncio
from typing import Any

import pytest

from ergonaut.errors import Broken, Conflict, NotFound, Refused, Unavailable
from ergonaut.events import ModelAliased, ModelRemoved
from ergonaut_gateway.domain.changes import ALIASES_MAX, REMOVED_MAX, Naming
from ergonaut_gateway.service.models import Deployment

from .conftest import Gateway, Gateways, chunks


async def deployed(gateway: Gateway, *contents: bytes) -> None:
    for content in contents:
        await gateway.deploy(content)


async def states(gateway: Gateway) -> dict[int, str]:
    model = await gateway.models.get("default", "digits")
    return {record.version: str(record.state) for record in model.versions}


def reached(gateway: Gateway, version: str = "") -> int:
    return gateway.catalogue.find("default", "digits", version).record.version


async def test_an_alias_is_resolved_wherever_a_version_is_asked_and_the_champion_where_none_is(
    gateway: Gateway,
) -> None:
    await deployed(gateway, b"model a", b"model b", b"model c")
    await gateway.models.alias("default", "digits", Naming("challenger", "2"))
    assert (reached(gateway), reached(gateway, "challenger"), reached(gateway, "2")) == (3, 2, 2)
    await gateway.models.alias("default", "digits", Naming("champion", "challenger"))
    assert (reached(gateway), reached(gateway, "champion"), reached(gateway, "3")) == (2, 2, 3)
    assert (await gateway.models.get("default", "digits")).named("champion").version == 2
    assert gateway.catalogue.list("default")[0].version == 2
    told = [event for event in gateway.announcer.told if isinstance(event, ModelAliased)]
    assert [(event.alias, event.version) for event in told] == [("challenger", 2), ("champion", 2)]


async def test_a_challenger_is_ready_and_does_not_take_the_requests_of_who_asks_for_no_version(
    gateway: Gateway,
) -> None:
    await deployed(gateway, b"model a")
    wish = Deployment("default", "digits", alias="challenger")
    for content in (b"model b", b"model b", b"model c"):
        record = await gateway.models.deploy(wish, chunks(content))
        assert (reached(gateway), reached(gateway, "challenger")) == (1, record.version)
    model = await gateway.models.get("default", "digits")
    assert (model.aliases, await states(gateway)) == (
        {"champion": 1, "challenger": 3},
        {1: "ready", 2: "unloaded", 3: "ready"},
    )


async def test_an_alias_moves_only_from_where_it_was_expected(gateway: Gateway) -> None:
    await deployed(gateway, b"model a", b"model b")
    await gateway.models.alias("default", "digits", Naming("champion", "1", expected=0))
    with pytest.raises(Conflict, match="names version 1, and was expected to name version 2"):
        await gateway.models.alias("default", "digits", Naming("champion", "2", expected=2))
    with pytest.raises(Conflict, match="names version 1, and was expected to name nothing"):
        await gateway.models.alias("default", "digits", Naming("champion", "2", expected=0))
    await gateway.models.alias("default", "digits", Naming("champion", "2", expected=1))
    with pytest.raises(Conflict):
        await gateway.models.unalias("default", "digits", Naming("champion", expected=1))
    await gateway.models.unalias("default", "digits", Naming("champion", expected=2))
    with pytest.raises(NotFound, match="has no alias champion"):
        await gateway.models.unalias("default", "digits", Naming("champion"))
    told = [event.version for event in gateway.announcer.told if isinstance(event, ModelAliased)]
    assert told == [1, 2, 0]


async def test_of_many_who_move_an_alias_from_the_same_place_one_does(gateways: Gateways) -> None:
    await deployed(gateways.another(), b"model a", b"model b", b"model c")
    movers = [gateways.another() for _ in range(3)]
    results = await asyncio.gather(
        *(
            mover.models.alias("default", "digits", Naming("champion", str(version), expected=0))
            for version, mover in enumerate(movers, start=1)
        ),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["Conflict", "Conflict", "Model"]


@pytest.mark.parametrize("alias", ["3", "", "Champion", "a/b", "x" * 64])
async def test_what_cannot_be_an_alias_is_refused(gateway: Gateway, alias: str) -> None:
    await deployed(gateway, b"model a")
    with pytest.raises(Refused, match=f"^alias: '{alias}' cannot be an alias"):
        await gateway.models.alias("default", "digits", Naming(alias, "1"))


async def test_an_alias_of_nothing_is_refused_with_what_there_is(gateway: Gateway) -> None:
    await deployed(gateway, b"model a", b"model b")
    await gateway.models.alias("default", "digits", Naming("champion", "1"))
    with pytest.raises(NotFound, match=r"version 7 of model digits is not served, versions 1 \(champion\), 2 are"):
        await gateway.models.alias("default", "digits", Naming("challenger", "7"))


async def test_aliases_are_bounded(gateway: Gateway) -> None:
    await deployed(gateway, b"model a")
    for at in range(ALIASES_MAX):
        await gateway.models.alias("default", "digits", Naming(f"alias-{at}", "1"))
    with pytest.raises(Refused, match=f"at most {ALIASES_MAX} aliases"):
        await gateway.models.alias("default", "digits", Naming("one-more", "1"))


async def test_a_version_that_is_named_or_asked_for_stays_ready_when_newer_ones_come(gateway: Gateway) -> None:
    await deployed(gateway, b"model a", b"model b")
    await gateway.models.load("default", "digits", "1")
    assert await states(gateway) == {1: "ready", 2: "ready"}
    await gateway.deploy(b"model c")
    assert await states(gateway) == {1: "ready", 2: "unloaded", 3: "ready"}
    assert (reached(gateway), reached(gateway, "1")) == (3, 1)
    await gateway.models.unload("default", "digits", "3")
    assert reached(gateway) == 1


async def test_an_unloaded_model_is_kept_and_serves_again_when_it_is_loaded(gateways: Gateways) -> None:
    gateway = gateways.another()
    await deployed(gateway, b"model a", b"model b")
    await gateway.models.alias("default", "digits", Naming("champion", "1"))
    with pytest.raises(Refused, match="1 of model digits is its champion and cannot be unloaded"):
        await gateway.models.unload("default", "digits", "1")
    await gateway.models.unload("default", "digits")
    assert await states(gateway) == {1: "unloaded", 2: "unloaded"}
    restarted = gateways.another()
    await restarted.catalogue.load_all()
    for each in (gateway, restarted):
        with pytest.raises(
            NotFound, match="version 1 of model digits is not loaded; load it: ergonaut models load digits 1"
        ):
            reached(each)
        assert each.catalogue.list("default") == []
    await gateway.models.load("default", "digits")
    assert (await states(gateway), reached(gateway)) == ({1: "ready", 2: "unloaded"}, 1)


async def test_the_oldest_version_beyond_the_bound_goes_but_never_one_with_an_alias(gateway: Gateway) -> None:
    await deployed(gateway, b"model a", b"model b")
    await gateway.models.alias("default", "digits", Naming("champion", "1"))
    await deployed(gateway, b"model c", b"model d", b"model e")
    assert await states(gateway) == {1: "ready", 2: "removed", 3: "removed", 4: "unloaded", 5: "ready"}
    assert sorted(gateway.files.kept.values()) == [b"model a", b"model d", b"model e"]


async def test_one_version_is_removed_and_the_last_takes_the_model_with_it(gateway: Gateway) -> None:
    await deployed(gateway, b"model a", b"model b")
    await gateway.models.remove("default", "digits", "2")
    assert await states(gateway) == {1: "unloaded", 2: "removed"}
    assert list(gateway.files.kept.values()) == [b"model a"]
    await gateway.models.remove("default", "digits", "1")
    with pytest.raises(NotFound, match="no model digits is served"):
        await gateway.models.get("default", "digits")
    assert (gateway.files.kept, gateway.notes.noted) == ({}, {})
    assert [type(event) for event in gateway.announcer.told][-1] is ModelRemoved


async def test_a_version_that_cannot_be_loaded_is_neither_named_nor_made_ready(gateways: Gateways) -> None:
    gateway = gateways.another()
    await deployed(gateway, b"model a", b"model b")
    lost = (await gateway.models.get("default", "digits")).named("1")
    gateways.files.kept["default", lost.file] = b"model tampered with"
    for attempt in (
        gateway.models.alias("default", "digits", Naming("champion", "1")),
        gateway.models.load("default", "digits", "1"),
    ):
        with pytest.raises(Exception, match="the file of version 1 of model digits is not the one that was deployed"):
            await attempt
    assert (await states(gateway), reached(gateway)) == ({1: "unloaded", 2: "ready"}, 2)


async def test_more_ready_versions_than_the_most_are_refused(gateway: Gateway) -> None:
    await deployed(gateway, b"model a", b"model b", b"model c")
    await gateway.models.load("default", "digits", "1")
    await gateway.models.load("default", "digits", "2")
    with pytest.raises(Refused, match="3 models are served, which is the most; remove or unload one first"):
        await gateway.deploy(b"model a", "other")
    await gateway.models.unload("default", "digits", "1")
    assert (await gateway.deploy(b"model a", "other")).version == 1


async def test_an_unloaded_version_deployed_again_is_that_version_and_ready(gateway: Gateway) -> None:
    await deployed(gateway, b"model a")
    await gateway.models.unload("default", "digits")
    assert (await gateway.deploy(b"model a")).version == 1
    assert (await states(gateway), reached(gateway)) == ({1: "ready"}, 1)
    await gateway.deploy(b"model b")
    assert await states(gateway) == {1: "unloaded", 2: "ready"}


async def test_a_gateway_that_follows_reaches_the_same_versions(gateways: Gateways) -> None:
    one, two = gateways.another(), gateways.another()
    following = asyncio.create_task(two.catalogue.follow(gateways.clock, resync_seconds=0.05))
    await deployed(one, b"model a", b"model b")
    await one.models.alias("default", "digits", Naming("champion", "1"))
    async with asyncio.timeout(30):
        while True:
            try:
                if (reached(two), reached(two, "2")) == (1, 2):
                    break
            except (NotFound, Unavailable):
                pass
            await asyncio.sleep(0.01)
    following.cancel()


async def test_news_of_an_own_deployment_do_not_take_the_runner_from_requests_at_work(gateways: Gateways) -> None:
    gateway = gateways.another()
    await gateway.deploy(b"model a")
    runner = gateway.catalogue.find("default", "digits").runner
    entry = await gateways.registry.get("default", "digits")
    assert entry is not None
    fresh = await gateways.another().catalogue.runner_of(entry.model.named("1"))
    await gateway.catalogue.apply(entry, {1: fresh})
    assert gateway.catalogue.find("default", "digits").runner is runner


async def test_removed_versions_are_told_for_a_while_and_then_forgotten(gateway: Gateway) -> None:
    for at in range(REMOVED_MAX + 10):
        await gateway.deploy(f"model {at}".encode())
    model = await gateway.models.get("default", "digits")
    assert len(model.kept) == 3
    assert len(model.versions) - len(model.kept) <= REMOVED_MAX
    assert model.version_last == REMOVED_MAX + 10


async def test_two_versions_and_two_models_with_the_same_file_share_it_until_the_last_goes(gateway: Gateway) -> None:
    await deployed(gateway, b"model a", b"model b", b"model a")
    await gateway.deploy(b"model a", "other")
    await gateway.deploy(b"model a", tenant="elsewhere")
    assert sorted(gateway.files.kept.values()) == [b"model a", b"model a", b"model b"]
    await gateway.models.remove("default", "digits")
    assert [kept for (tenant, _), kept in gateway.files.kept.items() if tenant == "default"] == [b"model a"]
    await gateway.models.remove("default", "other")
    assert [tenant for tenant, _ in gateway.files.kept] == ["elsewhere"]
    assert [tenant for tenant, _ in gateway.notes.noted] == ["elsewhere"]


class Killed(BaseException):
    """The process is no more; nothing in it catches this."""


class Mortal:
    """Calls of the world pass through until so many were made; then the process dies in place of the next."""

    def __init__(self, gateways: Gateways, calls_left: int) -> None:
        self.calls_left = calls_left
        self._undo: list[tuple[Any, str]] = []
        for part, methods in (
            (gateways.registry, ("put",)),
            (gateways.notes, ("put", "drop")),
            (gateways.files, ("store", "delete")),
            (gateways.announcer, ("publish",)),
        ):
            for method in methods:
                self._watch(part, method)

    def _watch(self, part: Any, method: str) -> None:
        real = getattr(part, method)

        async def call(*args: Any, **options: Any) -> Any:
            if self.calls_left == 0:
                raise Killed
            self.calls_left -= 1
            return await real(*args, **options)

        setattr(part, method, call)
        self._undo.append((part, method))

    def revive(self) -> None:
        for part, method in self._undo:
            delattr(part, method)


async def _deploy(gateway: Gateway) -> None:
    await gateway.deploy(b"model e")


async def _deploy_shared(gateway: Gateway) -> None:
    await gateway.deploy(b"model a", "other")


async def _remove(gateway: Gateway) -> None:
    await gateway.models.remove("default", "digits")


async def _remove_one(gateway: Gateway) -> None:
    await gateway.models.remove("default", "digits", "2")


async def _alias(gateway: Gateway) -> None:
    await gateway.models.alias("default", "digits", Naming("champion", "2"))


async def _unload(gateway: Gateway) -> None:
    await gateway.models.unload("default", "digits", "4")


@pytest.mark.parametrize("work", [_deploy, _deploy_shared, _remove, _remove_one, _alias, _unload])
async def test_a_kill_between_any_two_effects_loses_no_file_that_is_needed_and_keeps_none_that_is_not(
    gateways: Gateways, work: Any
) -> None:
    """Each effect in turn is the one before which the process dies, until the work ends alive."""
    for calls_left in range(100):
        world = Gateways(gateways.folder)
        before = world.another()
        await deployed(before, b"model a", b"model b", b"model c", b"model a")
        mortal = Mortal(world, calls_left)
        died = False
        try:
            await work(before)
        except Killed:
            died = True
        mortal.revive()
        following = world.another()
        await following.catalogue.load_all()
        # A hold of a deployment that died is given up after an hour, when it cannot be at work any more.
        await world.clock.advance(3_700)
        await following.models.finish_all()
        await following.models.finish_all()
        await _check_whole(world, following)
        await work_again(work, following)
        await following.models.finish_all()
        await _check_whole(world, following)
        if not died:
            return
    raise AssertionError("the work never ended")


async def work_again(work: Any, gateway: Gateway) -> None:
    try:
        await work(gateway)
    except NotFound:
        # It was done before the process died.
        assert work in (_remove, _remove_one)


async def _check_whole(world: Gateways, gateway: Gateway) -> None:
    """Kept versions have their files, other files are gone, each ready version is reached, and all was told."""
    entries = [entry.model for entry in await world.registry.entries()]
    needed = {(record.tenant, record.file) for model in entries for record in model.kept}
    assert set(world.files.kept) == needed
    assert {(note.kept.tenant, note.kept.file) for note in world.notes.noted.values()} == needed
    for model in entries:
        assert model.untold == ()
        for record in model.ready:
            assert gateway.catalogue.find("default", model.name, str(record.version)).record == record


async def test_a_hold_of_a_deployment_that_may_still_be_at_work_is_kept(gateways: Gateways) -> None:
    gateway = gateways.another()
    mortal = Mortal(gateways, calls_left=2)  # the note and the file
    with pytest.raises(Killed):
        await gateway.deploy(b"model a")
    mortal.revive()
    await gateway.models.finish_all()
    assert list(gateways.files.kept.values()) == [b"model a"]
    await gateways.clock.advance(3_700)
    await gateway.models.finish_all()
    assert (gateways.files.kept, gateways.notes.noted) == ({}, {})


async def test_the_file_of_a_damaged_record_is_not_deleted(gateways: Gateways, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = gateways.another()
    await deployed(gateway, b"model a")

    async def damaged(tenant: str, name: str) -> None:
        raise Broken("the record cannot be read")

    async def nothing() -> list[Any]:
        return []

    monkeypatch.setattr(gateways.registry, "get", damaged)
    monkeypatch.setattr(gateways.registry, "entries", nothing)
    await gateways.clock.advance(3_700)
    await gateway.models.finish_all()
    assert list(gateways.files.kept.values()) == [b"model a"]


async def test_a_deletion_that_comes_late_does_not_hit_a_file_that_is_held_anew(gateways: Gateways) -> None:
    slow, quick = gateways.another(), gateways.another()
    await slow.deploy(b"model a")
    about_to, go_on = asyncio.Event(), asyncio.Event()
    real = gateways.files.delete

    async def delete(tenant: str, file: str) -> None:
        about_to.set()
        await go_on.wait()
        await real(tenant, file)

    gateways.files.delete = delete  # type: ignore[method-assign]
    removing = asyncio.create_task(slow.models.remove("default", "digits"))
    await about_to.wait()
    record = await quick.deploy(b"model a", "other")
    go_on.set()
    await removing
    assert gateways.files.kept == {("default", record.file): b"model a"}
    (note,) = gateways.notes.noted.values()
    assert (note.kept.file, len(note.kept.holds)) == (record.file, 1)
