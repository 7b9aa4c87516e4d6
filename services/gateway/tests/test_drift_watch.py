"""A watch over rows: silent while nothing changes, told once when something does, on the digits that scikit-learn carries."""

import numpy as np
import pytest
from river import drift as river_drift
from sklearn.datasets import load_digits

from ergonaut.errors import Refused
from ergonaut_gateway.domain.drift.rule import Episode, Finding, Thresholds
from ergonaut_gateway.domain.drift.sketches import merged, reference_of
from ergonaut_gateway.domain.drift.watch import Drift, DriftWatch, Windows

DIGITS = load_digits().data
PIXELS = np.zeros(64, dtype=bool)
DETECTED_WITHIN_ROWS = 500

SHIFTS = {
    "inverted": lambda rows, _: 16.0 - rows,
    "noisy": lambda rows, rng: np.clip(rows + rng.normal(0, 4, rows.shape), 0, 16),
    "darker": lambda rows, _: 0.7 * rows,
    "missing": lambda rows, rng: np.where(rng.random(rows.shape) < 0.3, np.nan, rows),
}


class Stream:
    """Digits held out from the reference, drawn with replacement for ever."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        order = self.rng.permutation(len(DIGITS))
        self.reference, self._held_out = DIGITS[order[:900]], DIGITS[order[900:]]

    def rows(self, count: int) -> np.ndarray:
        return self._held_out[self.rng.integers(0, len(self._held_out), count)]

    def watch(self) -> DriftWatch:
        watch = DriftWatch(PIXELS, Windows(reference_rows=900), Thresholds())
        assert watch.observe(self.reference) == []
        return watch


def test_a_hundred_thousand_rows_without_drift_raise_no_alarm() -> None:
    stream = Stream(seed=1)
    watch = stream.watch()
    assert [drift for _ in range(100) for drift in watch.observe(stream.rows(1_000))] == []


@pytest.mark.parametrize("name", SHIFTS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_shift_is_found_within_five_hundred_rows_and_told_once(name: str, seed: int) -> None:
    stream = Stream(seed)
    watch = stream.watch()
    assert watch.observe(stream.rows(1_037)) == []
    (drift,) = watch.observe(SHIFTS[name](stream.rows(DETECTED_WITHIN_ROWS), stream.rng))
    assert drift.rows_window == 300
    assert drift.findings[0].value >= drift.findings[0].threshold
    assert watch.observe(SHIFTS[name](stream.rows(2_000), stream.rng)) == []
    assert watch.drifting


def test_an_episode_ends_when_all_is_as_before_and_the_next_is_told_again() -> None:
    stream = Stream(seed=4)
    watch = stream.watch()
    assert len(watch.observe(16.0 - stream.rows(600))) == 1
    assert watch.observe(stream.rows(2_000)) == []
    assert not watch.drifting
    assert len(watch.observe(16.0 - stream.rows(600))) == 1


@pytest.mark.parametrize("batch", [1, 7, 100, 1_000])
def test_how_rows_come_together_changes_nothing(batch: int) -> None:
    def told(size: int) -> list[Drift]:
        stream = Stream(seed=5)
        watch = stream.watch()
        rows = np.concatenate((stream.rows(1_000), 16.0 - stream.rows(1_000)))
        return [drift for at in range(0, len(rows), size) for drift in watch.observe(rows[at : at + size])]

    assert told(batch) == told(2_000)
    assert len(told(batch)) == 1


def test_two_workers_blocks_together_show_a_drift_that_neither_has_rows_enough_to_see() -> None:
    stream = Stream(seed=6)
    leader, worker = stream.watch(), stream.watch()
    assert leader.reference is not None
    worker.refer_to(leader.reference)
    assert leader.observe(16.0 - stream.rows(200)) == worker.observe(16.0 - stream.rows(200)) == []
    (block,) = worker.blocks_of(16.0 - stream.rows(100))
    assert leader.take(block) is not None
    assert leader.window is not None
    assert leader.window.rows == 300


def test_a_block_on_another_reference_is_refused() -> None:
    stream = Stream(seed=7)
    one, other = stream.watch(), DriftWatch(PIXELS, Windows(), Thresholds())
    other.refer_to(reference_of(stream.rows(500), PIXELS))
    (block,) = other.blocks_of(stream.rows(100))
    with pytest.raises(Refused, match="another reference"):
        one.take(block)


def test_a_new_category_that_takes_over_is_found_by_chi_squared() -> None:
    rng = np.random.default_rng(8)
    watch = DriftWatch(np.array([True]), Windows(reference_rows=1_000), Thresholds())
    usual = lambda count: rng.choice([1.0, 2.0, 3.0], p=[0.6, 0.3, 0.1], size=(count, 1))
    assert watch.observe(usual(20_000)) == []
    (drift,) = watch.observe(rng.choice([2.0, 77.0], size=(DETECTED_WITHIN_ROWS, 1)))
    assert drift.findings[0].statistic in ("psi", "jensen_shannon")


def test_a_watch_holds_a_bounded_number_of_rows_and_blocks() -> None:
    stream = Stream(seed=9)
    watch = stream.watch()
    for _ in range(20):
        watch.observe(stream.rows(999))
    assert watch.window is not None
    assert watch.window.rows <= 400


def test_distances_are_there_as_soon_as_there_is_a_window() -> None:
    stream = Stream(seed=10)
    watch = stream.watch()
    assert watch.distances() is None
    watch.observe(16.0 - stream.rows(300))
    distances = watch.distances()
    assert distances is not None
    assert distances.ks > 0.5


def test_rivers_detector_of_one_pixel_and_ours_speak_at_the_same_shift_and_not_before() -> None:
    stream = Stream(seed=11)
    # A pixel that is mostly dark, but not always, so that turned round it is mostly bright.
    pixel = int(np.argmin(np.abs(DIGITS.mean(axis=0) - 4.0)))
    calm, shifted = stream.rows(2_000)[:, [pixel]], 16.0 - stream.rows(DETECTED_WITHIN_ROWS)[:, [pixel]]
    detector = river_drift.KSWIN(alpha=1e-6, window_size=600, stat_size=300, seed=1)
    theirs = []
    for at, value in enumerate(np.concatenate((calm, shifted)).ravel()):
        detector.update(float(value))
        if detector.drift_detected:
            theirs.append(at)
    watch = DriftWatch(np.array([False]), Windows(), Thresholds())
    assert watch.observe(stream.reference[:, [pixel]]) + watch.observe(calm) == []
    assert len(watch.observe(shifted)) == 1
    assert len(theirs) >= 1
    assert all(at >= len(calm) for at in theirs)


def test_an_episode_needs_several_calm_checks_to_end() -> None:
    finding = Finding(0, "psi", 1.0, 0.25, 1e-9, 0.0, 1.0, 0.0, 0.0)
    episode = Episode()
    assert episode.begins([finding], calm=False)
    for _ in range(3):
        assert not any(episode.begins([], calm=True) for _ in range(4))
        assert not episode.begins([finding], calm=False)
    assert episode.open
    for _ in range(5):
        episode.begins([], calm=True)
    assert not episode.open


def test_the_window_is_the_sum_of_its_blocks() -> None:
    stream = Stream(seed=12)
    watch = stream.watch()
    blocks = watch.blocks_of(stream.rows(300))
    for block in blocks:
        watch.take(block)
    assert watch.window is not None
    np.testing.assert_array_equal(watch.window.counts, merged(blocks).counts)
