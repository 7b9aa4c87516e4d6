"""What a CPU-second of this host is charged: as telemetry's agent tells it each second, else by a model of the CPU."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from ergonaut.carbon import PUE_NOT_TOLD, Intensity, PueSource
from ergonaut.events.base import subject_of
from ergonaut.events.pricing import Accounting, Boundary, Signal
from ergonaut.events.telemetry import PowerSampled
from ergonaut.units import JOULES_PER_KWH
from ergonaut_common.bus import Bus
from ergonaut_common.clock import Clock
from ergonaut_common.lifetimes import background
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.electricity import Electricity
from ergonaut_gateway.domain.energy import CALIBRATED, MODELLED, Rate

TOLD_SECONDS_MAX = 30.0
"""How long a rate holds when no other is told. An agent tells one each second; one that is gone longer stands still."""

PATIENCE_SECONDS = 5.0
"""How long the agent is waited for before the model's tables are read, which take some milliseconds and megabytes."""

log = get_logger(__name__)


class _Sample(msgspec.Struct):
    component: str
    method: str = ""
    source: str = ""
    range_fraction: float | None = None
    energy_joules: float | None = None
    carbon_grams_co2e: float | None = None
    cost_usd: float | None = None


class _Told(msgspec.Struct):
    """What matters here of `telemetry.power.sampled`; to read all of it would take ten times as long."""

    joules_per_cpu_second: float | None = None
    samples: list[_Sample] = []
    zone: str = ""
    intensity_grams_per_kwh: float = 0.0
    intensity_kind: str = ""
    intensity_source: str = ""
    intensity_signal: str = Signal.AVERAGE
    intensity_accounting: str = Accounting.LOCATION_BASED
    intensity_boundary: str = Boundary.UNKNOWN
    pue: float = PUE_NOT_TOLD
    pue_source: str = ""


_decoder = msgspec.json.Decoder(_Told)


def rate_of(body: bytes) -> Rate | None:
    """The rate that a message tells; None where it tells none. Raises msgspec.DecodeError for what is no such message."""
    told = _decoder.decode(body)
    sample = next((each for each in told.samples if each.component == "cpu" and each.energy_joules), None)
    if told.joules_per_cpu_second is None or sample is None or not sample.energy_joules:
        return None
    grams, usd = sample.carbon_grams_co2e, sample.cost_usd
    return Rate(
        joules_per_cpu_second=told.joules_per_cpu_second,
        range_fraction=sample.range_fraction,
        method=CALIBRATED,
        source=f"what telemetry charges a CPU-second of this host ({sample.method}: {sample.source})",
        grams_per_joule=None if grams is None else grams / sample.energy_joules,
        usd_per_joule=None if usd is None else usd / sample.energy_joules,
        electricity=_electricity(told, None if usd is None else usd / sample.energy_joules),
    )


def _electricity(told: _Told, usd_per_joule: float | None) -> Electricity | None:
    """What the host draws as the agent weighs it, None where that cannot be understood. The intensity's range is not among what
    it tells."""
    if told.intensity_grams_per_kwh <= 0.0 or told.pue < 1.0:
        return None
    try:
        intensity = Intensity(
            told.zone,
            told.intensity_grams_per_kwh,
            told.intensity_kind,
            told.intensity_source,
            Signal(told.intensity_signal),
            Accounting(told.intensity_accounting),
            Boundary(told.intensity_boundary),
        )
    except ValueError:
        # An agent of a later day tells of kinds that are not known here; what a CPU-second is charged holds all the same.
        return None
    # Prices are whole micro-dollars; of what was divided out, the last digits would make a new price of each second.
    usd_per_kwh = None if usd_per_joule is None else round(usd_per_joule * JOULES_PER_KWH / told.pue, 6)
    return Electricity(intensity, told.pue, told.pue_source or PueSource.NOT_TOLD.value, usd_per_kwh)


class HostRate:
    """The newest rate of this host."""

    def __init__(self, clock: Clock, model: "Callable[[], Rate | None] | None" = None) -> None:
        self._clock = clock
        self._model = model or modelled_rate
        self._told: Rate | None = None
        self._told_at = 0.0
        self._modelled: Rate | None = None

    def rate(self) -> Rate | None:
        """What a CPU-second is charged now; None where nothing tells."""
        if self._told is not None and self._clock.monotonic() - self._told_at <= TOLD_SECONDS_MAX:
            return self._told
        return self._modelled

    async def hear(self, message: Msg) -> None:
        """Take in what the agent tells."""
        try:
            rate = rate_of(message.data)
        except (msgspec.DecodeError, ValueError) as error:
            log.warning("what telemetry told is not understood", subject=message.subject, because=str(error))
            return
        if rate is not None:
            self._told, self._told_at = rate, self._clock.monotonic()

    async def fall_back(self) -> None:
        """Have the model ready where no agent tells anything, now or later."""
        while True:
            await self._clock.sleep(PATIENCE_SECONDS)
            if self.rate() is None:
                self._modelled = await asyncio.to_thread(self._model)
                return


def modelled_rate() -> Rate | None:
    """What the CPU model of the metering library has a CPU-second use beyond idling; None where it does not know the host."""
    # Loaded only here: most gateways have an agent beside them.
    from ergonaut.metering.cpu_model import CpuModel
    from ergonaut.metering.cpu_table import cpu_power
    from ergonaut.metering.hosts import cpu_identity

    try:
        identity = cpu_identity()
        model = CpuModel(power=cpu_power(identity.name, identity.family, identity.model))
        [reading] = model.read()
    except (OSError, ValueError) as error:
        log.warning("no model of this CPU", error=str(error))
        return None
    joules = model.full_watts_per_cpu - model.idle_watts_per_cpu
    return Rate(joules, reading.range_fraction, MODELLED, f"no telemetry; {reading.source}")


@contextlib.asynccontextmanager
async def following_rate(bus: Bus, host: str, clock: Clock) -> AsyncIterator[HostRate]:
    """The rate of a host, this one where none is named, kept current while the block runs."""
    rate = HostRate(clock)
    async with background(_follow(rate, bus, host)):
        yield rate


async def _follow(rate: HostRate, bus: Bus, host: str) -> None:
    """Hear what is told, for ever. Only what is told from now on is heard: a rate is of its second."""
    subject = subject_of(PowerSampled.TYPE, key=host or await asyncio.to_thread(_host_name))
    subscription: Any = await bus.connection.subscribe(subject, cb=rate.hear)
    try:
        await rate.fall_back()
        await asyncio.Event().wait()
    finally:
        with contextlib.suppress(NatsError):
            await subscription.unsubscribe()


def _host_name() -> str:
    # Loaded here, where nobody waits for it.
    from ergonaut.metering.hosts import host_name

    return host_name()
