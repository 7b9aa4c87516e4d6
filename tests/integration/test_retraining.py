"""Drift, retraining in a clean hour, validation, canary, promotion on a shifted digits stream: the whole system and a real
training, on a Temporal whose time skips. The recipe is the example's; nothing but its waits, hours and minutes, is skipped.

The demo (`make demo-retrain`) is the same story with waits short enough to be lived through.
"""

import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from servers import Installation, installation
from temporalio.testing import WorkflowEnvironment

from ergonaut.client import AsyncClient
from ergonaut_common.testing import skipping_temporal_server

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "digits"))
from retrain import WATCHED, Story, until

SUNNY_ZONES = {"AU": 2, "ES": 12, "US-CAL-CISO": 20}
"""Zones of typical days whose cleanest hour is at noon of their sun, and when that is, UTC."""

ROWS_A_LOOK = 200
"""Rows that people send between two looks: some fifty requests, of which both versions get some."""

LEAD_SECONDS_MIN = 3600.0


def zone_of_a_later_noon(now: datetime) -> str:
    """The one whose noon is farthest ahead: twelve hours or more."""
    return max(SUNNY_ZONES, key=lambda zone: (SUNNY_ZONES[zone] - now.hour) % 24)


@pytest.fixture
async def skipping() -> AsyncIterator[WorkflowEnvironment]:
    async with skipping_temporal_server() as environment:
        yield environment


@pytest.fixture
async def watching(
    alone: None, skipping: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Installation]:
    """A system whose gateway looks for drift, whose machine stands where the sun shines later, and whose time skips."""
    for name, value in WATCHED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ERGONAUT_ZONE", zone_of_a_later_noon(datetime.now(UTC)))
    monkeypatch.setenv("ERGONAUT_TEMPORAL_ADDRESS", skipping.client.service_client.config.target_host)
    with installation(tmp_path / "home") as running:
        yield running


async def test_a_model_that_drifts_is_trained_again_in_a_clean_hour_and_the_better_one_takes_over_without_a_failed_request(
    watching: Installation, skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    connection = watching.connection()
    skipped: list[float] = []
    async with AsyncClient(connection) as client:

        async def skip(seconds: float) -> None:
            """Let the workflows' time pass; the requests in it are real."""
            skipped.append(seconds)
            await skipping.sleep(seconds)
            rows = story.stream.rows + ROWS_A_LOOK
            await until(lambda: story.stream.rows >= rows)

        story = Story(client, connection, tmp_path / "kept", waits={"within_seconds": 86_400.0}, let_pass=skip)
        await story.run()
        endpoint = (await client.endpoints.get("digits")).endpoint
        versions = await client.models.versions("digits")
        rollout = await client.rollouts.get("digits")
    assert (story.outcome.state, story.outcome.trigger, story.stream.failures) == ("promoted", "drift", [])
    assert max(skipped) > LEAD_SECONDS_MIN
    assert story.outcome.ended_at.ToSeconds() - story.outcome.began_at.ToSeconds() > max(skipped) + 2 * 60
    assert min(rollout.champion.labelled, rollout.canary.labelled) >= 200
    assert rollout.canary.wrong / rollout.canary.labelled < rollout.champion.wrong / rollout.champion.labelled
    assert [(route.name, route.version) for route in endpoint.routes] == [("main", "2")]
    assert {alias.name: alias.version for alias in versions.aliases} == {"champion": 2}
    [first, second] = versions.versions
    assert (second.run_id, second.lineage.HasField("energy_joules")) == (story.outcome.run_id, True)
    jobs = {job["job_id"]: job for job in watching.cli_json("jobs")}
    assert jobs[story.outcome.job_id]["run_id"] == story.outcome.run_id
    shown = watching.cli_json("retrain", "show", "digits")
    assert shown["outcomes"][0]["state"] == "promoted"
    watching.cli("retrain", "remove", "digits")
    assert first.run_id != second.run_id
