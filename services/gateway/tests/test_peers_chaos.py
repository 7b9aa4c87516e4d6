"""Gateways die, stand still, come back and lose each other while all of them are asked: whatever happens, every caller gets one
answer, it is the right one, and nothing stays behind."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ergonaut.errors import Unavailable
from ergonaut_gateway.domain.inference import InferenceAnswer
from ergonaut_gateway.domain.peers import Balancing, Errand, PeerAway
from ergonaut_gateway.service.plans import Cancellable

from .conftest import Gateways
from .peer_town import Node, Town, request

STEPS = 60


class Callers:
    """Each asks once."""

    def __init__(self) -> None:
        self.outcomes: list[list[object]] = []
        self.tickets: list[Cancellable] = []

    def ask(self, node: Node, deadline_seconds: float | None) -> None:
        number = len(self.outcomes)
        answers: list[object] = []
        self.outcomes.append(answers)
        self.tickets.append(node.ask(request(number), answers.append, deadline_seconds=deadline_seconds))

    def check(self) -> None:
        for number, outcomes in enumerate(self.outcomes):
            assert len(outcomes) == 1, f"caller {number} got {outcomes}"
            outcome = outcomes[0]
            if isinstance(outcome, InferenceAnswer):
                np.testing.assert_array_equal(outcome.outputs["y"], 2 * request(number).inputs["x"])
            else:
                assert isinstance(outcome, Unavailable | asyncio.CancelledError), outcome


class Chaos:
    """Does something to a town, again and again."""

    def __init__(self, town: Town, chance: random.Random) -> None:
        self.town = town
        self.chance = chance
        self.callers = Callers()

    async def step(self) -> None:
        doing: Callable[[Node], Awaitable[None]] = self.chance.choices(
            (self.asked, self.given_up, self.stopped_or_freed, self.killed_or_back, self.told, self.time_passes),
            (10, 2, 2, 2, 3, 2),
        )[0]
        await doing(self.chance.choice(self.town.nodes))
        for _ in range(self.chance.randrange(4)):
            await asyncio.sleep(0)

    async def asked(self, node: Node) -> None:
        late = self.chance.random() < 0.3
        self.callers.ask(node, self.town.clock.monotonic() + self.chance.choice((0.0, 0.7, 5.0)) if late else None)

    async def given_up(self, _: Node) -> None:
        if self.callers.tickets:
            self.chance.choice(self.callers.tickets).cancel()

    async def stopped_or_freed(self, node: Node) -> None:
        (node.loader.gate.clear if node.loader.gate.is_set() else node.loader.gate.set)()

    async def killed_or_back(self, node: Node) -> None:
        there, address = self.town.links.there, f"{node.name}:7405"
        there[address] = node.take if there[address] is _dead else _dead

    async def told(self, node: Node) -> None:
        await node.announcing.tell()

    async def time_passes(self, node: Node) -> None:
        await self.town.clock.advance(self.chance.choice((0.3, 1.0, 2.0)))
        node.peers.sweep()

    async def settle(self) -> None:
        """All goes well again, until nobody waits."""
        for node in self.town.nodes:
            node.loader.gate.set()
        async with asyncio.timeout(20):
            while any(self.has_any(node) for node in self.town.nodes):
                await asyncio.sleep(0.001)

    @staticmethod
    def has_any(node: Node) -> bool:
        # What was given up leaves others a turn of the loop later.
        there = any(peer.outstanding for peer in node.peers)
        return bool(node.forwarding.away or node.predictions.at_work or there)


async def _dead(_: Errand) -> InferenceAnswer:
    raise PeerAway("cut")


async def _chaos(seed: int, balancing: Balancing) -> None:
    chance = random.Random(seed)
    with TemporaryDirectory() as folder:
        async with Town(Gateways(Path(folder)), chance.random) as town:
            for name in ("one", "two", "three"):
                await town.add(name, waiting=chance.randrange(3), balancing=balancing)
            await town.open()
            chaos = Chaos(town, chance)
            for _ in range(STEPS):
                await chaos.step()
            await chaos.settle()
            chaos.callers.check()
            assert [node.forwarding.away_bytes for node in town.nodes] == [0, 0, 0]
            assert [peer.outstanding for node in town.nodes for peer in node.peers if peer.outstanding] == []


@given(st.integers(0, 2**32), st.sampled_from((Balancing.SPILL, Balancing.EVEN)))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_happens_every_caller_gets_one_answer_and_nothing_stays_behind(
    seed: int, balancing: Balancing
) -> None:
    asyncio.run(_chaos(seed, balancing))
