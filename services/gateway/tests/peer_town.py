"""Several gateways on fakes that hear of each other and ask each other, as tests want them."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import numpy as np

from ergonaut_gateway.domain.batching import Traits
from ergonaut_gateway.domain.inference import InferenceAnswer, InferenceRequest
from ergonaut_gateway.domain.peers import Balancing, Errand
from ergonaut_gateway.fakes import FakeAnnouncements, FakeModelLoader, FakePeerLinks, FakeRunner
from ergonaut_gateway.service import EngineLimits, Wish
from ergonaut_gateway.service.announcing import Announcing, Told
from ergonaut_gateway.service.forwarding import Forwarding
from ergonaut_gateway.service.peers import Own, Peers
from ergonaut_gateway.service.plans import Cancellable

from .conftest import Gateway, Gateways

SLOW = Traits(joinable=False, steady=False, first_runs=((1, 0.01),))
"""It runs in a thread, and is worth a hop."""

QUICK = Traits(joinable=True, steady=True, first_runs=((1, 1e-5), (16, 1.1e-5)))


def request(value: float = 1.0, name: str = "") -> InferenceRequest:
    return InferenceRequest(name, {"x": np.full((1, 3), value, dtype="<f4")})


class GatedLoader(FakeModelLoader):
    """Its models answer while the gate is open."""

    def __init__(self, traits: Traits = SLOW) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.traits = traits

    async def load(self, path: Path) -> FakeRunner:
        loader = self
        await super().load(path)

        class Gated(FakeRunner):
            def compute(self, inputs, outputs, stop):
                while not loader.gate.wait(0.001):
                    if stop is not None and stop.terminate:
                        break
                return super().compute(inputs, outputs, stop)

        return Gated(self.traits)


class Node:
    """One gateway of the town."""

    def __init__(
        self, name: str, gateway: Gateway, town: "Town", loader: GatedLoader, own: Own, balancing: Balancing
    ) -> None:
        self.name = name
        self.gateway = gateway
        self.loader = loader
        self.predictions = gateway.predictions
        self.peers = Peers(own, town.links, gateway.clock, chance=town.chance)
        self.forwarding = Forwarding(self.peers, self.predictions.submit_model, gateway.clock, balancing=balancing)
        self.announcing = Announcing(
            town.announcements, self.peers, Told(gateway.catalogue, self.predictions), gateway.clock
        )
        self.peers.when_changed = self._connect
        self.taken: list[Errand] = []

    def _connect(self) -> None:
        self.predictions.elsewhere = self.forwarding if len(self.peers) or self.forwarding.away else None

    def ask(self, request: InferenceRequest, done: Callable[[object], None], **wish: object) -> Cancellable:
        return self.predictions.submit(Wish("default", "digits", **wish), request, done)  # type: ignore[arg-type]

    async def answer(self, request: InferenceRequest, **wish: object) -> InferenceAnswer:
        """The answer. Raises what is answered in its place."""
        answered: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.ask(request, answered.set_result, **wish)
        outcome = await asyncio.wait_for(answered, 10)
        if isinstance(outcome, BaseException):
            raise outcome
        assert isinstance(outcome, InferenceAnswer)
        return outcome

    async def take(self, errand: Errand) -> InferenceAnswer:
        """Answer what another gateway sends."""
        self.taken.append(errand)
        answered: asyncio.Future[InferenceAnswer] = asyncio.get_running_loop().create_future()
        wish = Wish(errand.tenant, errand.model, str(errand.version), stays=True)
        ticket = self.predictions.submit(wish, errand.request, partial(_settle, answered))
        try:
            return await answered
        finally:
            ticket.cancel()

    @property
    def served(self) -> int:
        return self.predictions.statistics("default", "digits").success.count


class Town:
    """Gateways that know each other once they have told."""

    def __init__(self, gateways: Gateways, chance: Callable[[], float]) -> None:
        self.gateways = gateways
        self.clock = gateways.clock
        self.chance = chance
        self.announcements = FakeAnnouncements()
        self.links = FakePeerLinks()
        self.nodes: list[Node] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "Town":
        return self

    async def __aexit__(self, *_: object) -> None:
        for node in self.nodes:
            node.loader.gate.set()
            node.forwarding.close()
            node.predictions.close()
        await self._stack.aclose()

    async def add(
        self,
        name: str,
        *,
        traits: Traits = SLOW,
        waiting: int = 0,
        weight: float = 1.0,
        workers: int = 1,
        balancing: Balancing = Balancing.SPILL,
        address: str | None = None,
        replica: str = "",
    ) -> Node:
        """One gateway more, with room for one request at work and so many that wait."""
        loader = GatedLoader(traits)
        limits = EngineLimits(threads=1, waiting=waiting, model_waiting=waiting)
        gateway = self.gateways.another(loader, limits=limits)
        address = f"{name}:7405" if address is None else address
        own = Own(replica or name, f"{name}-process", address, weight=weight, workers=workers)
        node = Node(name, gateway, self, loader, own, balancing)
        await self._stack.enter_async_context(self.announcements.heard(node.peers.hear))
        self.links.there[address] = node.take
        self.nodes.append(node)
        return node

    async def open(self) -> None:
        """Deploy a model that all hold, and have all hear of all."""
        await self.nodes[0].gateway.deploy(b"model a")
        for node in self.nodes:
            await node.gateway.catalogue.load_all()
        await self.tell()

    async def tell(self) -> None:
        for node in self.nodes:
            await node.announcing.tell()

    async def pass_time(self, seconds: float, *silent: Node) -> None:
        """Let all but these tell each second, as they do."""
        for _ in range(int(seconds)):
            await self.clock.advance(1.0)
            for node in self.nodes:
                if node not in silent:
                    await node.announcing.tell()
                node.peers.sweep()


def _settle(answered: "asyncio.Future[InferenceAnswer]", outcome: InferenceAnswer | BaseException) -> None:
    if answered.done():
        return
    if isinstance(outcome, asyncio.CancelledError):
        answered.cancel()
    elif isinstance(outcome, BaseException):
        answered.set_exception(outcome)
    else:
        answered.set_result(outcome)
