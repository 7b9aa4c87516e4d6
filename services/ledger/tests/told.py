"""Facts as other services would tell them, for the ledger's tests."""

from datetime import UTC, datetime, timedelta
from typing import Any

from ergonaut.events import Event, IntensityChanged, OfferChanged, PowerSample, PowerSampled, RunFinished, RunStarted
from ergonaut.events.pricing import HourIntensity, IntensityKind, Market
from ergonaut.events.runs import RunState
from ergonaut.events.telemetry import Method, Share
from ergonaut_ledger.domain.bounds import Malformed, Message
from ergonaut_ledger.domain.rows import Batch
from ergonaut_ledger.domain.understanding import understand

T0 = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
RUN = "run-1"


def message(event: Event, sequence: int, stream: str = "ERGONAUT_TEST") -> Message:
    return Message(stream, sequence, event.subject, event.model_dump_json().encode())


def batch(*messages: Message) -> Batch:
    whole = Batch()
    for each in messages:
        understood = understand(each)
        assert isinstance(understood, Batch), understood
        whole.add(understood)
    return whole


def batch_of(*events: Event, first: int = 1) -> Batch:
    return batch(*(message(event, first + index) for index, event in enumerate(events)))


def cpu_sample(second: float, joules: float | None = 20.0, **changes: Any) -> PowerSample:
    values: dict[str, Any] = {
        "share": Share.RUN,
        "run_id": RUN,
        "component": "cpu",
        "method": Method.MODEL,
        "source": "load times 65 W",
        "range_fraction": 0.3,
        "started_at": T0 + timedelta(seconds=second),
        "ended_at": T0 + timedelta(seconds=second + 1),
        "energy_joules": joules,
        "carbon_grams_co2e": None if joules is None else joules / 3.6e6 * 400,
        "cost_usd": None if joules is None else joules / 3.6e6 * 0.15,
    }
    return PowerSample(**(values | changes))


def gpu_sample(second: float) -> PowerSample:
    return cpu_sample(
        second,
        None,
        component="gpu0",
        method=Method.NOT_MEASURED,
        source="no NVML; install the driver",
        range_fraction=None,
    )


def rent_sample(second: float, cost_usd: float = 0.0001) -> PowerSample:
    return cpu_sample(
        second,
        None,
        component="machine",
        method=Method.NOT_MEASURED,
        source="rent of 0.36 USD an hour",
        range_fraction=None,
        cost_usd=cost_usd,
    )


def reading(tenant: str, number: int, *samples: PowerSample, **changes: Any) -> PowerSampled:
    values: dict[str, Any] = {
        "tenant": tenant,
        "event_id": f"event-{changes.get('producer', 'agent-1')}-{number}",
        "occurred_at": T0 + timedelta(seconds=number),
        "host": "host-1",
        "producer": "agent-1",
        "sequence": number,
        "zone": "DE",
        "intensity_grams_per_kwh": 400.0,
        "intensity_kind": "typical",
        "intensity_source": "table 2025",
        "pue": 1.0,
        "samples": samples or (cpu_sample(number - 1),),
    }
    return PowerSampled(**(values | changes))


def started(tenant: str, run_id: str = RUN, **changes: Any) -> RunStarted:
    values: dict[str, Any] = {
        "tenant": tenant,
        "event_id": f"event-{run_id}-started",
        "occurred_at": T0,
        "run_id": run_id,
        "name": "digits",
        "host": "host-1",
        "provider": "local",
        "region": "host-1",
        "zone": "DE",
        "machine_type": "machine",
        "offer_id": "local/host-1/machine/free",
        "electricity_microusd_per_kwh": 150_000,
        "started_at": T0,
    }
    return RunStarted(**(values | changes))


def finished(tenant: str, run_id: str = RUN, **changes: Any) -> RunFinished:
    values: dict[str, Any] = {
        "tenant": tenant,
        "event_id": f"event-{run_id}-finished",
        "occurred_at": T0 + timedelta(seconds=30),
        "run_id": run_id,
        "state": RunState.SUCCEEDED,
        "metrics": {"accuracy": 0.97},
        "ended_at": T0 + timedelta(seconds=30),
    }
    return RunFinished(**(values | changes))


def offer(tenant: str, offer_id: str, **changes: Any) -> OfferChanged:
    provider, region, machine_type, market = offer_id.split("/")
    values: dict[str, Any] = {
        "tenant": tenant,
        "event_id": f"event-{offer_id}-{changes.get('price_microusd_per_hour', 0)}-{changes.get('available', True)}",
        "occurred_at": T0 - timedelta(hours=1),
        "offer_id": offer_id,
        "provider": provider,
        "region": region,
        "zone": "FR",
        "machine_type": machine_type,
        "market": Market(market),
        "vcpus": 4,
        "memory_gib": 16,
        "price_microusd_per_hour": 100_000,
        "power_watts_expected": 60,
        "pue": 1.2,
        "noted_at": T0 - timedelta(days=30),
        "source": "list price",
    }
    return OfferChanged(**(values | changes))


def day(tenant: str, zone: str, grams_per_kwh: float, **changes: Any) -> IntensityChanged:
    """A day whose hour h is at `grams_per_kwh + h`."""
    midnight = T0.replace(hour=0, minute=0)
    values: dict[str, Any] = {
        "tenant": tenant,
        "event_id": f"event-{zone}-{grams_per_kwh}",
        "occurred_at": T0 - timedelta(hours=1),
        "zone": zone,
        "source": "table 2025",
        "hours": tuple(
            HourIntensity(
                starts_at=midnight + timedelta(hours=hour),
                intensity_grams_per_kwh=grams_per_kwh + hour,
                range_fraction=0.2,
                kind=IntensityKind.TYPICAL,
            )
            for hour in range(24)
        ),
    }
    return IntensityChanged(**(values | changes))


def because(result: Batch | Malformed) -> str:
    assert isinstance(result, Malformed)
    return result.because
