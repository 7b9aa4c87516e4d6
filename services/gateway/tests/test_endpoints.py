"""Endpoints on the fakes: requests go by their routes, versions that cannot be asked harm nobody, and all of it is counted."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ergonaut.errors import Conflict, ErgonautError, NotFound, Refused, Unavailable
from ergonaut.events import EndpointChanged, EndpointRemoved
from ergonaut_gateway.domain.endpoints.figures import RouteFigures
from ergonaut_gateway.domain.endpoints.records import Change, EndpointEntry, EndpointRecord, Revision
from ergonaut_gateway.domain.endpoints.spec import Endpoint, Mirror, Route
from ergonaut_gateway.domain.inference import InferenceAnswer, InferenceRequest
from ergonaut_gateway.fakes import FakeEndpointBook, FakeFiguresBook
from ergonaut_gateway.service import EngineLimits, Wish, traffic
from ergonaut_gateway.service.endpoints import Endpoints, EndpointWorld
from ergonaut_gateway.service.traffic import COMING_SECONDS, EndpointPlan, Traffic

from .conftest import Gateway, Gateways

BY = Change("somebody")


def split(champion: float, canary: float, *, name: str = "digits-live", **more: object) -> Endpoint:
    routes = (Route("champion", "digits", "1", champion), Route("canary", "digits", "2", canary))
    return replace(Endpoint(name, routes), **more)


class Site:
    """A gateway with three versions of a model, and its endpoints."""

    def __init__(self, gateway: Gateway, book: FakeEndpointBook, figures: FakeFiguresBook, process: str) -> None:
        self.gateway = gateway
        self.book = book
        self.is_loaded = False
        self.points: list[float] = []
        catalogue, predictions = gateway.catalogue, gateway.predictions
        asks = Traffic(
            predictions.submit_model,
            lambda *version: catalogue.find(*version).record,
            predictions.statistics_of,
            lambda: self.is_loaded,
            gateway.clock,
            chance=lambda: self.points.pop(0) if self.points else 0.0,
        )
        world = EndpointWorld(book, figures, gateway.announcer, gateway.clock, gateway.models)
        self.endpoints = Endpoints(world, predictions.plans, asks, process=process)
        gateway.models.hold_by(self.endpoints.holds)

    async def ask(self, name: str = "digits-live", version: str = "", **parameters: object) -> InferenceAnswer:
        answer: asyncio.Future[InferenceAnswer] = asyncio.get_running_loop().create_future()

        def done(outcome: InferenceAnswer | BaseException) -> None:
            if isinstance(outcome, BaseException):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)

        wish = Wish("default", name, version, parameters=parameters or None)
        self.gateway.predictions.submit(wish, request(), done)
        return await answer

    async def counted(self, name: str = "digits-live") -> dict[str, RouteFigures]:
        return (await self.endpoints.figures("default", name))[1]


def request(value: float = 1.0) -> InferenceRequest:
    return InferenceRequest("id-1", {"x": np.full((1, 3), value, dtype="<f4")})


Open = Callable[[str], Site]


@pytest.fixture
async def another(gateways: Gateways) -> Open:
    book, figures = FakeEndpointBook(), FakeFiguresBook()
    return lambda process: Site(gateways.another(limits=EngineLimits(threads=1)), book, figures, process)


@pytest.fixture
async def site(another: Open) -> Site:
    site = another("p-1")
    for content in (b"model a", b"model b", b"model c"):
        await site.gateway.deploy(content)
    await site.gateway.models.load("default", "digits", "1")
    await site.gateway.models.load("default", "digits", "2")
    return site


async def test_requests_go_by_weight_and_the_answer_says_which_version_it_is_of(site: Site) -> None:
    await site.endpoints.apply("default", split(90, 10), BY)
    site.points = [0.0, 0.89, 0.91]
    answers = [await site.ask() for _ in range(3)]
    assert [answer.version for answer in answers] == [1, 1, 2]
    assert {answer.model for answer in answers} == {"digits-live"}


async def test_equal_keys_go_the_same_way_and_only_some_of_them_to_the_canary(site: Site) -> None:
    await site.endpoints.apply("default", split(50, 50, key_parameter="user"), BY)
    versions = {user: (await site.ask(user=user)).version for user in range(100)}
    assert versions == {user: (await site.ask(user=user)).version for user in range(100)}
    assert min(Counter(versions.values()).values()) > 30
    figures = await site.counted()
    assert [counts.drawn for counts in figures.values()] == [0, 0], "what was drawn is the key"
    ways = Counter(versions.values())
    assert [(counts.keys, counts.key_counters) for counts in figures.values()] == [(ways[1], 1), (ways[2], 1)]


async def test_a_key_is_counted_once_by_each_process_that_answers_it_and_the_sum_says_by_how_many(
    site: Site, another: Open
) -> None:
    await site.endpoints.apply("default", split(100, 0, key_parameter="user"), BY)
    second = another("p-2")
    await second.gateway.catalogue.load_all()
    await second.endpoints.load_all()
    for each in (site, site, second):
        await each.ask(user="ada")
    await second.ask(user="grace")
    await second.endpoints.tell_figures()
    champion = (await site.counted())["champion"]
    assert (champion.requests, champion.keys, champion.key_counters) == (4, 3, 2)


async def test_keys_that_are_remembered_are_bounded_and_those_beyond_are_left_out(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "KEYS_MAX", 5)
    await site.endpoints.apply("default", split(50, 50, key_parameter="user"), BY)
    for user in range(20):
        await site.ask(user=user)
    assert sum(counts.keys for counts in (await site.counted()).values()) == 5


async def test_a_request_without_the_key_goes_by_chance(site: Site) -> None:
    await site.endpoints.apply("default", split(50, 50, key_parameter="user"), BY)
    site.points = [0.9]
    assert (await site.ask(other=1)).version == 2


async def test_an_endpoint_may_stand_before_the_model_of_its_name_which_its_versions_still_reach(site: Site) -> None:
    await site.endpoints.apply("default", split(100, 0, name="digits"), BY)
    assert (await site.ask("digits")).version == 1
    assert (await site.ask("digits", "3")).version == 3
    await site.endpoints.remove("default", "digits")
    assert (await site.ask("digits")).version == 3


async def test_a_version_that_cannot_be_asked_harms_nobody_and_counts_as_failed(site: Site) -> None:
    await site.endpoints.apply("default", split(10, 90), BY)
    entry = await site.gateway.registry.get("default", "digits")
    assert entry is not None
    held = site.gateway.catalogue._held["default", "digits"]
    site.gateway.catalogue._held["default", "digits"] = replace(
        held, ready={name: ready for name, ready in held.ready.items() if name != "2"}
    )
    site.points = [0.95, 0.05]
    assert [(await site.ask()).version for _ in range(2)] == [1, 1]
    figures = await site.counted()
    assert (figures["canary"].requests, figures["canary"].failed) == (1, 1)
    assert (figures["champion"].requests, figures["champion"].failed, figures["champion"].drawn) == (2, 0, 1)


async def test_what_is_the_callers_fault_counts_against_no_route(site: Site) -> None:
    await site.endpoints.apply("default", split(100, 0), BY)
    outcomes: list[InferenceAnswer | BaseException] = []
    unfit = InferenceRequest("id-1", {"y": np.ones((1, 3), dtype="<f4")})
    site.gateway.predictions.submit(Wish("default", "digits-live"), unfit, outcomes.append)
    assert isinstance(outcomes[0], Refused)
    counts = (await site.counted())["champion"]
    assert (counts.requests, counts.failed) == (1, 0)


async def test_a_request_that_fits_and_that_the_model_cannot_compute_counts_against_its_route(site: Site) -> None:
    await site.endpoints.apply("default", split(100, 0), BY)
    outcomes: list[InferenceAnswer | BaseException] = []
    site.gateway.predictions.submit(Wish("default", "digits-live"), request(float("nan")), outcomes.append)
    async with asyncio.timeout(30):
        while not outcomes:
            await asyncio.sleep(0.001)
    assert isinstance(outcomes[0], Refused)
    assert (await site.counted())["champion"].failed == 1


async def test_mirrored_requests_are_asked_of_another_version_and_no_caller_sees_them(site: Site) -> None:
    await site.endpoints.apply("default", split(100, 0, mirrors=(Mirror("digits", "3", 0.5),)), BY)
    site.points = [0.0, 0.4, 0.0, 0.6]
    (counts,) = site.endpoints._serving["default", "digits-live"].mirrors
    assert [(await site.ask()).version for _ in range(2)] == [1, 1]
    async with asyncio.timeout(30):
        while not counts.requests:
            await asyncio.sleep(0.001)
    site.is_loaded = True
    site.points = [0.0, 0.4]
    await site.ask()
    assert (counts.requests, counts.failed, counts.dropped) == (1, 0, 1)


async def test_a_dropped_request_is_dropped_where_it_is_asked(site: Site) -> None:
    await site.endpoints.apply("default", split(100, 0), BY)
    outcomes: list[InferenceAnswer | BaseException] = []
    ticket = site.gateway.predictions.submit(Wish("default", "digits-live"), request(), outcomes.append)
    ticket.cancel()
    ticket.cancel()
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError]
    assert (await site.counted())["champion"].failed == 0


async def test_weights_are_changed_rolled_back_and_told(site: Site) -> None:
    await site.endpoints.apply("default", split(100, 0), BY)
    await site.endpoints.apply("default", split(0, 100), Change("somebody", "looks good", expected=1))
    assert (await site.ask()).version == 2
    record = await site.endpoints.roll_back("default", "digits-live", Change("somebody", "looked good"))
    assert (record.now.revision, record.now.because) == (3, "looked good")
    assert (await site.ask()).version == 1
    again = await site.endpoints.roll_back("default", "digits-live", BY, to_revision=2)
    assert (again.now.revision, again.now.endpoint) == (4, split(0, 100))
    told = [event.revision for event in site.gateway.announcer.told if isinstance(event, EndpointChanged)]
    assert told == [1, 2, 3, 4]


async def test_a_change_that_expects_another_revision_changes_nothing(site: Site) -> None:
    await site.endpoints.apply("default", split(100, 0), BY)
    with pytest.raises(Conflict):
        await site.endpoints.apply("default", split(0, 100), Change("somebody", expected=7))
    with pytest.raises(Conflict):
        await site.endpoints.roll_back("default", "digits-live", Change("somebody", expected=7))
    assert (await site.ask()).version == 1


async def test_versions_are_loaded_before_requests_go_there_and_kept_as_long_as_they_may(site: Site) -> None:
    await site.gateway.models.unload("default", "digits", "2")
    await site.endpoints.apply("default", split(50, 50), BY)
    site.points = [0.9]
    assert (await site.ask()).version == 2
    for change in (site.gateway.models.unload, site.gateway.models.remove):
        with pytest.raises(Refused, match="needed by endpoint digits-live"):
            await change("default", "digits", "2")
    await site.endpoints.remove("default", "digits-live")
    await site.gateway.models.unload("default", "digits", "2")


async def test_a_version_that_is_unloaded_just_before_its_route_comes_is_loaded_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = site.book.put

    async def put_late(record: EndpointRecord, /, *, revision: int) -> EndpointEntry:
        if not revision:
            await site.gateway.models.unload("default", "digits", "2")
        return await put(record, revision=revision)

    monkeypatch.setattr(site.book, "put", put_late)
    await site.endpoints.apply("default", split(0, 100), BY)
    assert (await site.ask()).version == 2


@pytest.mark.parametrize(
    ("route", "told"),
    [(Route("canary", "nothing", "1", 1), "routes.canary: "), (Route("canary", "digits", "9", 1), "routes.canary: ")],
)
async def test_a_route_to_what_is_not_there_is_refused_by_its_name(site: Site, route: Route, told: str) -> None:
    with pytest.raises(Refused, match=told):
        await site.endpoints.apply("default", Endpoint("digits-live", (route,)), BY)
    with pytest.raises(NotFound):
        await site.endpoints.get("default", "digits-live")


async def test_figures_of_all_processes_are_summed_and_begin_anew_with_each_revision(site: Site, another: Open) -> None:
    await site.endpoints.apply("default", split(100, 0), BY)
    second = another("p-2")
    await second.gateway.catalogue.load_all()
    await second.endpoints.load_all()
    for each in (site, second, second):
        await each.ask()
    await second.endpoints.tell_figures()
    assert (await site.counted())["champion"].requests == 3
    await site.endpoints.apply("default", split(50, 50), BY)
    await second.endpoints.load_all()
    assert (await site.counted())["champion"].requests == 0


async def test_labels_count_for_the_routes_that_lead_to_their_version(site: Site) -> None:
    await site.endpoints.apply("default", split(50, 50), BY)
    site.endpoints.labelled("default", "digits", 2, is_wrong=True)
    site.endpoints.labelled("default", "digits", 2, is_wrong=False)
    site.endpoints.labelled("other", "digits", 2, is_wrong=True)
    figures = await site.counted()
    assert (figures["canary"].labelled, figures["canary"].wrong, figures["champion"].labelled) == (2, 1, 0)


async def test_an_endpoint_of_another_tenant_is_not_there(site: Site) -> None:
    await site.endpoints.apply("default", split(100, 0), BY)
    for asked in (
        site.endpoints.get("other", "digits-live"),
        site.endpoints.remove("other", "digits-live"),
        site.endpoints.figures("other", "digits-live"),
        site.endpoints.roll_back("other", "digits-live", BY),
    ):
        with pytest.raises(NotFound):
            await asked
    assert await site.endpoints.list("other") == []
    with pytest.raises(ErgonautError):
        await site.gateway.predictions.infer("other", "digits-live", "", request())


async def test_a_removal_is_told_and_its_name_is_nobodys_again(site: Site) -> None:
    await site.endpoints.apply("default", split(100, 0), BY)
    await site.ask()
    await site.endpoints.tell_figures()
    await site.endpoints.remove("default", "digits-live")
    assert isinstance(site.gateway.announcer.told[-1], EndpointRemoved)
    assert not await site.endpoints._world.figures.told("default", "digits-live")
    with pytest.raises(NotFound):
        await site.ask()


async def test_a_change_that_could_not_be_told_is_told_by_whoever_looks_next(site: Site) -> None:
    site.gateway.announcer.away = True
    with pytest.raises(Unavailable):
        await site.endpoints.apply("default", split(100, 0), BY)
    assert (await site.ask()).version == 1, "the record is the truth"
    site.gateway.announcer.away = False
    finishing = asyncio.create_task(site.endpoints.keep_finishing(every_seconds=10))
    async with asyncio.timeout(30):
        while not isinstance((site.gateway.announcer.told or [None])[-1], EndpointChanged):
            await asyncio.sleep(0.001)
    finishing.cancel()


async def test_the_pages_of_an_endpoint_tell_what_its_heaviest_route_takes(site: Site) -> None:
    await site.endpoints.apply("default", split(10, 90), BY)
    record = site.gateway.predictions.record_of("default", "digits-live")
    assert (record.name, record.version) == ("digits-live", 2)
    await site.ask()
    assert site.gateway.predictions.statistics("default", "digits-live").version == 2


async def test_a_process_that_has_not_loaded_a_version_yet_goes_on_by_the_routes_before(
    site: Site, another: Open
) -> None:
    await site.endpoints.apply("default", split(100, 0), BY)
    second = another("p-2")
    await second.gateway.catalogue.load_all()
    await second.endpoints.load_all()
    await site.gateway.models.remove("default", "digits", "3")
    await site.gateway.deploy(b"model d")
    await site.endpoints.apply("default", Endpoint("digits-live", (Route("champion", "digits", "4", 1),)), BY)
    await second.endpoints.load_all()
    second.endpoints.settle()
    assert (await second.ask()).version == 1
    assert (await second.counted())["champion"].failed == 0
    await second.gateway.catalogue.load_all()
    assert (await second.ask()).version == 4, "it asks by the new routes as soon as it can"
    assert await second.counted() == {"champion": RouteFigures(requests=1, drawn=1)}


async def test_a_process_far_behind_follows_revision_by_revision_as_versions_come_and_go(
    site: Site, another: Open
) -> None:
    second = another("p-2")
    await site.endpoints.apply("default", split(100, 0), BY)
    await second.gateway.catalogue.load_all()
    await second.endpoints.load_all()
    entries = []
    for past, content in (("3", b"model d"), ("1", b"model e")):
        await site.gateway.models.remove("default", "digits", past)
        version = (await site.gateway.deploy(content)).version
        only = Endpoint("digits-live", (Route("champion", "digits", str(version), 1),))
        await site.endpoints.apply("default", only, BY)
        await second.endpoints.load_all()
        entries.append(await site.gateway.registry.get("default", "digits"))
    answered = [(await second.ask()).version]
    for entry in entries:
        assert entry is not None
        await second.gateway.catalogue.apply(entry)
        answered.append((await second.ask()).version)
    assert answered == [1, 4, 5]


async def test_the_model_of_its_name_answers_until_an_endpoint_can(site: Site, another: Open) -> None:
    second = another("p-2")
    await second.gateway.catalogue.load_all()
    await site.gateway.models.remove("default", "digits", "3")
    await site.gateway.deploy(b"model d")
    await site.endpoints.apply("default", Endpoint("digits", (Route("champion", "digits", "4", 1),)), BY)
    await second.endpoints.load_all()
    assert (await second.ask("digits")).version == 3
    assert second.gateway.predictions.record_of("default", "digits").version == 3
    await site.endpoints.remove("default", "digits")
    await second.endpoints.load_all()
    assert ("default", "digits") not in second.gateway.predictions.plans


async def test_a_version_that_cannot_be_loaded_is_waited_for_only_so_long_and_then_counts_as_failed(
    site: Site, another: Open
) -> None:
    await site.endpoints.apply("default", split(100, 0), BY)
    second = another("p-2")
    await second.gateway.catalogue.load_all()
    await second.endpoints.load_all()
    await site.gateway.models.remove("default", "digits", "3")
    await site.gateway.deploy(b"model d")
    routes = (Route("champion", "digits", "1", 50), Route("canary", "digits", "4", 50))
    await site.endpoints.apply("default", Endpoint("digits-live", routes), BY)
    await second.endpoints.load_all()
    await second.gateway.clock.advance(COMING_SECONDS)
    second.endpoints.settle()
    second.points = [0.9]
    assert (await second.ask()).version == 1
    assert (await second.counted())["canary"].failed == 1


async def test_the_record_of_a_removed_endpoint_takes_its_name_from_no_pipeline(site: Site, another: Open) -> None:
    await site.endpoints.apply("default", split(100, 0), BY)
    await site.endpoints.remove("default", "digits-live")
    second = another("p-2")
    now = Revision(1, split(1, 0), "somebody", second.gateway.clock.now())
    pipeline = EndpointPlan(EndpointRecord("default", "digits-live", now), second.endpoints._traffic)
    second.gateway.predictions.plans["default", "digits-live"] = pipeline
    await second.endpoints.load_all()
    assert second.gateway.predictions.plans["default", "digits-live"] is pipeline


async def test_what_mirrors_keep_in_memory_is_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    await site.endpoints.apply("default", split(100, 0, mirrors=(Mirror("digits", "3"),)), BY)
    mirror = site.endpoints._serving["default", "digits-live"].mirrors[0]
    monkeypatch.setattr(traffic, "MIRRORED_BYTES_MAX", request().inputs["x"].nbytes)
    await site.ask()
    async with asyncio.timeout(30):
        while not mirror.requests:
            await asyncio.sleep(0.001)
    assert (mirror.dropped, mirror.at_work_bytes) == (0, 0)
    monkeypatch.setattr(traffic, "MIRRORED_BYTES_MAX", 1)
    await site.ask()
    assert (mirror.requests, mirror.dropped) == (1, 1)
