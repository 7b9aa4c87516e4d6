"""A whole gateway beside telemetry's agent, which meters it as a run: what both say of its energy agrees."""

import asyncio
import json
from pathlib import Path

import pytest
from nats.aio.msg import Msg
from prometheus_client.parser import text_string_to_metric_families

from ergonaut.events import PowerSampled, subject_of
from ergonaut_common.bus import open_bus
from ergonaut_common.settings import PlatformSettings
from ergonaut_common.testing import ServiceProcess, key_ring_file

from .onnx_models import doubling
from .test_process import X, deploy, healthy, made_site

pytestmark = pytest.mark.integration

AGREES_WITHIN = 0.15
"""The agent reads processes in ticks of 10 ms and a second apart; over some seconds of work little of that is left."""


async def test_what_requests_and_idling_used_is_what_telemetry_charges_the_gateways_run(
    nats_url: str, tmp_path: Path
) -> None:
    ring = key_ring_file(tmp_path, ("default",))
    site = made_site(nats_url, tmp_path / "gateway", ring, "default")
    own = {"ERGONAUT_RUN_ID": "gateway", "ERGONAUT_TENANT": "default", "ERGONAUT_METERED": "true"}
    site.process.environment.update(own, ERGONAUT_HOST="here", ERGONAUT_GATEWAY_TELEMETRY_HOST="here")
    settings = {"ERGONAUT_NATS_URL": nats_url, "ERGONAUT_HOST": "here"}
    agent = ServiceProcess("telemetry", tmp_path / "telemetry", settings, key_ring=ring)
    charged: list[PowerSampled] = []

    async def heard(message: Msg) -> None:
        charged.append(PowerSampled.model_validate_json(message.data))

    platform = PlatformSettings(nats_url=nats_url)
    with site.process.running(), agent.running():
        async with healthy(site) as stub, open_bus(platform, "test") as bus:
            await bus.connection.subscribe(subject_of(PowerSampled.TYPE, key="here"), cb=heard)
            await deploy(stub, site, doubling())
            await until_calibrated(site)
            before, seen = await told_joules(site), len(charged)
            await load(site, seconds=8.0)
            await until_samples(charged, len(charged) + 3)
            after = await told_joules(site)

    samples = [each for event in charged[seen:] for each in event.samples if each.run_id == "gateway"]
    joules = sum(each.energy_joules or 0.0 for each in samples if each.component == "cpu")
    assert joules > 1.0
    assert after - before == pytest.approx(joules, rel=AGREES_WITHIN)


async def load(site, *, seconds: float) -> None:
    until = asyncio.get_running_loop().time() + seconds
    body = json.dumps({"inputs": [X]})

    async def ask(http) -> None:
        while asyncio.get_running_loop().time() < until:
            assert (await http.post("/v2/models/doubling/infer", content=body)).status_code == 200

    async with site.http as http:
        await asyncio.gather(*(ask(http) for _ in range(8)))


async def told_joules(site) -> float:
    """All that the gateway tells, by what telemetry charges."""
    return sum(
        sample.value
        for family in await families(site)
        if family.name in ("ergonaut_inference_energy_joules", "ergonaut_inference_idle_energy_joules")
        for sample in family.samples
        if sample.name.endswith("_total") and sample.labels["method"] == "calibrated"
    )


async def families(site):
    async with site.http as http:
        answer = await http.get(f"http://{site.metrics_address}/metrics")
    return list(text_string_to_metric_families(answer.text))


async def until_calibrated(site) -> None:
    async with asyncio.timeout(30), site.http as http:
        while True:
            answer = await http.post("/v2/models/doubling/infer", json={"inputs": [X], "parameters": {"energy": True}})
            if answer.json()["parameters"]["energy_method"] == "calibrated":
                return
            await asyncio.sleep(0.2)


async def until_samples(charged: list[PowerSampled], count: int) -> None:
    async with asyncio.timeout(30):
        while len(charged) < count:
            await asyncio.sleep(0.05)
