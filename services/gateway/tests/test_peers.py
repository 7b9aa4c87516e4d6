"""Requests sent to other gateways: they are answered as here, come back where nobody can, and are sent to nobody in vain."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator

import numpy as np
import pytest
from prometheus_client import generate_latest
from prometheus_client.registry import CollectorRegistry

from ergonaut.announcements import SILENT_SECONDS
from ergonaut.errors import NotFound, Refused, Unavailable
from ergonaut_gateway.domain.endpoints.spec import Endpoint, Mirror, Route
from ergonaut_gateway.domain.inference import Busy, DeadlineExceeded, InferenceAnswer, InferenceRequest
from ergonaut_gateway.domain.peers import Balancing, Because, Errand, PeerAway, Standing
from ergonaut_gateway.fakes import FakeEndpointBook, FakeFiguresBook
from ergonaut_gateway.service import Wish, forwarding

from .conftest import Gateways
from .peer_town import QUICK, Node, Town, request
from .test_endpoints import BY, Site


@pytest.fixture
async def town(gateways: Gateways) -> AsyncIterator[Town]:
    async with Town(gateways, random.Random(11).random) as opened:
        yield opened


@pytest.fixture
async def pair(town: Town) -> tuple[Node, Node]:
    """Two gateways, of which the first has no room."""
    one, two = await town.add("one"), await town.add("two")
    await town.open()
    await occupied(one)
    return one, two


async def occupied(node: Node) -> None:
    """Have it work on something that does not end."""
    node.loader.gate.clear()
    node.ask(request(), lambda _: None, stays=True)
    await asyncio.sleep(0)


async def until_free(node: Node) -> None:
    """Wait for its thread, which ends its work at a time of its own."""
    async with asyncio.timeout(5):
        while node.predictions.at_work:
            await asyncio.sleep(0)


async def until_away(node: Node, count: int = 1) -> None:
    async with asyncio.timeout(5):
        while len(node.forwarding.away) != count:
            await asyncio.sleep(0)


async def test_a_request_for_which_there_is_no_room_is_answered_by_another_gateway(pair: tuple[Node, Node]) -> None:
    one, two = pair
    answer = await one.answer(request(4, "mine"), priority=3)
    assert (answer.id, answer.model, answer.version) == ("mine", "digits", 1)
    np.testing.assert_array_equal(answer.outputs["y"], [[8, 8, 8]])
    assert [(each.tenant, each.model, each.version, each.priority) for each in two.taken] == [
        ("default", "digits", 1, 3)
    ]
    assert one.served == 0
    assert two.served == 1


async def test_alone_nothing_is_looked_for_elsewhere_and_who_finds_no_room_is_told(town: Town) -> None:
    one = await town.add("one")
    await town.open()
    await occupied(one)
    assert one.predictions.elsewhere is None
    with pytest.raises(Busy):
        await one.answer(request())


async def test_where_there_is_room_nothing_is_sent(town: Town) -> None:
    one, two = await town.add("one"), await town.add("two")
    await town.open()
    for _ in range(5):
        await one.answer(request())
    assert (one.served, two.taken) == (5, [])


async def test_a_request_goes_once(town: Town) -> None:
    one, two, three = [await town.add(name) for name in ("one", "two", "three")]
    await town.open()
    for node in (one, two):
        await occupied(node)
    assert (await one.answer(request())).version == 1
    assert len(three.taken) == 1
    with pytest.raises(Busy):
        await two.answer(request(), stays=True)


async def test_where_nobody_has_room_callers_are_told_when_to_come_back(town: Town) -> None:
    nodes = [await town.add(name) for name in ("one", "two", "three", "four")]
    await town.open()
    for node in nodes:
        await occupied(node)
    with pytest.raises(Busy) as refused:
        await nodes[0].answer(request())
    assert refused.value.retry_after_seconds > 0
    assert sum(len(node.taken) for node in nodes) == forwarding.TRIED_MAX
    assert nodes[0].forwarding.counts.returned == 1


async def test_who_had_no_room_is_left_in_peace_for_a_moment(pair: tuple[Node, Node]) -> None:
    one, two = pair
    await occupied(two)
    with pytest.raises(Busy):
        await one.answer(request())
    with pytest.raises(Busy):
        await one.answer(request())
    assert len(two.taken) == 1
    assert [peer.standing for peer in one.peers] == [Standing.FULL]


async def test_who_is_full_by_what_it_told_is_not_asked(pair: tuple[Node, Node], town: Town) -> None:
    one, two = pair
    await occupied(two)
    await town.tell()
    with pytest.raises(Busy):
        await one.answer(request())
    assert two.taken == []


async def test_a_draining_gateway_gets_nothing(pair: tuple[Node, Node]) -> None:
    one, two = pair
    await two.announcing.leave()
    with pytest.raises(Busy):
        await one.answer(request())
    assert two.taken == []


async def test_who_is_silent_is_forgotten_and_found_again(pair: tuple[Node, Node], town: Town) -> None:
    one, two = pair
    await town.pass_time(SILENT_SECONDS, two)
    assert len(one.peers) == 1
    await town.pass_time(1, two)
    assert (len(one.peers), one.predictions.elsewhere) == (0, None)
    await town.pass_time(1)
    await one.answer(request())
    assert len(two.taken) == 1


async def test_while_nobody_is_heard_at_all_nobody_is_forgotten_and_what_was_told_counts_no_longer(
    pair: tuple[Node, Node], town: Town
) -> None:
    one, two = pair
    await occupied(two)
    await town.tell()
    assert one.peers.standings()[Standing.FULL] == 1
    two.loader.gate.set()
    await until_free(two)
    await town.pass_time(60, one, two)
    await one.answer(request())
    assert len(two.taken) == 1
    del town.links.there["two:7405"]
    for _ in range(5):
        with pytest.raises(Busy):
            await one.answer(request())
    assert one.forwarding.counts.failed == 3
    await town.pass_time(1, two)
    assert len(one.peers) == 1, "it has not been silent for long since NATS is back"
    await town.pass_time(SILENT_SECONDS + 1, two)
    assert len(one.peers) == 0


async def test_a_dead_gateway_costs_nobody_an_answer_and_is_soon_left_alone(town: Town) -> None:
    one, two, three = [await town.add(name, waiting=50) for name in ("one", "two", "three")]
    await town.open()
    one.loader.gate.clear()
    for _ in range(51):
        one.ask(request(), lambda _: None, stays=True)
    del town.links.there["two:7405"]
    for _ in range(20):
        await one.answer(request())
    assert len(three.taken) == 20
    assert (one.forwarding.counts.failed, two.taken) == (3, [])
    assert one.peers.standings()[Standing.LEFT_ALONE] == 1


async def test_who_failed_is_tried_once_after_a_pause_and_has_its_share_again(
    pair: tuple[Node, Node], town: Town
) -> None:
    one, two = pair
    del town.links.there["two:7405"]
    for _ in range(5):
        with pytest.raises(Busy):
            await one.answer(request())
    assert one.forwarding.counts.failed == 3
    town.links.there["two:7405"] = two.take
    await town.clock.advance(0.5)
    await one.answer(request())
    await one.answer(request())
    assert len(two.taken) == 2


async def test_a_gateway_that_starts_anew_at_the_same_address_starts_without_its_past(
    pair: tuple[Node, Node], town: Town
) -> None:
    one, two = pair
    told = next(iter(one.peers)).told
    del town.links.there["two:7405"]
    for _ in range(3):
        with pytest.raises(Busy):
            await one.answer(request())
    town.links.there["two:7405"] = two.take
    one.peers.hear(told.model_copy(update={"process": "two-anew"}))
    await one.answer(request())
    assert len(two.taken) == 1


async def test_what_is_left_of_the_deadline_goes_along(pair: tuple[Node, Node], town: Town) -> None:
    one, two = pair
    await one.answer(request(), deadline_seconds=town.clock.monotonic() + 2.5)
    await one.answer(request())
    assert [errand.timeout_seconds for errand in two.taken] == [2.5, 30.0]


async def test_a_deadline_that_passes_elsewhere_is_told_as_such_and_is_nobodys_failure(
    pair: tuple[Node, Node], town: Town
) -> None:
    one, _ = pair

    async def late(_: Errand) -> InferenceAnswer:
        raise DeadlineExceeded("too late")

    town.links.there["two:7405"] = late
    for _ in range(5):
        with pytest.raises(DeadlineExceeded):
            await one.answer(request(), deadline_seconds=town.clock.monotonic() + 1)
    assert one.peers.standings()[Standing.READY] == 1
    with pytest.raises(Unavailable, match="within 30 s; ask again") as timed_out:
        await one.answer(request())
    assert not isinstance(timed_out.value, DeadlineExceeded), "he set none"


async def test_what_is_wrong_with_a_request_is_told_and_nobody_else_is_asked(pair: tuple[Node, Node]) -> None:
    one, two = pair
    with pytest.raises(Refused, match="NaN"):
        await one.answer(request(float("nan")))
    assert (len(two.taken), one.forwarding.counts.returned) == (1, 0)
    with pytest.raises(Refused, match="is FP64"):
        await one.answer(InferenceRequest("", {"x": np.zeros((1, 3))}))
    assert len(two.taken) == 1


async def test_a_caller_who_goes_has_the_run_dropped_elsewhere_too(pair: tuple[Node, Node]) -> None:
    one, two = pair
    two.loader.gate.clear()
    outcomes: list[object] = []
    ticket = one.ask(request(), outcomes.append)
    async with asyncio.timeout(5):
        while two.predictions.at_work == 0:
            await asyncio.sleep(0)
    ticket.cancel()
    ticket.cancel()
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError]
    async with asyncio.timeout(5):
        while two.predictions.at_work:
            await asyncio.sleep(0.001)
    assert not one.forwarding.away
    assert [peer.outstanding for peer in one.peers] == [0]


async def test_a_caller_who_goes_at_once_leaves_nothing_behind(pair: tuple[Node, Node]) -> None:
    one, two = pair
    outcomes: list[object] = []
    one.ask(request(), outcomes.append).cancel()
    async with asyncio.timeout(5):
        while any(peer.outstanding for peer in one.peers):
            await asyncio.sleep(0)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError]
    assert two.taken == []


async def test_no_more_is_away_than_a_bound_allows(pair: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = pair
    two.loader.gate.clear()
    monkeypatch.setattr(forwarding, "AWAY_MAX", 1)
    first: list[object] = []
    one.ask(request(), first.append)
    await until_away(one)
    with pytest.raises(Busy):
        await one.answer(request())
    monkeypatch.setattr(forwarding, "AWAY_MAX", 9)
    monkeypatch.setattr(forwarding, "AWAY_TENANT_MAX", 1)
    with pytest.raises(Busy):
        await one.answer(request())
    monkeypatch.setattr(forwarding, "AWAY_TENANT_MAX", 9)
    monkeypatch.setattr(forwarding, "AWAY_BYTES_MAX", one.forwarding.away_bytes)
    with pytest.raises(Busy):
        await one.answer(request())
    two.loader.gate.set()
    async with asyncio.timeout(5):
        await one.forwarding.idle()
    assert one.forwarding.away_bytes == 0
    assert isinstance(first[0], InferenceAnswer)


async def test_what_is_larger_than_a_message_stays(pair: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = pair
    monkeypatch.setattr(forwarding, "ERRAND_BYTES_MAX", 11)
    with pytest.raises(Busy):
        await one.answer(request())
    assert two.taken == []


async def test_a_model_that_runs_in_less_time_than_a_hop_takes_is_refused_rather_than_sent(town: Town) -> None:
    one, two = await town.add("one", traits=QUICK), await town.add("two", traits=QUICK)
    await town.open()
    outcomes: list[object] = []
    for _ in range(2):
        # Both within one turn of the loop, in which there is room for one.
        one.ask(request(), outcomes.append)
    assert [type(outcome) for outcome in outcomes] == [Busy]
    assert two.taken == []


async def test_a_version_that_could_not_be_loaded_here_is_asked_where_it_is(town: Town) -> None:
    one, two = await town.add("one"), await town.add("two")
    await two.gateway.deploy(b"model a")
    entry = next(iter(await town.gateways.registry.entries()))
    one.gateway.files.kept, kept = {}, one.gateway.files.kept
    await one.gateway.catalogue.apply(entry)
    one.gateway.files.kept = kept
    with pytest.raises(Unavailable, match="could not be loaded"):
        await one.answer(request())
    await town.tell()
    assert (await one.answer(request())).version == 1
    assert len(two.taken) == 1
    assert one.forwarding.counts.sent[Because.NOT_LOADED] == 1
    answered: list[object] = []
    one.predictions.submit(Wish("default", "nothing"), request(), answered.append)
    assert isinstance(answered[0], NotFound)


async def test_who_does_not_hold_a_version_is_not_asked_for_it(pair: tuple[Node, Node], town: Town) -> None:
    one, two = pair
    await two.gateway.models.unload("default", "digits")
    await town.tell()
    with pytest.raises(Busy):
        await one.answer(request(), version="1")
    assert two.taken == []


async def test_workers_of_the_same_gateway_are_no_others(town: Town) -> None:
    one = await town.add("one", replica="eu", address="eu:7405")
    await town.add("two", replica="eu", address="eu:7405")
    await town.add("three", address="eu:7405")
    await town.open()
    assert len(one.peers) == 0


async def test_who_told_no_address_is_seen_and_sends_but_takes_nothing(town: Town) -> None:
    one, two = await town.add("one", address=""), await town.add("two")
    await town.open()
    assert two.peers.standings()[Standing.TAKES_NONE] == 1
    await occupied(one)
    await one.answer(request())
    assert len(two.taken) == 1


async def test_requests_spread_beforehand_follow_the_weights(town: Town) -> None:
    one = await town.add("one", weight=1, balancing=Balancing.EVEN)
    two, three = await town.add("two", weight=2), await town.add("three", weight=1)
    await town.open()
    for _ in range(400):
        await one.answer(request())
    shares = Counter({"one": one.served, "two": len(two.taken), "three": len(three.taken)})
    # Six standard deviations, with a seed that is always the same.
    assert abs(shares["two"] - 200) < 60
    assert abs(shares["one"] - 100) < 52
    assert sum(shares.values()) == 400


async def test_a_gateway_of_several_workers_keeps_the_share_of_all_of_them(town: Town) -> None:
    one = await town.add("one", weight=1, workers=3, balancing=Balancing.EVEN)
    await town.add("two", weight=1)
    await town.open()
    for _ in range(400):
        await one.answer(request())
    # Six standard deviations, with a seed that is always the same.
    assert abs(one.served - 300) < 52


async def test_requests_spread_beforehand_go_to_who_has_less_of_ours_to_do(town: Town) -> None:
    one, two = await town.add("one", waiting=50, balancing=Balancing.EVEN), await town.add("two", waiting=50)
    await town.open()
    two.loader.gate.clear()
    answered: list[object] = []
    for _ in range(20):
        one.ask(request(), answered.append)
        await until_free(one)
    assert len(two.taken) < 8
    two.loader.gate.set()
    async with asyncio.timeout(10):
        while len(answered) < 20:
            await asyncio.sleep(0.001)
    assert all(isinstance(answer, InferenceAnswer) for answer in answered)


async def test_a_request_that_another_gateway_has_sent_is_not_spread(town: Town) -> None:
    one, two = [await town.add(name, balancing=Balancing.EVEN) for name in ("one", "two")]
    await town.open()
    for _ in range(20):
        await one.answer(request(), stays=True)
    assert (one.served, two.taken) == (20, [])


async def test_a_stop_waits_for_what_is_away(pair: tuple[Node, Node]) -> None:
    one, two = pair
    two.loader.gate.clear()
    outcomes: list[object] = []
    one.ask(request(), outcomes.append)
    await until_away(one)
    stopping = asyncio.create_task(one.predictions.finish(within_seconds=10))
    await asyncio.sleep(0)
    for node in (one, two):
        node.loader.gate.set()
    await stopping
    assert isinstance(outcomes[0], InferenceAnswer)


async def test_an_endpoint_chooses_and_counts_where_it_is_asked_and_its_mirrors_stay(pair: tuple[Node, Node]) -> None:
    one, two = pair
    site = Site(one.gateway, FakeEndpointBook(), FakeFiguresBook(), "p-1")
    routes = (Route("only", "digits", "1", 100),)
    mirrors = (Mirror("digits", "1", 1.0),)
    await site.endpoints.apply("default", Endpoint("digits-live", routes, mirrors=mirrors), BY)
    answer = await site.ask()
    assert (answer.model, answer.version) == ("digits-live", 1)
    assert [(errand.model, errand.version) for errand in two.taken] == [("digits", 1)]
    counts = (await site.counted())["only"]
    assert (counts.requests, counts.failed, counts.drawn) == (1, 0, 1)


async def test_what_is_away_when_the_gateway_ends_can_be_asked_again(pair: tuple[Node, Node]) -> None:
    one, two = pair
    two.loader.gate.clear()
    outcomes: list[object] = []
    one.ask(request(), outcomes.append)
    await until_away(one)
    one.forwarding.close()
    assert isinstance(outcomes[0], Unavailable)
    await asyncio.sleep(0.01)
    assert len(outcomes) == 1


async def test_an_error_of_ours_on_the_way_brings_the_request_back(pair: tuple[Node, Node], town: Town) -> None:
    one, _ = pair

    async def strange(_: Errand) -> InferenceAnswer:
        raise ZeroDivisionError

    town.links.there["two:7405"] = strange
    with pytest.raises(Busy):
        await one.answer(request())
    assert [peer.outstanding for peer in one.peers] == [0]


async def test_whoever_cannot_be_told_is_told_later(pair: tuple[Node, Node], town: Town) -> None:
    one, _ = pair
    town.announcements.away = True
    await one.announcing.tell()
    town.announcements.away = False
    await one.announcing.tell()
    assert one.peers.standings()[Standing.READY] == 1


async def test_what_was_sent_and_what_became_of_it_is_told_to_prometheus(pair: tuple[Node, Node], town: Town) -> None:
    one, _ = pair
    await one.answer(request())
    town.links.there["two:7405"] = _away
    with pytest.raises(Busy):
        await one.answer(request())
    page = CollectorRegistry()
    page.register(one.forwarding)
    told = generate_latest(page).decode()
    for line in (
        'ergonaut_gateway_peers{standing="ready"} 1.0',
        'ergonaut_gateway_forwarded_requests_total{because="busy"} 2.0',
        "ergonaut_gateway_forwarded_failures_total 1.0",
        "ergonaut_gateway_forwarded_returned_total 1.0",
        "ergonaut_gateway_forwarded_refused_total 0.0",
        "ergonaut_gateway_forwarded_in_flight 0.0",
    ):
        assert line in told


async def _away(_: Errand) -> InferenceAnswer:
    raise PeerAway("cut")
