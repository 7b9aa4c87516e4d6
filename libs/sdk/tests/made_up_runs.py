"""Made-up answers of the ledger, for the tests of reports and for looking at one."""

import math
import random
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from ergonaut.api.ledger.v1 import ledger_pb2 as pb
from ergonaut.jobs import Placement
from ergonaut.reports import RunReport, report_of

T0 = datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)
OWN = "local/desk/machine/free"


def stamp(at: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(at)
    return made


def component(name: str, joules: float | None, method: str = "model", **changes: Any) -> pb.ComponentFootprint:
    values: dict[str, Any] = {
        "component": name,
        "method": method,
        "source": "load times 65 W, as the CPU's data sheet says",
        "range_fraction": 0.3 if joules is not None else None,
        "energy_joules": joules,
        "carbon_grams_co2e": None if joules is None else joules / 3.6e6 * 381.0,
        "cost_usd": None if joules is None else joules / 3.6e6 * 0.15,
        "samples": 28,
    }
    return pb.ComponentFootprint(**(values | changes))


def footprint(
    run_id: str = "run-01kq4x7e1t9h2m8d5v3b6n0c2a", scale: float = 1.0, **run: Any
) -> pb.GetRunFootprintResponse:
    parts = [
        component("cpu", 931.4 * scale),
        component("dram", 118.2 * scale, source="3 W for 8 GiB", range_fraction=0.5),
        component("gpu0", None, "not-measured", source="no NVML: install the NVIDIA driver to measure it"),
        component("machine", None, "not-measured", source="rent of 0 USD an hour", cost_usd=0.0),
    ]
    told: dict[str, Any] = {
        "run_id": run_id,
        "job_id": "job-01kq4x7dwk",
        "name": "digits",
        "state": "succeeded",
        "started_at": stamp(T0),
        "ended_at": stamp(T0 + timedelta(seconds=28.4)),
        "provider": "local",
        "region": "desk",
        "machine_type": "machine",
        "zone": "DE",
        "metrics": {"accuracy": 0.9722222, "loss": 0.0834, "epochs": 40.0},
    }
    return pb.GetRunFootprintResponse(
        run=pb.Run(**(told | run)),
        components=parts,
        energy_joules=sum(part.energy_joules for part in parts),
        energy_joules_range=sum(part.energy_joules * part.range_fraction for part in parts),
        carbon_grams_co2e=sum(part.carbon_grams_co2e for part in parts),
        cost_usd=sum(part.cost_usd for part in parts),
        intensity_grams_per_kwh=381.0,
        intensity_sources=["typical: Ember 2024 yearly average, bent by a typical day"],
        samples=sum(part.samples for part in parts),
    )


def power(scale: float = 1.0) -> list[pb.PowerPoint]:
    noise = random.Random(3)
    points = []
    for second in range(28):
        at = stamp(T0 + timedelta(seconds=second))
        watts = 8 + 30 / (1 + math.exp(3 - second)) + noise.uniform(-2, 2)
        points.append(pb.PowerPoint(starts_at=at, component="cpu", power_watts=watts * scale))
        points.append(pb.PowerPoint(starts_at=at, component="dram", power_watts=4.2 * scale))
    return points


def place(offer_id: str, zone: str, cost_usd: float, grams: float, at: datetime = T0) -> pb.Elsewhere:
    provider, region, machine_type, _ = offer_id.split("/")
    return pb.Elsewhere(
        offer_id=offer_id,
        provider=provider,
        region=region,
        machine_type=machine_type,
        zone=zone,
        starts_at=stamp(at),
        cost_usd=cost_usd,
        carbon_grams_co2e=grams,
        intensity_kind="typical",
    )


SITES = """
hetzner/fsn1/cx32 DE 381 0.0108 1.1
hetzner/hel1/cx32 FI 72 0.0108 1.1
aws/eu-north-1/c7i.xlarge SE 36 0.19 1.15
aws/eu-central-1/c7i.xlarge DE 381 0.2 1.35
aws/us-east-1/c7i.xlarge US-MIDA 384 0.1785 1.2
aws/ap-southeast-2/c7i.xlarge AU-NSW 550 0.23 1.15
gcp/europe-west9/e2-standard-4 FR 41 0.155 1.09
gcp/us-central1/e2-standard-4 US-MIDW 455 0.134 1.1
gcp/asia-south1/e2-standard-4 IN 708 0.16 1.12
azure/northeurope/D4s_v5 IE 280 0.214 1.18
azure/swedencentral/D4s_v5 SE 36 0.204 1.16
oci/eu-frankfurt-1/VM.Standard.E5.Flex DE 381 0.1 1.3
lambda/us-west-2/gpu_1x_a10 US-NW 290 0.75 1.25
runpod/eu-ro-1/rtx-4090 RO 246 0.69 1.3
vastai/pl/rtx-3090 PL 615 0.22 1.5
"""
"""Offer, zone, grams per kWh, dollars an hour, PUE; made up."""


def elsewhere(scale: float = 1.0) -> pb.EstimateElsewhereResponse:
    kwh = 1049.6 * scale / 3.6e6
    places = [place(OWN, "DE", kwh * 0.15, kwh * 381)]
    for line in SITES.split("\n")[1:-1]:
        name, zone, grams_per_kwh, usd_per_hour, pue = line.split()
        rent = float(usd_per_hour) * (1.0 if name.startswith("hetzner") else 1 / 60)
        grams = kwh * float(grams_per_kwh) * float(pue)
        places.append(place(f"{name}/on-demand", zone, rent, grams))
        if not name.startswith(("hetzner", "lambda")):
            places.append(place(f"{name}/spot", zone, rent * 0.38, grams))
    places.sort(key=lambda each: each.cost_usd)
    hours = [place(OWN, "DE", kwh * 0.15, kwh * day_shape(hour), T0.replace(hour=hour)) for hour in range(24)]
    return pb.EstimateElsewhereResponse(
        places=places, hours=hours, method="The run's measured energy and time are taken over unchanged."
    )


def day_shape(hour: int) -> float:
    """Grams per kWh of a grid with much sun: cleanest at midday, dirtiest in the evening; 381 at the run's own hour."""
    noon = 381 - 70 * math.cos((12 - 14) / 24 * 2 * math.pi)
    return 381 - 70 * math.cos((hour - 14) / 24 * 2 * math.pi) + 381 - noon


def placement() -> Placement:
    return Placement(
        offer_id=OWN,
        provider="local",
        region="desk",
        machine_type="machine",
        starts_at=T0,
        cost_usd_expected=0.00005,
        energy_joules_expected=1300,
        carbon_grams_co2e_expected=0.13,
        because="cheapest and cleanest within the deadline",
    )


def report(scale: float = 1.0, **run: Any) -> RunReport:
    return report_of(footprint(scale=scale, **run), power(scale), elsewhere(scale), placement())
