"""Sends requests on to other gateways, and takes back what they cannot answer.

What goes is always a request for one version of one model: endpoints and pipelines choose here, ask here, and count here. It goes
once, for who gets it answers it. To predict changes nothing, so that a request whose gateway died may be asked again elsewhere.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from ergonaut.errors import ErgonautError, Unavailable
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.inference import Busy, DeadlineExceeded, InferenceAnswer, InferenceRequest
from ergonaut_gateway.domain.peers import Balancing, Because, Errand, PeerAway, chosen, fingerprint
from ergonaut_gateway.domain.repeats import size_bytes_of
from ergonaut_gateway.ports import PeerLink
from ergonaut_gateway.service.lanes import Done, Ticket
from ergonaut_gateway.service.peers import Peer, Peers
from ergonaut_gateway.service.plans import Cancellable
from ergonaut_gateway.service.predictions import Wish

AWAY_MAX = 256
"""Requests that other gateways have at once; each costs some 10 kB here, and who sends more is no gateway but a proxy."""

AWAY_TENANT_MAX = AWAY_MAX // 2
"""Of one tenant, so that the others' may go too."""

AWAY_BYTES_MAX = 64 * 2**20
"""Of their tensors, which are held until the answer is there, should they have to be sent again."""

ERRAND_BYTES_MAX = 15 * 2**20
"""Of one; gRPC messages have 16 MiB."""

TRIED_MAX = 2
"""Gateways that are asked for one request; where neither can, this one does what it can."""

Submit = Callable[[Wish, InferenceRequest, Done], Cancellable]

log = get_logger(__name__)


class Counts:
    """What was sent and what became of it."""

    def __init__(self) -> None:
        self.sent = dict.fromkeys(Because, 0)
        self.refused = 0
        self.failed = 0
        self.returned = 0
        self.seconds = 0.0


class Forwarding(Collector):
    """Fills `Elsewhere`."""

    def __init__(
        self, peers: Peers, submit: Submit, clock: Clock, *, balancing: Balancing, run_timeout_seconds: float = 30.0
    ) -> None:
        self.peers = peers
        self.submit = submit
        self.clock = clock
        self.run_timeout_seconds = run_timeout_seconds
        self.counts = Counts()
        self.away: set[Sent] = set()
        self.away_bytes = 0
        self._away_of: Counter[str] = Counter()
        self.spreads = balancing is Balancing.EVEN
        """Whether others are asked in turn, as this one is."""
        self._here = 0
        self._idle = asyncio.Event()

    def beforehand(self, wish: Wish, ticket: Ticket, version: int) -> Cancellable | None:
        """Send a request on where it is another gateway's turn; None where this one shall do it."""
        ready = self.peers.ready(fingerprint(wish.tenant, wish.model, version))
        if not ready:
            return None
        own = self.peers.own
        # The other workers of this gateway have callers of their own, whom they share with others as this one does.
        weights = [own.workers * own.weight, *(peer.told.weight for peer in ready)]
        at_work = [own.workers * self._here, *(peer.outstanding for peer in ready)]
        at = chosen(weights, at_work, self.peers.chance)
        request, done = ticket.request, ticket.done
        assert request is not None, "it is not answered"
        assert done is not None, "it is not answered"
        if at == 0:
            self._here += 1
            ticket.done = self._done_here(done)
            return None
        return self._begin(Sent(self, wish, version, request, done), ready[at - 1], Because.EVEN)

    def instead(
        self, wish: Wish, request: InferenceRequest, done: Done, version: int, because: Because
    ) -> Cancellable | None:
        """Send a request on that cannot be answered here; None where no other gateway may be able to."""
        sent = Sent(self, wish, version, request, done)
        peer = self.pick(sent)
        return self._begin(sent, peer, because) if peer is not None else None

    def pick(self, sent: "Sent") -> Peer | None:
        """Who shall be asked next; nobody where nobody may be."""
        ready = self.peers.ready(sent.print_, sent.tried)
        if not ready:
            return None
        weights = [peer.told.weight for peer in ready]
        return ready[chosen(weights, [peer.at_work for peer in ready], self.peers.chance)]

    @property
    def has_any(self) -> bool:
        """Whether others have requests of ours."""
        return bool(self.away)

    async def idle(self) -> None:
        """Wait until they have none."""
        while self.away:
            self._idle.clear()
            await self._idle.wait()

    def close(self) -> None:
        """Give up what is away."""
        for sent in list(self.away):
            sent.give_up(Unavailable("the gateway stopped before the answer was there; ask again"))

    def over(self, sent: "Sent") -> None:
        """A request is not away any more."""
        self.away.discard(sent)
        self._away_of[sent.tenant] -= 1
        if not self._away_of[sent.tenant]:
            del self._away_of[sent.tenant]
        self.away_bytes -= sent.size_bytes
        if not self.away:
            self._idle.set()
            self.peers.when_changed()

    def collect(self) -> list[Metric]:
        """The figures at the moment of a scrape."""
        counts = self.counts
        peers = GaugeMetricFamily(
            "ergonaut_gateway_peers", "Processes of other gateways, by how they stand.", labels=("standing",)
        )
        for standing, count in self.peers.standings().items():
            peers.add_metric((standing.value,), count)
        sent = CounterMetricFamily(
            "ergonaut_gateway_forwarded_requests", "Requests sent to other gateways.", labels=("because",)
        )
        for because, count in counts.sent.items():
            sent.add_metric((because.value,), count)
        return [
            peers,
            sent,
            _counter("refused", "Times that a gateway had no room for one.", counts.refused),
            _counter("failures", "Times that a gateway did not answer one.", counts.failed),
            _counter("returned", "Requests that no other gateway could answer, so that this one was asked again.",
                     counts.returned),
            _counter("seconds", "Time that requests were away.", counts.seconds),
            GaugeMetricFamily(
                "ergonaut_gateway_forwarded_in_flight", "Requests that other gateways have.", len(self.away)
            ),
        ]  # fmt: skip

    def describe(self) -> list[Metric]:
        return []

    def _begin(self, sent: "Sent", peer: Peer, because: Because) -> Cancellable | None:
        size_bytes = sent.size_bytes
        too_many = len(self.away) >= AWAY_MAX or self._away_of[sent.tenant] >= AWAY_TENANT_MAX
        if too_many or self.away_bytes + size_bytes > AWAY_BYTES_MAX or size_bytes > ERRAND_BYTES_MAX:
            return None
        sent.begin(peer)
        self.away.add(sent)
        self._away_of[sent.tenant] += 1
        self.away_bytes += size_bytes
        self.counts.sent[because] += 1
        return sent

    def _done_here(self, done: Done) -> Done:
        def answered(outcome: InferenceAnswer | BaseException) -> None:
            self._here -= 1
            done(outcome)

        return answered


class Sent:
    """A request that was sent on, until it is answered."""

    __slots__ = ("_began_seconds", "_came_back", "_done", "_forwarding", "_request", "_task", "_version", "_wish", "_with",
                 "print_", "size_bytes", "tenant", "tried")  # fmt: skip

    def __init__(self, forwarding: Forwarding, wish: Wish, version: int, request: InferenceRequest, done: Done) -> None:
        self._forwarding = forwarding
        self._wish = wish
        self._version = version
        self._request = request
        self._done: Done | None = done
        self._task: asyncio.Task[None] | None = None
        self._came_back: Cancellable | None = None
        self._began_seconds = forwarding.clock.monotonic()
        self.tenant = wish.tenant
        self.print_ = fingerprint(wish.tenant, wish.model, version)
        self.size_bytes = sum(map(size_bytes_of, request.inputs.values()))
        self.tried: list[Peer] = []
        self._with: Peer | None = None

    def begin(self, peer: Peer) -> None:
        """Ask a gateway, and then whoever else may know."""
        link = self._handed_to(peer)
        self._task = asyncio.get_running_loop().create_task(self._go(link))
        self._task.add_done_callback(self._ended)

    def cancel(self) -> None:
        """Drop the request: it is answered with CancelledError before this returns. Does nothing when it is over."""
        if self._came_back is not None:
            self._came_back.cancel()
        else:
            self.give_up(asyncio.CancelledError("the caller wants no answer any more"))

    def give_up(self, why: BaseException) -> None:
        """Answer the request before its time. Nothing where it is over, or not away any more."""
        if self._done is not None and self._came_back is None:
            self._leave()
            self._end(why)
            assert self._task is not None, "it was begun"
            self._task.cancel()

    async def _go(self, link: PeerLink) -> None:
        try:
            outcome = await self._asked(link)
            while outcome is None and len(self.tried) < TRIED_MAX and (peer := self._forwarding.pick(self)) is not None:
                outcome = await self._asked(self._handed_to(peer))
        except Exception:
            log.exception("request not sent on", model=self._wish.model)
            outcome = None
        if self._done is None:
            return
        self._leave()
        if outcome is None:
            self._come_back()
        else:
            self._end(outcome)

    async def _asked(self, link: PeerLink) -> InferenceAnswer | ErgonautError | None:
        """What a gateway answers; None where another one should be asked."""
        peer, counts = self.tried[-1], self._forwarding.counts
        errand = self._errand()
        if errand is None:
            return self._late()
        try:
            answer = await link.ask(errand)
        except DeadlineExceeded:
            if self._wish.deadline_seconds is None:
                # The time is ours, by which whoever is still silent has failed.
                self._let_go(peer.failed)
            return self._late()
        except Busy as error:
            counts.refused += 1
            self._let_go(partial(peer.refused, error.retry_after_seconds))
            return None
        except PeerAway as error:
            counts.failed += 1
            self._let_go(partial(peer.failed, str(error)))
            return None
        except ErgonautError as error:
            self._let_go(peer.answered)
            return error
        else:
            self._let_go(peer.answered)
        finally:
            # Nothing where it was told already how that ended.
            self._let_go(peer.given_up)
        return answer

    def _handed_to(self, peer: Peer) -> PeerLink:
        self.tried.append(peer)
        self._with = peer
        return peer.begin()

    def _let_go(self, ended: Callable[[], None]) -> None:
        """Tell once how it ended with the gateway that had the request."""
        if self._with is not None:
            self._with = None
            ended()

    def _ended(self, _task: "asyncio.Task[None]") -> None:
        # Given up before it ever ran.
        if self._with is not None:
            self._let_go(self._with.given_up)

    def _errand(self) -> Errand | None:
        """The request with what is left of its time; None where nothing is."""
        wish, now = self._wish, self._forwarding.clock.monotonic()
        left_seconds = self._forwarding.run_timeout_seconds - (now - self._began_seconds)
        if wish.deadline_seconds is not None:
            left_seconds = min(left_seconds, wish.deadline_seconds - now)
        if left_seconds <= 0:
            return None
        return Errand(wish.tenant, wish.model, self._version, self._request, left_seconds, wish.priority)

    def _late(self) -> Unavailable:
        """Why there is no answer: the caller's time is over, or ours."""
        if self._wish.deadline_seconds is not None:
            return DeadlineExceeded("the deadline passed before another gateway had answered")
        return Unavailable(
            f"no other gateway had answered within {self._forwarding.run_timeout_seconds:g} s; ask again"
        )

    def _leave(self) -> None:
        forwarding = self._forwarding
        forwarding.counts.seconds += forwarding.clock.monotonic() - self._began_seconds
        forwarding.over(self)

    def _come_back(self) -> None:
        """No other gateway could: there may be room here by now, and if not it is said so."""
        wish = self._wish
        self._forwarding.counts.returned += 1
        here = Wish(wish.tenant, wish.model, wish.version, wish.deadline_seconds, wish.priority, stays=True)
        ticket = self._forwarding.submit(here, self._request, self._end)
        if self._done is not None:
            self._came_back = ticket

    def _end(self, outcome: InferenceAnswer | BaseException) -> None:
        done, self._done = self._done, None
        assert done is not None, "answered once"
        try:
            done(outcome)
        except Exception:
            log.exception("answer not given", model=self._wish.model)


def _counter(name: str, documentation: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"ergonaut_gateway_forwarded_{name}", documentation, value)
