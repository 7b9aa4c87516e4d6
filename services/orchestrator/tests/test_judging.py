"""What becomes of a trained model in the world, over fakes."""

import asyncio

import pytest

from ergonaut_common.clock import FakeClock
from ergonaut_orchestrator.domain.trials import Lineage, Trained
from ergonaut_orchestrator.fakes import FakeAnnouncer, FakeArtifacts, FakeLineages, FakeServedModels
from ergonaut_orchestrator.service import Judging

TRAINED = Trained("default", "digits", "run-1", "run-1/model.onnx")


@pytest.mark.parametrize(("is_away", "late_for"), [(True, 0), (False, 1_000)], ids=["away", "does not hear of the run"])
async def test_a_ledger_that_says_nothing_keeps_no_model_from_being_served_and_what_training_used_is_not_told(
    is_away: bool, late_for: int
) -> None:
    models, artifacts, clock = FakeServedModels(), FakeArtifacts(), FakeClock()
    lineages = FakeLineages(Lineage(energy_joules=120.0))
    lineages.is_away, lineages.late_for = is_away, late_for
    artifacts.kept["default", "run-1/model.onnx"] = b"model"
    judging = Judging(models, artifacts, lineages, FakeAnnouncer(), clock)
    deploying = asyncio.create_task(judging.deploy(TRAINED))
    await clock.advance(60)
    assert deploying.done()
    assert (await deploying).challenger == 1
    [upload] = models.uploads
    assert upload.lineage == Lineage()
