"""Tensors and their raw form: what goes in comes out, and what is malformed is refused with the field's name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergonaut.errors import Refused
from ergonaut_gateway.domain.inference import InferenceRequest, check_inputs, outputs_wanted, row_count
from ergonaut_gateway.domain.models import Signature, TensorSpec
from ergonaut_gateway.domain.tensors import (
    AXIS_MAX,
    DTYPES,
    RANK_MAX,
    Tensor,
    bf16_of,
    datatype_of,
    float32_of,
    from_raw,
    to_raw,
)

from .drawn_tensors import same, tensors

SIGNATURE = Signature(
    inputs=(TensorSpec("x", "FP32", (-1, 3)), TensorSpec("scale", "FP32", (1,))),
    outputs=(TensorSpec("y", "FP32", (-1, 3)), TensorSpec("z", "INT64", (-1,))),
)


@given(tensors())
def test_any_tensor_survives_its_raw_form(tensor: Tensor) -> None:
    assert same(from_raw(to_raw(tensor), datatype_of(tensor), tensor.shape, field="x"), tensor)


@given(st.floats(width=32))
def test_a_number_becomes_the_bf16_that_is_nearest(number: float) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="the reference for BF16 is not installed")
    given_number = np.array([number], dtype="<f4")
    expected = given_number.astype(ml_dtypes.bfloat16).astype("<f4")
    np.testing.assert_array_equal(float32_of(bf16_of(given_number)), expected)


def test_a_tensor_that_begins_amid_a_word_is_given_aligned() -> None:
    body = b"." + np.arange(4, dtype="<f8").tobytes()
    tensor = from_raw(memoryview(body)[1:], "FP64", [4], field="x")
    assert tensor.flags.aligned
    np.testing.assert_array_equal(tensor, [0, 1, 2, 3])


def test_a_tensor_that_begins_with_a_word_is_read_where_it_lies() -> None:
    body = np.arange(4, dtype="<f8").tobytes()
    assert np.shares_memory(from_raw(body, "FP64", [4], field="x"), np.frombuffer(body, np.uint8))


@given(st.binary(max_size=64), st.sampled_from([*DTYPES, "FP8"]), st.lists(st.integers(-2, 5), max_size=4))
def test_any_bytes_are_a_tensor_or_are_refused(raw: bytes, datatype: str, shape: list[int]) -> None:
    try:
        tensor = from_raw(raw, datatype, shape, field="inputs.x")
    except Refused:
        return
    assert to_raw(tensor) == raw


@pytest.mark.parametrize(
    ("raw", "datatype", "shape", "message"),
    [
        (b"", "FP32", [1], "inputs.x: 0 bytes were given, FP32 of shape [1] has 4"),
        (b"\0" * 4, "FP33", [1], "inputs.x.datatype: 'FP33' is not one of BOOL, INT8"),
        (b"\2", "BOOL", [1], "inputs.x: a BOOL is a byte 0 or 1"),
        (b"\1\0\0", "BYTES", [1], "inputs.x: ends within an element's length"),
        (b"\2\0\0\0a", "BYTES", [1], "inputs.x: ends within an element"),
        (b"\1\0\0\0a", "BYTES", [2], "inputs.x: 1 elements were given, the shape [2] has 2"),
        (b"", "FP32", [0, -1], "inputs.x.shape: [0, -1] has an axis outside 0 to"),
        (b"", "FP32", [0, AXIS_MAX + 1], "inputs.x.shape: [0, 2147483648] has an axis outside 0 to"),
        (b"", "FP32", [AXIS_MAX, AXIS_MAX, AXIS_MAX, 0], "inputs.x.shape: [2147483647, 2147483647,"),
        (b"", "FP32", [1] * (RANK_MAX + 1), "inputs.x.shape: has 17 axes, at most 16 are taken"),
    ],
)
def test_raw_that_does_not_fit_is_refused_with_the_reason(
    raw: bytes, datatype: str, shape: list[int], message: str
) -> None:
    with pytest.raises(Refused) as refused:
        from_raw(raw, datatype, shape, field="inputs.x")
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": (4, 3)}, "inputs.scale: is missing; the model takes x, scale"),
        ({"x": (4, 3), "scale": (1,), "w": (1,)}, "inputs.w: the model has no such input; it takes x, scale"),
        ({"x": (4, 2), "scale": (1,)}, "inputs.x.shape: is [4, 2], the model takes [-1, 3] (-1 is any length)"),
        ({"x": (3,), "scale": (1,)}, "inputs.x.shape: is [3], the model takes [-1, 3] (-1 is any length)"),
    ],
)
def test_inputs_that_the_model_does_not_take_are_named(inputs: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(Refused) as refused:
        check_inputs({name: np.zeros(shape, dtype="<f4") for name, shape in inputs.items()}, SIGNATURE)
    assert str(refused.value) == message


def test_an_input_of_another_datatype_is_named() -> None:
    inputs = {"x": np.zeros((1, 3), dtype="<f8"), "scale": np.zeros(1, dtype="<f4")}
    with pytest.raises(Refused, match=r"^inputs\.x\.datatype: is FP64, the model takes FP32$"):
        check_inputs(inputs, SIGNATURE)


def test_all_outputs_are_given_where_none_is_named_and_else_those_named_in_their_order() -> None:
    assert outputs_wanted(InferenceRequest("", {}), SIGNATURE) == ("y", "z")
    assert outputs_wanted(InferenceRequest("", {}, ("z", "y")), SIGNATURE) == ("z", "y")
    with pytest.raises(Refused, match=r"^outputs\.q: the model has no such output; it gives y, z$"):
        outputs_wanted(InferenceRequest("", {}, ("q",)), SIGNATURE)


def test_rows_are_the_length_of_the_batch_axis_and_one_without_it() -> None:
    unbatched = Signature(inputs=(TensorSpec("x", "FP32", (4, 3)),), outputs=())
    request = InferenceRequest("", {"x": np.zeros((4, 3), dtype="<f4")})
    assert (row_count(request, SIGNATURE), row_count(request, unbatched)) == (4, 1)


@pytest.mark.parametrize("shape", [[2**31 - 1, 0], [0, 5_000, 5_000], [5_000, 0, 5_000]])
def test_an_empty_tensor_cannot_promise_more_than_a_body_could_bring(shape: list[int]) -> None:
    with pytest.raises(Refused, match=r"^x\.shape: .* is too large for an empty tensor$"):
        from_raw(b"", "FP32", shape, field="x")


def test_an_empty_tensor_of_many_rows_is_taken() -> None:
    assert from_raw(b"", "FP32", [100_000, 0, 28], field="x").shape == (100_000, 0, 28)
