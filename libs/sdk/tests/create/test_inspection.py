"""A model file is understood without being run, and what cannot be served is named with what to do."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from ergonaut.create.apart import Bounds, apart
from ergonaut.create.changes import to_bytes, with_free_batch, without_maps
from ergonaut.create.inspection import inspect, read_model
from ergonaut.errors import NotFound, Refused

from .made_models import dice, fixed_by_reshape, foreign, giving_maps, linear, model, reading, written


def test_inputs_outputs_and_opset_are_told() -> None:
    found = inspect(linear())
    assert [spec.in_words() for spec in (*found.inputs, *found.outputs)] == ["x FP32 [n, 4]", "y FP32 [n, 3]"]
    assert found.opsets == {"ai.onnx": 17}
    assert found.is_batch_free
    assert not found.is_batch_fixed
    assert inspect(linear(batch=1)).is_batch_fixed


def test_an_operator_that_nobody_has_is_named_with_its_domain() -> None:
    with pytest.raises(Refused, match=r"acme\.ops\.Sparkle \(node first\); export it with standard operators"):
        inspect(foreign())


@pytest.mark.parametrize("opset", [1, 6, 99])
def test_an_opset_that_is_not_run_is_refused_with_the_range(opset: int) -> None:
    made = linear()
    made.opset_import[0].version = opset
    with pytest.raises(Refused, match=rf"opset {opset}, and 7 to {onnx.defs.onnx_opset_version()} can be run"):
        inspect(made)


def test_a_map_is_refused_with_advice_and_can_be_dropped() -> None:
    with pytest.raises(Refused, match=r"y is a sequence, .* zipmap=False, or give --drop-maps"):
        inspect(giving_maps())
    assert inspect(without_maps(giving_maps())).outputs[0].in_words() == "y FP32 [batch, 3]"


def test_a_type_that_is_not_served_is_named() -> None:
    made = linear()
    made.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.BFLOAT16
    with pytest.raises(Refused, match="the input x is of type BFLOAT16"):
        inspect(made)


def test_an_unknown_shape_is_refused() -> None:
    made = linear()
    made.graph.output[0].type.tensor_type.ClearField("shape")
    with pytest.raises(Refused, match="the output y tells no shape"):
        inspect(made)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x08" * 100, linear().SerializeToString()[:-40]])
def test_a_broken_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(Refused, match=r"broken\.onnx is no ONNX (file|model): .*export the model again"):
        read_model(path)


def test_whatever_is_damaged_is_refused_and_nothing_else_happens(tmp_path: Path) -> None:
    random, path = np.random.default_rng(1), tmp_path / "m.onnx"
    (tmp_path / "w.bin").write_bytes(bytes(16))
    whole = [made.SerializeToString() for made in (linear(), giving_maps(), reading("w.bin"))]
    refused = 0
    for turn in range(3000):
        content = bytearray(whole[turn % len(whole)])
        for place in random.integers(0, len(content), 3):
            content[place] = random.integers(0, 256)
        path.write_bytes(content)
        try:
            model_read = read_model(path)
            without_maps(model_read)
            inspect(model_read)
        except (Refused, NotFound):
            refused += 1
    assert refused > 1000


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no file"):
        read_model(tmp_path / "none.onnx")


def test_weights_beside_the_model_are_taken_in(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    whole = read_model(written(tmp_path / "m.onnx", reading("w.bin")))
    assert onnx.numpy_helper.to_array(whole.graph.initializer[0]).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "link.bin", ""])
def test_weights_outside_of_the_models_folder_are_never_read(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(Refused, match="outside of its folder; keep all weights beside the model"):
        read_model(written(folder / "m.onnx", reading(location)))


def test_weights_that_are_missing_or_too_short_are_told(tmp_path: Path) -> None:
    path = written(tmp_path / "m.onnx", reading("w.bin"))
    with pytest.raises(NotFound, match=r"w\.bin, which is not beside it; copy it there"):
        read_model(path)
    (tmp_path / "w.bin").write_bytes(bytes(3))
    with pytest.raises(Refused, match=r"the weights w beside .* cannot be read"):
        read_model(path)


def test_shapes_that_contradict_each_other_are_found(tmp_path: Path) -> None:
    made = linear()
    made.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 5
    with pytest.raises(Refused, match=r"checking the model failed: .*[Ii]nfer"):
        apart("check", {"model": written(tmp_path / "m.onnx", made)}, Bounds(60))


def test_freeing_a_batch_changes_a_copy_alone() -> None:
    fixed = fixed_by_reshape()
    before = to_bytes(fixed)
    assert inspect(with_free_batch(fixed)).is_batch_free
    assert to_bytes(fixed) == before


def test_graphs_within_graphs_are_looked_into() -> None:
    inner = foreign().graph
    node = onnx.helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=dice().graph)
    made = model([node], {"c": (onnx.TensorProto.BOOL, [])}, {"y": (onnx.TensorProto.FLOAT, ["n"])})
    with pytest.raises(Refused, match="Sparkle"):
        inspect(made)
