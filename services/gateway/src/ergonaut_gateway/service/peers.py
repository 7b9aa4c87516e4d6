"""The other gateways that are there, by what they tell each second, and how each fared with what it was sent."""

import random
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from ergonaut.announcements import SILENT_SECONDS
from ergonaut.gateways import GatewayAnnounced
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.peers import Held, Standing, seen_from, standing_of
from ergonaut_gateway.openai.domain.breaker import Breaker, BreakerRule
from ergonaut_gateway.ports import PeerLink, PeerLinks

PEERS_MAX = 256
"""Processes that are known at once; what more tell is passed over. Each has a connection once it is sent something."""

RULE = BreakerRule(failures=3, window_seconds=5.0, open_seconds=0.5, open_seconds_max=30.0)
"""A killed gateway fails several requests at once and tells nothing for three seconds more; one that comes back is found soon."""

FULL_SECONDS_MAX = 1.0
"""How long a gateway that had no room is left in peace at most: by then it has told how it stands."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Own:
    """What this process of the gateway is called, and where it takes others' requests."""

    replica: str
    process: str
    address: str = ""
    host: str = ""
    tls: bool = False
    weight: float = 1.0
    workers: int = 1
    """Processes of this gateway, each of this weight."""


class Peer:
    """One process of another gateway."""

    def __init__(self, told: GatewayAnnounced, links: PeerLinks, clock: Clock) -> None:
        self._links = links
        self._clock = clock
        self._link: PeerLink | None = None
        self._breaker = Breaker(RULE)
        self._full_until_seconds = 0.0
        self._others = 0
        self.outstanding = 0
        """Requests of ours that it has."""
        self.told = told
        self.held = Held(told.models, are_all=told.models_told)
        self.hear(told)

    def hear(self, told: GatewayAnnounced) -> None:
        """It is there, and stands so."""
        if (told.models, told.models_told) != (self.told.models, self.told.models_told):
            self.held = Held(told.models, are_all=told.models_told)
        self.told = told
        self.heard_seconds = self._clock.monotonic()
        self._others = max(0, told.at_work - self.outstanding)

    @property
    def at_work(self) -> int:
        """What it has to do: what others had given it when it told last, and what we have."""
        return self.outstanding + (self._others if self._told_lately else 0)

    @property
    def standing(self) -> Standing:
        """Whether it may be sent requests."""
        now = self._clock.monotonic()
        full = now < self._full_until_seconds
        left_alone = not self._breaker.would_admit(now)
        return standing_of(self.told, full=full, left_alone=left_alone, lately=self._told_lately)

    @property
    def _told_lately(self) -> bool:
        return self._clock.monotonic() - self.heard_seconds <= SILENT_SECONDS

    def begin(self) -> PeerLink:
        """It is sent a request over this link; one of the four below tells how that ended."""
        if self._link is None:
            self._link = self._links.open(self.told.address, tls=self.told.tls)
        admitted = self._breaker.admits(self._clock.monotonic())
        assert admitted, "only who is ready is chosen"
        self.outstanding += 1
        return self._link

    def answered(self) -> None:
        """It answered, be it that the request is wrong."""
        self.outstanding -= 1
        self._breaker.succeeded()

    def refused(self, retry_after_seconds: float) -> None:
        """It had no room."""
        self.outstanding -= 1
        self._breaker.succeeded()
        self._full_until_seconds = self._clock.monotonic() + min(retry_after_seconds, FULL_SECONDS_MAX)

    def failed(self, why: str = "no answer in time") -> None:
        """It did not answer."""
        self.outstanding -= 1
        was_open = self._breaker.is_open
        self._breaker.failed(self._clock.monotonic())
        if self._breaker.is_open and not was_open:
            log.warning("gateway left alone", replica=self.told.replica, address=self.told.address, error=why)

    def given_up(self) -> None:
        """The request's caller went, or its time was over."""
        self.outstanding -= 1
        self._breaker.given_up()

    def close(self) -> None:
        """Send it nothing more; what it has may still be answered."""
        if self._link is not None:
            self._link.close()
            self._link = None


class Peers:
    """All of them."""

    def __init__(
        self, own: Own, links: PeerLinks, clock: Clock, *, chance: Callable[[], float] = random.random
    ) -> None:
        self.own = own
        self.chance = chance
        self.when_changed: Callable[[], None] = lambda: None
        """Called when somebody came or went who may be sent requests."""
        self._links = links
        self._clock = clock
        self._known: dict[str, Peer] = {}
        self._heard_seconds = self._hearing_since_seconds = clock.monotonic()

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._known.values())

    def __len__(self) -> int:
        return len(self._known)

    def hear(self, told: GatewayAnnounced) -> None:
        """Somebody told how it stands, maybe this process itself."""
        now = self._clock.monotonic()
        if now - self._heard_seconds > SILENT_SECONDS:
            self._hearing_since_seconds = now
        self._heard_seconds = now
        if self._is_own(told):
            return
        told = seen_from(told, self.own.host)
        peer = self._known.get(told.process)
        if peer is not None:
            # NATS keeps the order of one process's words, and where it does not the newer ones hold.
            if told.told_at >= peer.told.told_at:
                peer.hear(told)
            return
        if len(self._known) >= PEERS_MAX:
            return
        self._known[told.process] = Peer(told, self._links, self._clock)
        log.info("gateway found", replica=told.replica, process=told.process, address=told.address)
        self.when_changed()

    def sweep(self) -> None:
        """Forget those who tell nothing any more. While nobody is heard at all, not even this process, it is NATS that is silent:
        then they are kept, and whoever does not answer is left alone."""
        heard, since = self._heard_seconds, self._hearing_since_seconds
        silent = [peer for peer in self._known.values() if heard - max(peer.heard_seconds, since) > SILENT_SECONDS]
        for peer in silent:
            del self._known[peer.told.process]
            peer.close()
            log.info("gateway gone", replica=peer.told.replica, process=peer.told.process, address=peer.told.address)
        if silent:
            self.when_changed()

    def ready(self, print_: bytes, without: Collection[Peer] = ()) -> list[Peer]:
        """Those that may be sent a request for a version."""
        return [
            peer
            for peer in self._known.values()
            if peer.standing is Standing.READY and peer.held.may_hold(print_) and peer not in without
        ]

    def standings(self) -> dict[Standing, int]:
        """How many stand how."""
        counts = dict.fromkeys(Standing, 0)
        for peer in list(self._known.values()):
            counts[peer.standing] += 1
        return counts

    def close(self) -> None:
        """Let go of all."""
        for peer in self._known.values():
            peer.close()
        self._known.clear()
        self.when_changed()

    def _is_own(self, told: GatewayAnnounced) -> bool:
        """Whether it is this gateway: this process, or another worker, who has the same address."""
        own = self.own
        is_here = bool(own.address) and (told.address, told.host) == (own.address, own.host)
        return told.replica == own.replica or is_here
