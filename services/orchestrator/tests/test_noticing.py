"""What the gateway finds of a model reaches the workflow that retrains it, where there is one."""

import pytest
from worlds import FakeWorld

from ergonaut.errors import Unavailable
from ergonaut.events import DriftFound, QualityChanged
from ergonaut.retraining import Drifted
from ergonaut_orchestrator.service import Noticing

DRIFT = DriftFound(
    tenant="default", model="digits", version=3, side="inputs", feature="inputs.X[12]", statistic="psi", value=0.4,
    threshold=0.2, p_value=1e-6, window_rows=500, reference_rows=1000, rows=2000, features_drifting=9, features_watched=64,
)  # fmt: skip


def quality(is_worse: bool) -> QualityChanged:
    return QualityChanged(
        tenant="default", model="digits", version=3, metric="accuracy", is_worse=is_worse, value=0.7, value_low=0.6,
        value_high=0.8, baseline=0.95, baseline_low=0.9, baseline_high=0.97, window_rows=200, baseline_rows=200,
    )  # fmt: skip


async def test_drift_is_passed_on_to_the_models_retraining_under_the_events_id(fakes: FakeWorld) -> None:
    fakes.workflows.live.add("retraining/default/digits")
    await Noticing(fakes.workflows).drift_found(DRIFT)
    [(workflow_id, signal, drifted)] = fakes.workflows.asked
    assert isinstance(drifted, Drifted)
    assert (workflow_id, signal) == ("retraining/default/digits", "drifted")
    assert (drifted.event_id, drifted.version) == (DRIFT.event_id, 3)
    assert drifted.because == "inputs.X[12] drifts: psi 0.4 of 0.2, 9 of 64 features"


async def test_a_model_that_does_worse_is_passed_on_and_one_that_does_better_is_not(fakes: FakeWorld) -> None:
    fakes.workflows.live.add("retraining/default/digits")
    for is_worse in (False, True):
        await Noticing(fakes.workflows).quality_changed(quality(is_worse))
    [(_, _, drifted)] = fakes.workflows.asked
    assert drifted.because == "accuracy 0.7 where it was 0.95, on 200 labelled rows"


async def test_a_model_that_nobody_retrains_is_fine(fakes: FakeWorld) -> None:
    await Noticing(fakes.workflows).drift_found(DRIFT)
    assert fakes.workflows.asked == []


async def test_drift_waits_for_a_temporal_that_is_away(fakes: FakeWorld) -> None:
    fakes.workflows.away_for = 1
    with pytest.raises(Unavailable):
        await Noticing(fakes.workflows).drift_found(DRIFT)
