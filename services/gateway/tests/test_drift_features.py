"""Which features tensors have, and how their rows are written."""

import numpy as np
import pytest
from hypothesis import given, settings

from ergonaut_gateway.domain.drift.features import ELEMENTS_MAX, Features, features_of
from ergonaut_gateway.domain.drift.sketches import FEATURES_MAX
from ergonaut_gateway.domain.models import TensorSpec
from ergonaut_gateway.domain.tensors import DTYPES, bf16_of, datatype_of, object_array

from .drawn_tensors import tensors


def written(features: Features, given: dict[str, np.ndarray], room: int | None = None) -> np.ndarray:
    rows = features.rows_of(given)
    target = np.empty((rows if room is None else min(rows, room), len(features.names)), dtype=features.dtype)
    features.write(given, rows, target)
    return target


def test_small_tensors_are_written_element_by_element_under_names_that_say_where() -> None:
    given = {"x": np.arange(8, dtype="<f4").reshape(2, 2, 2), "label": np.array([7, 8], dtype="<i8")}
    specs = [TensorSpec("x", "FP32", (-1, 2, 2)), TensorSpec("label", "INT64", (-1,))]
    features = features_of("inputs", specs, given)
    assert features.names == ("inputs.x[0,0]", "inputs.x[0,1]", "inputs.x[1,0]", "inputs.x[1,1]", "inputs.label")
    np.testing.assert_array_equal(written(features, given), [[0, 1, 2, 3, 7], [4, 5, 6, 7, 8]])


def test_a_tensor_without_a_batch_axis_is_one_row() -> None:
    given = {"x": np.ones((3, 2), dtype="<f4")}
    assert written(features_of("inputs", [TensorSpec("x", "FP32", (3, 2))], given), given).shape == (1, 6)


def test_large_and_ragged_rows_become_a_few_figures() -> None:
    given = {"picture": np.full((2, ELEMENTS_MAX + 1), 3, dtype="u1"), "tokens": np.zeros((2, 0), dtype="<i8")}
    specs = [TensorSpec("picture", "UINT8", (-1, ELEMENTS_MAX + 1)), TensorSpec("tokens", "INT64", (-1, -1))]
    features = features_of("inputs", specs, given)
    assert features.names[0] == "inputs.picture.mean"
    nan = float("nan")
    expected = [3, 0, 3, 3, ELEMENTS_MAX + 1, nan, nan, nan, nan, 0]
    np.testing.assert_array_equal(written(features, given), [expected, expected])


def test_texts_are_categories_and_the_same_text_is_the_same_number_everywhere() -> None:
    given = {"city": object_array([b"Bern", b"Rome", b"Bern"]).reshape(3, 1)}
    features = features_of("inputs", [TensorSpec("city", "BYTES", (-1, 1))], given)
    assert features.names == ("inputs.city",)
    assert features.categorical.all()
    np.testing.assert_array_equal(written(features, given).ravel(), [3913683274.0, 3997176853.0, 3913683274.0])


def test_tensors_that_do_not_go_together_or_lack_one_have_no_rows() -> None:
    given = {"x": np.ones((2, 1), dtype="<f4"), "y": np.ones((2, 1), dtype="<f4")}
    features = features_of("outputs", [TensorSpec(name, "FP32", (-1, 1)) for name in given], given)
    assert features.rows_of({"x": given["x"]}) == 0
    assert features.rows_of(given | {"y": np.ones((3, 1), dtype="<f4")}) == 0


def test_rows_beyond_the_room_are_left_out_evenly() -> None:
    given = {"x": np.arange(10, dtype="<f4")}
    features = features_of("inputs", [TensorSpec("x", "FP32", (-1,))], given)
    np.testing.assert_array_equal(written(features, given, room=5).ravel(), [0, 2, 4, 6, 8])


def test_the_number_of_features_is_bounded() -> None:
    specs = [TensorSpec(f"x{at}", "FP32", (-1, 1_000)) for at in range(10)]
    given = {spec.name: np.ones((1, 1_000), dtype="<f4") for spec in specs}
    assert len(features_of("inputs", specs, given).names) == FEATURES_MAX // 1_000 * 1_000


@pytest.mark.parametrize("datatype", DTYPES)
def test_every_datatype_can_be_watched(datatype: str) -> None:
    one = {"BYTES": object_array([b"1"]), "BF16": bf16_of(np.ones(1, dtype="<f4"))}
    tensor = one[datatype] if datatype in one else np.ones(1, dtype=DTYPES[datatype])
    features = features_of("inputs", [TensorSpec("x", datatype, (-1,))], {"x": tensor})
    assert written(features, {"x": tensor}).item() == (2212294583.0 if datatype == "BYTES" else 1.0)


@settings(deadline=None)
@given(tensors())
def test_any_tensor_can_be_watched(tensor: np.ndarray) -> None:
    spec = TensorSpec("x", datatype_of(tensor), tuple(tensor.shape))
    written(features_of("inputs", [spec], {"x": tensor}), {"x": tensor})
