"""Workflows that began under an older version must go on under this one: recorded histories are replayed, without a server."""

from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from ergonaut_orchestrator.workflows import Retraining, Rollout, RunJob, Serving

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.json"))


def test_there_are_histories_to_replay() -> None:
    assert {path.stem for path in HISTORIES} >= {"succeeded", "preempted-once", "cancelled", "paused-and-resumed"}


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
async def test_a_recorded_history_replays(path: Path) -> None:
    history = WorkflowHistory.from_json(path.stem, path.read_text())
    replayer = Replayer(workflows=[Retraining, Rollout, RunJob, Serving], data_converter=pydantic_data_converter)
    await replayer.replay_workflow(history)
