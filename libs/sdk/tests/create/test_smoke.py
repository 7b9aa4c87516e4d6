"""A model is tried in a process apart: what it gives is told, and what it does to that process harms nobody."""

from pathlib import Path

import numpy as np
import pytest

from ergonaut.create.apart import Bounds, apart
from ergonaut.create.changes import with_free_batch
from ergonaut.create.inspection import inspect
from ergonaut.create.smoke import Trial, frees_batch, tried
from ergonaut.create.tensors import DRAWS, Spec, drawn
from ergonaut.errors import Refused

from .made_models import dice, endless, fixed_by_reshape, hungry, linear, mixing_rows, root, written

BOUNDS = Bounds(seconds=60)


def trial(made, folder: Path, example=None, bounds: Bounds = BOUNDS) -> Trial:
    return tried(written(folder / "m.onnx", made), inspect(made).inputs, example, folder, bounds)


def test_a_model_runs_on_drawn_inputs(tmp_path: Path) -> None:
    found = trial(linear(), tmp_path)
    assert found.results["y"].shape == (2, 3)
    assert found.deterministic
    assert not found.not_finite
    assert not found.is_given
    assert found.seconds_median > 0


def test_the_outputs_of_given_inputs_are_the_models(tmp_path: Path) -> None:
    rows = np.eye(4, dtype=np.float32)
    found = trial(linear(), tmp_path, {"x": rows})
    assert found.is_given
    np.testing.assert_allclose(found.results["y"], np.arange(12).reshape(4, 3) / 12, rtol=1e-6)


def test_nan_is_told_with_its_count(tmp_path: Path) -> None:
    found = trial(root(), tmp_path, {"x": np.array([[1, 4, -1, 9]], dtype=np.float32)})
    assert [(each.name, each.not_finite, each.values) for each in found.not_finite] == [("y", 1, 4)]


def test_a_model_that_rolls_dice_is_told(tmp_path: Path) -> None:
    assert not trial(dice(), tmp_path).deterministic


def test_a_model_that_never_ends_is_ended(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="running the model took longer than 3 s; --timeout sets"):
        trial(endless(), tmp_path, bounds=Bounds(seconds=3))


def test_a_model_that_wants_all_memory_gets_none(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"running the model failed: .*(more than 256 MiB|allocat)"):
        trial(hungry(), tmp_path, bounds=Bounds(seconds=60, memory_mib=256))


def test_a_process_that_dies_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As a library's own code would: the process is gone in the midst of the work.
    (tmp_path / "dying.py").write_text("import os; os.abort()\n")
    monkeypatch.chdir(tmp_path)
    request = {"source": "dying:model", "example": None}
    with pytest.raises(Refused, match="importing and converting the model ended the process: SIGABRT"):
        apart("module", request, BOUNDS, own_code=True)


def test_a_batch_axis_that_is_only_said_to_be_fixed_is_proven_free(tmp_path: Path) -> None:
    assert freed_why_not(linear(batch=1), tmp_path) == ""


@pytest.mark.parametrize(("made", "why"), [(fixed_by_reshape, "failed"), (mixing_rows, "rows change each other")])
def test_a_batch_axis_that_the_graph_fixes_stays(made, why: str, tmp_path: Path) -> None:
    assert why in freed_why_not(made(), tmp_path)


def freed_why_not(made, folder: Path) -> str:
    fixed, freed = written(folder / "fixed.onnx", made), written(folder / "freed.onnx", with_free_batch(made))
    return frees_batch(fixed, freed, inspect(made).inputs, folder, BOUNDS)


@pytest.mark.parametrize("datatype", ["BOOL", "INT8", "UINT64", "FP16", "FP64", "BYTES"])
def test_inputs_are_drawn_in_their_type_and_shape_and_are_the_same_each_time(datatype: str) -> None:
    spec = Spec("x", datatype, ("n", 3, ""))
    one, two = drawn([spec], DRAWS[0])["x"], drawn([spec], DRAWS[0])["x"]
    assert one.shape == (2, 3, 8)
    assert np.array_equal(one, two)


def test_an_input_too_large_to_draw_is_refused() -> None:
    with pytest.raises(Refused, match=r"x FP32 \[1000000, 1000000\] needs .* give --example"):
        drawn([Spec("x", "FP32", (1_000_000, 1_000_000))], DRAWS[0])
