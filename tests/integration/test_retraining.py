"""Drift, retraining, validation, canary, promotion on a shifted digits stream: the whole system, a real training, real waits.

What the workflows wait for by hours is skipped in services/orchestrator/tests; here every wait is short.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import Installation, installation

from ergonaut.client import AsyncClient

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "digits"))
from retrain import WATCHED, Story


@pytest.fixture
def watching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    """A system whose gateway looks for drift."""
    for name, value in WATCHED.items():
        monkeypatch.setenv(name, value)
    with installation(tmp_path / "home") as running:
        yield running


async def test_a_model_that_drifts_is_trained_again_and_the_better_one_takes_over_without_a_failed_request(
    watching: Installation, tmp_path: Path
) -> None:
    connection = watching.connection()
    async with AsyncClient(connection) as client:
        story = Story(client, connection, tmp_path / "kept")
        await story.run()
        endpoint = (await client.endpoints.get("digits")).endpoint
        versions = await client.models.versions("digits")
    assert (story.outcome.state, story.outcome.trigger, story.stream.failures) == ("promoted", "drift", [])
    assert [(route.name, route.version) for route in endpoint.routes] == [("main", "2")]
    assert {alias.name: alias.version for alias in versions.aliases} == {"champion": 2}
    [first, second] = versions.versions
    assert (second.run_id, second.lineage.HasField("energy_joules")) == (story.outcome.run_id, True)
    jobs = {job["job_id"]: job for job in watching.cli_json("jobs")}
    assert jobs[story.outcome.job_id]["run_id"] == story.outcome.run_id
    shown = watching.cli_json("retrain", "show", "digits")
    assert shown["outcomes"][0]["state"] == "promoted"
    assert "promoted" in watching.cli("rollout", "list").stdout
    assert [each["model"] for each in watching.cli_json("retrain", "list")] == ["digits"]
    watching.cli("retrain", "remove", "digits")
    assert watching.cli_json("retrain", "list") == []
    assert first.run_id != second.run_id
