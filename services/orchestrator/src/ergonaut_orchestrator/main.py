"""The whole life of the orchestrator's process: build, enter, wait, leave."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

from temporalio.client import Client
from temporalio.worker import Worker

from ergonaut.errors import ErgonautError
from ergonaut.workflows import RUNS_TASK_QUEUE
from ergonaut_common.auth import KeyRing
from ergonaut_common.bus import Bus, listening, open_bus
from ergonaut_common.clock import Clock, SystemClock
from ergonaut_common.lifetimes import background, stop_requested
from ergonaut_common.observe import get_logger, serving_metrics
from ergonaut_common.rpc import RpcServer, channel, serving
from ergonaut_common.settings import PlatformSettings
from ergonaut_common.temporal import connect_temporal
from ergonaut_orchestrator.activities import (
    Activities,
    RetrainingActivities,
    RolloutActivities,
    ServingActivities,
)
from ergonaut_orchestrator.adapters.announcer import BusAnnouncer
from ergonaut_orchestrator.adapters.gateway import GatewayModels, GatewayTraffic
from ergonaut_orchestrator.adapters.gateway_program import gateway_program
from ergonaut_orchestrator.adapters.gateways import NatsGateways
from ergonaut_orchestrator.adapters.ledger import LedgerLineages
from ergonaut_orchestrator.adapters.local import LocalLimits, LocalProvider
from ergonaut_orchestrator.adapters.object_stores import ObjectArtifacts, ObjectSources
from ergonaut_orchestrator.adapters.placing import SchedulerPlacing
from ergonaut_orchestrator.adapters.temporal_workflows import TemporalWorkflows
from ergonaut_orchestrator.listeners import listeners
from ergonaut_orchestrator.rpc import SERVICE_NAMES, Reception
from ergonaut_orchestrator.service import (
    Bounds,
    Desk,
    Fleets,
    Judging,
    Keeping,
    Leasing,
    Noticing,
    RollingOut,
    Running,
    ServingDesk,
    Steering,
    World,
)
from ergonaut_orchestrator.settings import Settings
from ergonaut_orchestrator.workflows import Patience, Retraining, Rollout, RunJob, Serving

SHORT_STEPS_MAX = 16
"""Activities at work beside the watches: provisioning, collecting and tearing down are heavy on one machine's disk."""

THREADS_MAX = 64
"""For looks at runs, which take milliseconds, beside short steps that may each hold one for half a minute. Python's own
default of six on two cores would let a few slow tear-downs keep every watch from its heartbeat."""

ABSENT_WORKER_INTERVAL = timedelta(seconds=2)
"""How long a step or question of a workflow is kept for the worker that had the workflow last. By Temporal's 10 s whoever asks
after an orchestrator was killed would be told that nobody answers."""

HEARTBEAT_INTERVAL = timedelta(seconds=1)
"""How often beats are passed on to Temporal, which answers them with cancellations: a cancelled job notices within this."""

LEAVE_SLACK_SECONDS = 3.0
"""On top of the grace, for the ends of stopped runs to be told. The whole must fit into a supervisor's patience of 12 s."""

log = get_logger(__name__)


async def main(platform: PlatformSettings) -> None:
    """Be the orchestrator until told to stop."""
    settings = Settings()
    clock = SystemClock()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS_MAX))
    keys, reception = KeyRing.load(platform.keys_file), Reception()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(serving_metrics(settings.metrics_address))
        door = await stack.enter_async_context(
            serving(
                settings.grpc_address,
                service="orchestrator",
                add=reception.add,
                keys=keys,
                names=SERVICE_NAMES,
                healthy=False,
            )
        )
        bus = await stack.enter_async_context(open_bus(platform, "orchestrator"))
        await bus.ensure_streams("runs", "leases", "ledger", "models")
        scheduler = await stack.enter_async_context(
            channel(platform.scheduler_address, platform, service="orchestrator")
        )
        temporal = await connect_temporal(platform, clock)
        world = build_world(settings, platform, bus=bus, placing=SchedulerPlacing(scheduler), temporal=temporal)
        activities, desk = await stack.enter_async_context(renewing(platform, world))
        gateways = await stack.enter_async_context(NatsGateways.listening(bus, platform.service_key(), clock))
        fleets = Fleets(world.workflows, gateways)
        reception.open(desk, ServingDesk(world.workflows, fleets))
        leasing = Leasing(world)
        await stack.enter_async_context(listening(listeners(Steering(world), Noticing(world.workflows)), platform, bus))
        await stack.enter_async_context(background(reconciling(leasing, clock, settings.reconcile_interval_seconds)))
        await work_until_stopped(
            working(temporal, leasing, world, [*activities, *ServingActivities(fleets).all()], settings),
            door,
            leasing,
            settings,
        )
        await leasing.interrupt_all()


@contextlib.asynccontextmanager
async def renewing(platform: PlatformSettings, world: World) -> AsyncIterator[tuple[Sequence[Any], Desk]]:
    """What rollouts and retrainings may have done, and who answers people for them."""
    async with (
        channel(platform.gateway_address, platform, service="orchestrator") as gateway,
        channel(platform.ledger_address, platform, service="orchestrator") as ledger,
    ):
        models = GatewayModels(gateway)
        rolling_out = RollingOut(GatewayTraffic(gateway), models, world.announcer)
        judging = Judging(models, world.artifacts, LedgerLineages(ledger), world.announcer, world.clock)
        activities = [*RolloutActivities(rolling_out).all(), *RetrainingActivities(judging).all()]
        yield activities, Desk(world.workflows, rolling_out)


async def work_until_stopped(worker: Worker, door: RpcServer, leasing: Leasing, settings: Settings) -> None:
    """Take work from Temporal until told to stop; then leave, in time even when Temporal is away and cannot be told."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(None) as limit, worker:
            await door.set_serving(True)
            await stop_requested()
            limit.reschedule(asyncio.get_running_loop().time() + settings.stop_grace_seconds + LEAVE_SLACK_SECONDS)
            # The watches stop their own programs; this is for those that nobody watches at this moment.
            await leasing.ask_all_to_stop()


def build_world(
    settings: Settings, platform: PlatformSettings, *, bus: Bus, placing: SchedulerPlacing, temporal: Client
) -> World:
    """The real world behind the ports."""
    limits = LocalLimits(
        stop_grace_seconds=settings.stop_grace_seconds,
        pause_grace_seconds=settings.pause_grace_seconds,
        checkpoint_bytes_max=settings.checkpoint_bytes_max,
        lease_ttl_seconds=settings.lease_ttl_seconds,
        log_bytes_max=settings.log_bytes_max,
        source_bytes_max=settings.source_bytes_max,
        source_files_max=settings.source_files_max,
        nice=settings.nice,
    )
    local = LocalProvider(platform.data_dir / "leases", settings.host, limits)
    return World(
        placing=placing,
        providers={local.name: local},
        sources=ObjectSources(bus),
        artifacts=ObjectArtifacts(bus),
        announcer=BusAnnouncer(bus),
        workflows=TemporalWorkflows(temporal),
        clock=SystemClock(),
        gateway=gateway_program(platform, os.environ, host=settings.replica_host),
    )


def working(temporal: Client, leasing: Leasing, world: World, more: Sequence[Any], settings: Settings) -> Worker:
    """The worker at the Temporal door; leaving it waits until the programs that are watched have been stopped."""
    bounds = Bounds(settings.look_interval_seconds, settings.artifacts_count_max, settings.artifacts_bytes_max)
    activities = Activities(leasing, Running(world, bounds), Keeping(world, bounds))
    return Worker(
        temporal,
        task_queue=RUNS_TASK_QUEUE,
        workflows=[Retraining, Rollout, RunJob, Serving],
        activities=[*activities.all(), *more],
        interceptors=[Patience(timedelta(seconds=settings.heartbeat_timeout_seconds))],
        max_concurrent_activities=settings.runs_max + SHORT_STEPS_MAX,
        max_heartbeat_throttle_interval=HEARTBEAT_INTERVAL,
        default_heartbeat_throttle_interval=HEARTBEAT_INTERVAL,
        sticky_queue_schedule_to_start_timeout=ABSENT_WORKER_INTERVAL,
        graceful_shutdown_timeout=timedelta(seconds=settings.stop_grace_seconds + LEAVE_SLACK_SECONDS),
    )


async def reconciling(leasing: Leasing, clock: Clock, interval_seconds: float) -> None:
    """Search for leases that nobody answers for, at once and then now and again."""
    while True:
        try:
            await leasing.reconcile()
        except ErgonautError as error:
            log.warning("leases not reconciled", error=str(error))
        await clock.sleep(interval_seconds)
