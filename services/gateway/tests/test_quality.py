"""Quality on the fakes: drift told once, references shared, labels joined, nothing that can harm a request."""

import asyncio
from datetime import UTC, datetime

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from ergonaut.errors import NotFound, Refused
from ergonaut.events import DriftFound, QualityChanged
from ergonaut_common.clock import FakeClock
from ergonaut_gateway.domain.inference import InferenceRequest
from ergonaut_gateway.domain.models import ModelRecord, Signature, TensorSpec
from ergonaut_gateway.domain.quality import Labelled
from ergonaut_gateway.fakes import FakeAnnouncer, FakeReferences
from ergonaut_gateway.service import drifts as drifts_module
from ergonaut_gateway.service.drifts import Watching
from ergonaut_gateway.service.labels import Keeping
from ergonaut_gateway.service.quality import Quality

SIGNATURE = Signature(
    (TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("label", "INT64", (-1,)), TensorSpec("p", "FP32", (-1, 2)))
)
WATCHING = Watching(rows_per_second=10_000)
KEEPING = Keeping(predictions_max=10_000)


def record(version: int = 1, name: str = "digits") -> ModelRecord:
    return ModelRecord("default", name, version, "sha256-00", 7, "file", SIGNATURE, datetime(2026, 1, 1, tzinfo=UTC))


class World:
    """What the gateways of these tests share, and batches that come to them."""

    def __init__(self) -> None:
        self.announcer, self.references, self.clock = FakeAnnouncer(), FakeReferences(), FakeClock()
        self._rng = np.random.default_rng(1)

    def quality(self, watching: Watching = WATCHING, keeping: Keeping = KEEPING) -> Quality:
        return Quality(self.announcer, self.references, self.clock, watching=watching, keeping=keeping)

    def batch(self, rows: int, shift: float = 0.0) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        x = self._rng.normal(shift, 1.0, (rows, 4)).astype("<f4")
        # The model is as little sure as before when x moves, so that only the inputs drift.
        label = (x[:, 0] > shift).astype("<i8")
        return {"x": x}, {"label": label, "p": np.stack((1.0 - label, label), axis=1).astype("<f4")}

    async def send(self, quality: Quality, rows: int, shift: float = 0.0, version: int = 1) -> None:
        for _ in range(rows // 20):
            quality.observe(record(version), *self.batch(20, shift))
        await quality.check()

    def told(self, kind: type = DriftFound) -> list:
        return [event for event in self.announcer.told if isinstance(event, kind)]


@pytest.fixture
def world() -> World:
    return World()


async def test_drift_is_told_once_an_episode_with_what_an_operator_needs(world: World) -> None:
    quality = world.quality()
    await world.send(quality, 3_000)
    assert world.told() == []
    for _ in range(3):
        await world.send(quality, 500, shift=3.0)
    (found,) = world.told()
    assert (found.tenant, found.model, found.version, found.side) == ("default", "digits", 1, "inputs")
    assert found.feature.startswith("inputs.x[")
    assert (found.features_drifting, found.features_watched, len(found.others)) == (4, 4, 3)
    assert (found.reference_rows, found.window_rows) == (1_000, 300)
    assert found.value >= found.threshold
    assert found.mean_window - found.mean_reference > 1.0
    assert found.subject == "ergonaut.v1.default.models.drift.found.digits"


async def test_what_a_model_says_is_watched_apart_from_what_it_sees(world: World) -> None:
    quality = world.quality()
    await world.send(quality, 3_000)
    for _ in range(30):
        inputs, outputs = world.batch(20)
        quality.observe(record(), inputs, outputs | {"label": np.ones(20, dtype="<i8")})
    await quality.check()
    (found,) = world.told()
    assert (found.side, found.feature) == ("outputs", "outputs.label")


async def test_versions_are_watched_apart(world: World) -> None:
    quality = world.quality()
    await world.send(quality, 3_000)
    await world.send(quality, 3_000, shift=3.0, version=2)
    assert world.told() == []


async def test_after_a_start_the_reference_is_still_that_of_before(world: World) -> None:
    await world.send(world.quality(), 2_000)
    await world.send(world.quality(), 1_000, shift=3.0)
    assert len(world.told()) == 1


async def test_without_a_place_for_references_each_process_has_its_own(world: World) -> None:
    world.references.away = True
    quality = world.quality()
    await world.send(quality, 2_000)
    await world.send(quality, 1_000, shift=3.0)
    assert len(world.told()) == 1


async def test_a_given_reference_takes_the_place_of_the_first_rows(world: World) -> None:
    quality = world.quality()
    quality.drifts.refer_to(record(), "inputs", world.batch(2_000)[0])
    await world.send(quality, 500, shift=3.0)
    assert world.told()[0].reference_rows == 2_000
    with pytest.raises(Refused, match="lacks some"):
        quality.drifts.refer_to(record(2), "outputs", {})
    with pytest.raises(Refused, match="no rows"):
        quality.drifts.refer_to(record(), "inputs", {"x": np.empty((0, 4), dtype="<f4")})


async def test_a_worker_that_adds_up_what_all_count_finds_what_none_has_rows_enough_to_see(world: World) -> None:
    leader, worker = world.quality(), world.quality()
    await world.send(leader, 1_000)
    assert worker.drifts
    await world.send(worker, 100, shift=3.0)
    assert worker.drifts.exported(record(), "inputs") is None
    await world.send(leader, 200, shift=3.0)
    await world.send(worker, 100, shift=3.0)
    counted = worker.drifts.exported(record(), "inputs")
    assert counted is not None
    assert world.told() == []
    assert leader.drifts.absorb(record(), "inputs", counted) is not None
    assert worker.drifts.exported(record(), "inputs") is None
    with pytest.raises(NotFound):
        worker.drifts.exported(record(9), "inputs")


async def test_a_flood_is_thinned_and_costs_no_more_memory(world: World) -> None:
    quality = world.quality(Watching(rows_per_second=500))
    for _ in range(3):
        await world.send(quality, 10_000)
    ((_, inputs), _) = quality.drifts.states()
    assert 0 < inputs.rows <= 3_000
    unobserved = inputs.rows_unobserved
    await world.send(quality, 10_000)
    ((_, inputs), _) = quality.drifts.states()
    assert inputs.rows_unobserved == unobserved


async def test_outputs_asked_for_one_by_one_are_not_missing_values(world: World) -> None:
    quality = world.quality()
    await world.send(quality, 2_000)
    for _ in range(50):
        inputs, outputs = world.batch(20)
        quality.observe(record(), inputs, {"label": outputs["label"]})
    await quality.check()
    assert world.told() == []


async def test_the_number_of_watched_versions_is_bounded_and_idle_ones_make_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drifts_module, "VERSIONS_MAX", 2)
    quality = world.quality()
    for version in (1, 2, 3):
        quality.observe(record(version), *world.batch(20))
    assert {key[2] for key, _ in quality.drifts.states()} == {1, 2}
    await quality.check()
    quality.observe(record(2), *world.batch(20))
    quality.observe(record(3), *world.batch(20))
    assert {key[2] for key, _ in quality.drifts.states()} == {2, 3}


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"x": None},
        {"x": np.float32(1)},
        {"x": np.ones((2, 2), dtype="<c8")},
        {"x": np.array([[b"a"]], dtype=object)},
        {"x": np.ones((0, 4))},
    ],
)
async def test_nothing_that_comes_can_make_a_hook_raise(world: World, tensors: dict) -> None:
    quality = world.quality()
    await world.send(quality, 200)
    for version in (1, 2):
        quality.observe(record(version), tensors, tensors)
        quality.answered(record(version), InferenceRequest("id", tensors), tensors)
    await quality.check()


async def test_what_cannot_be_told_waits(world: World) -> None:
    quality = world.quality()
    await world.send(quality, 2_000)
    world.announcer.away = True
    await world.send(quality, 1_000, shift=3.0)
    assert world.told() == []
    world.announcer.away = False
    await quality.check()
    assert len(world.told()) == 1


async def test_checks_come_every_so_many_seconds(world: World) -> None:
    quality = world.quality()
    await world.send(quality, 2_000)
    checking = asyncio.create_task(quality.keep_checking())
    for _ in range(50):
        quality.observe(record(), *world.batch(20, 3.0))
    await world.clock.advance(1)
    assert world.told() == []
    await world.clock.advance(1)
    while not world.told():
        await asyncio.sleep(0)
    checking.cancel()


async def label(world: World, quality: Quality, begin: int, rows: int, *, right: float) -> dict[Labelled, int]:
    """Answer requests of one row, and say that this share of them was right."""
    truths = {}
    for at in range(begin, begin + rows):
        inputs, outputs = world.batch(1)
        quality.answered(record(), InferenceRequest(f"id-{at}", inputs), outputs)
        predicted = int(outputs["label"][0])
        truths[f"id-{at}"] = predicted if at % 100 < right * 100 else 1 - predicted
    return await quality.label("default", "digits", truths)


async def test_a_model_that_gets_worse_is_told_when_its_labels_come(world: World) -> None:
    quality = world.quality()
    assert await label(world, quality, 0, 1_000, right=0.95) == {Labelled.SCORED: 1_000}
    assert world.told(QualityChanged) == []
    await label(world, quality, 1_000, 1_000, right=0.5)
    changed = {event.metric: event for event in world.told(QualityChanged)}
    assert set(changed) == {"accuracy", "log_loss", "brier"}
    assert changed["accuracy"].is_worse
    assert changed["accuracy"].value_high < changed["accuracy"].baseline_low
    assert changed["accuracy"].baseline == 0.95


async def test_labels_that_come_twice_or_for_nothing_change_nothing(world: World) -> None:
    quality = world.quality()
    inputs, outputs = world.batch(2)
    quality.answered(record(), InferenceRequest("id", inputs), outputs)
    truths = {"id.0": int(outputs["label"][0]), "id.1": "text", "id.2": 1}
    expected = {Labelled.SCORED: 1, Labelled.UNFIT: 1, Labelled.UNKNOWN: 1}
    assert await quality.label("default", "digits", truths) == expected
    assert (await quality.label("default", "digits", truths))[Labelled.REPEATED] == 1
    with pytest.raises(NotFound, match="wait for labels"):
        await quality.label("default", "other", truths)


async def test_what_was_predicted_stays_although_the_memory_of_the_outputs_is_used_again(world: World) -> None:
    quality = world.quality()
    inputs, outputs = world.batch(1)
    predicted = int(outputs["label"][0])
    quality.answered(record(), InferenceRequest("id", inputs), outputs)
    outputs["label"][:] = 1 - predicted
    await quality.label("default", "digits", {"id": predicted})
    ((_, _, interval), *_) = quality.labels.figures()
    assert interval.value == 1.0


async def test_large_outputs_are_not_kept_whole(world: World) -> None:
    quality = world.quality()
    shares = np.zeros((1, 100_000), dtype="<f4")
    shares[0, 7] = 1.0
    quality.answered(record(), InferenceRequest("id", world.batch(1)[0]), {"p": shares})
    assert await quality.label("default", "digits", {"id": 7}) == {Labelled.SCORED: 1}


async def test_a_label_for_outputs_that_predict_nothing_does_not_fit(world: World) -> None:
    quality = world.quality()
    quality.answered(record(), InferenceRequest("id", world.batch(1)[0]), {"hidden": np.ones((1, 2, 3))})
    assert await quality.label("default", "digits", {"id": 7}) == {Labelled.UNFIT: 1}


async def test_when_it_is_off_nothing_is_kept(world: World) -> None:
    quality = world.quality(Watching(), Keeping())
    assert not quality.is_on
    await world.send(quality, 2_000)
    await world.send(quality, 2_000, shift=3.0)
    quality.answered(record(), InferenceRequest("id", world.batch(1)[0]), world.batch(1)[1])
    assert world.announcer.told == []
    assert list(quality.drifts.states()) == []


async def test_a_reference_may_be_given_although_nothing_is_watched(world: World) -> None:
    quality = world.quality(Watching())
    quality.drifts.refer_to(record(), "inputs", world.batch(100)[0])
    await quality.check()
    assert world.announcer.told == []


async def test_a_scrape_shows_distances_and_scores(world: World) -> None:
    quality, registry = world.quality(), CollectorRegistry()
    registry.register(quality)
    await world.send(quality, 2_000)
    await world.send(quality, 1_000, shift=3.0)
    await label(world, quality, 0, 100, right=0.9)
    named = {"tenant": "default", "model": "digits", "version": "1"}
    sides = named | {"side": "inputs"}
    assert registry.get_sample_value("ergonaut_drift_open", sides) == 1.0
    assert registry.get_sample_value("ergonaut_drift_distance", sides | {"statistic": "ks"}) > 0.5
    assert registry.get_sample_value("ergonaut_drift_rows_compared", sides) == 2_000
    assert registry.get_sample_value("ergonaut_quality_score", named | {"metric": "accuracy"}) == 0.9
