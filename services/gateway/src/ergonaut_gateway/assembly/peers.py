"""Other gateways, found by NATS and asked by gRPC."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from prometheus_client import REGISTRY

from ergonaut.gateways import ANNOUNCEMENTS
from ergonaut.ids import new_id
from ergonaut.tls import channel_credentials
from ergonaut_common.bus import Bus
from ergonaut_common.bus.announcements import NatsAnnouncements
from ergonaut_common.clock import SystemClock
from ergonaut_common.lifetimes import background
from ergonaut_common.observe import get_logger
from ergonaut_common.settings import PlatformSettings
from ergonaut_gateway.adapters.peers import GrpcPeerLinks
from ergonaut_gateway.domain.peers import Balancing
from ergonaut_gateway.service import Catalogue, Predictions
from ergonaut_gateway.service.announcing import Announcing, Told
from ergonaut_gateway.service.demand import Demand
from ergonaut_gateway.service.forwarding import Forwarding
from ergonaut_gateway.service.peers import Own, Peers
from ergonaut_gateway.settings import Settings

CPU_BOUND = Path("/sys/fs/cgroup/cpu.max")
"""What a container's processes may use together, in microseconds of each period; absent elsewhere."""

BOOT = Path("/proc/sys/kernel/random/boot_id")
"""Another one at each start of the kernel; absent elsewhere than on Linux."""

log = get_logger(__name__)


class Unannounced:
    """Nobody is told of this gateway, and it hears of nobody."""

    async def leave(self) -> None:
        """Nobody sends anything anyway."""


@asynccontextmanager
async def balancing(
    settings: Settings,
    platform: PlatformSettings,
    bus: Bus,
    served: tuple[Catalogue, Predictions],
    demand: Demand | None,
) -> AsyncIterator[Announcing | Unannounced]:
    """Tell others of this gateway and send them requests while the block runs; neither without the services' key."""
    key = platform.service_key()
    if not key:
        log.info("no services' key: this gateway neither tells others of itself nor sends them requests")
        yield Unannounced()
        return
    catalogue, predictions = served
    own, clock = own_of(settings), SystemClock()
    async with AsyncExitStack() as stack:
        # Read here, so that a file that is wrong is told at the start and not by the first request that is sent on.
        links = GrpcPeerLinks(key, own.replica, channel_credentials())
        stack.push_async_callback(links.closed)
        peers = Peers(own, links, clock)
        stack.callback(peers.close)
        forwarding = Forwarding(
            peers,
            predictions.submit_model,
            clock,
            balancing=settings.balancing,
            run_timeout_seconds=settings.run_timeout_seconds,
        )
        stack.callback(forwarding.close)
        if settings.balancing is not Balancing.OFF:
            peers.when_changed = lambda: _connect(predictions, forwarding)
        REGISTRY.register(forwarding)
        stack.callback(REGISTRY.unregister, forwarding)
        announcements = NatsAnnouncements(bus, key, ANNOUNCEMENTS)
        told = Told(catalogue, predictions, lambda: None if demand is None else demand.replicas_wanted)
        announcing = Announcing(announcements, peers, told, clock)
        await stack.enter_async_context(announcements.heard(peers.hear))
        await stack.enter_async_context(background(announcing.keep_telling()))
        yield announcing


def own_of(settings: Settings) -> Own:
    """What this process is called, and how much it can do: of the cores that its gateway may use, its part."""
    process = new_id("gateway")
    address = settings.advertised_address
    weight = settings.weight or cores_usable()
    replica, secure = settings.replica or address or process, settings.tls is not None
    weight /= settings.workers
    return Own(replica, process, address, host=here(), tls=secure, weight=weight, workers=settings.workers)


def here() -> str:
    """This machine or container, told from others of the same name by when its kernel started."""
    try:
        boot = BOOT.read_text().strip()
    except OSError:
        boot = ""
    return f"{socket.gethostname()[:200]}/{boot[:36]}"


def cores_usable() -> float:
    """Cores that this process may use: those that it may run on, or the part of them that a container is given."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        quota, period = CPU_BOUND.read_text().split()
        return min(cores, int(quota) / int(period)) if quota != "max" else cores
    except (OSError, ValueError, ZeroDivisionError):
        return cores


def _connect(predictions: Predictions, forwarding: Forwarding) -> None:
    """While there is nobody else, requests do not even look for them."""
    predictions.elsewhere = forwarding if len(forwarding.peers) or forwarding.away else None
