"""onnxruntime behind its ports: what loads, what is refused, what is found out about a model when it is loaded."""

import threading
from pathlib import Path

import numpy as np
import pytest

from ergonaut.errors import Refused, Unavailable
from ergonaut_gateway.adapters import probes
from ergonaut_gateway.adapters.onnx import OnnxLoader, OnnxRunner, Sessions
from ergonaut_gateway.adapters.sessions import DATATYPES
from ergonaut_gateway.domain import drawing
from ergonaut_gateway.domain.models import TensorSpec
from ergonaut_gateway.domain.tensors import BYTES, DTYPES, object_array

from .drawn_tensors import same
from .onnx_models import (
    adding,
    centring,
    counting,
    doubling,
    drawing_lots,
    giving_a_map,
    identity,
    of_fixed_rows,
    pairing,
    reading_a_neighbour,
    summing_up,
)


async def load(folder: Path, content: bytes, sessions: Sessions | None = None) -> OnnxRunner:
    path = folder / "model.onnx"
    path.write_bytes(content)
    return await OnnxLoader(sessions).load(path)


async def test_a_model_tells_what_it_takes_and_gives_and_computes_what_is_asked(tmp_path: Path) -> None:
    runner = await load(tmp_path, doubling())
    assert runner.signature.inputs == (TensorSpec("x", "FP32", (-1, 3)),)
    assert [spec.name for spec in runner.signature.outputs] == ["y", "z"]
    outputs = runner.compute({"x": np.ones((2, 3), dtype="<f4")}, ["z"], None)
    assert list(outputs) == ["z"]
    np.testing.assert_array_equal(outputs["z"], -np.ones((2, 3)))


@pytest.mark.parametrize("datatype", sorted(DATATYPES.values()))
async def test_every_datatype_goes_through(tmp_path: Path, datatype: str) -> None:
    runner = await load(tmp_path, identity(datatype))
    assert runner.signature.inputs[0].datatype == datatype
    if datatype == BYTES:
        tensor = object_array([b"", "é".encode(), b"a\0b", b"d"]).reshape(2, 2)
    else:
        tensor = np.array([[0, 1], [1, 0]], dtype=DTYPES[datatype])
        tensor.flags.writeable = False
    assert same((runner.compute({"x": tensor}, ["y"], None))["y"], tensor)


async def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    content = pairing()
    assert content.count(b"width") > 1
    with pytest.raises(Refused, match=r"^chunk: is not an ONNX model: a name in it is no UTF-8 text$"):
        await load(tmp_path, content.replace(b"width", b"wid\x80h"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello", "chunk: is not an ONNX model: "),
        (b"\x08\x07", "chunk: is not an ONNX model: "),
        (b"\0" * 100, "chunk: is not an ONNX model: "),
        (doubling()[:-20], "chunk: is not an ONNX model: "),
        (giving_a_map(), "chunk: the model's output y is seq(map(int64,tensor(float))), only tensors of BOOL, INT8,"),
        (reading_a_neighbour("../secret.bin"), "chunk: is not an ONNX model: "),
        (reading_a_neighbour("/etc/passwd"), "chunk: is not an ONNX model: "),
    ],
)
async def test_what_cannot_be_served_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "secret.bin").write_bytes(b"\0" * 12)
    folder = tmp_path / "inner"
    folder.mkdir()
    with pytest.raises(Refused) as refused:
        await load(folder, content)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


async def test_text_that_is_not_utf8_is_refused_by_name(tmp_path: Path) -> None:
    runner = await load(tmp_path, identity(BYTES))
    with pytest.raises(Refused, match=r"^inputs\.x: is not UTF-8 text"):
        runner.compute({"x": object_array([b"\xff", b"a"]).reshape(1, 2)}, ["y"], None)


async def test_a_mismatch_that_only_the_graph_knows_is_refused(tmp_path: Path) -> None:
    runner = await load(tmp_path, adding())
    with pytest.raises(Refused, match=r"^inputs: the model cannot compute this: "):
        runner.compute({"a": np.ones(2, dtype="<f4"), "b": np.ones(3, dtype="<f4")}, ["y"], None)
    outputs = runner.compute({"a": np.ones(2, dtype="<f4"), "b": np.ones(2, dtype="<f4")}, ["y"], None)
    np.testing.assert_array_equal(outputs["y"], [2, 2])


async def test_a_run_can_be_stopped(tmp_path: Path) -> None:
    runner = await load(tmp_path, counting())
    stop = runner.stop()
    timer = threading.Timer(0.05, lambda: setattr(stop, "terminate", True))
    timer.start()
    with pytest.raises(Unavailable, match=r"^the run was stopped$"):
        runner.compute({"rounds": np.array(10**12, dtype="<i8")}, ["y"], stop)


@pytest.mark.parametrize(
    ("content", "joinable", "steady"),
    [
        (doubling(), True, True),
        (identity("INT64"), True, True),
        (identity(BYTES), True, True),
        (identity("BOOL"), True, True),
        (pairing(), True, True),
        # What each row gives depends on all of them.
        (centring(), False, True),
        (summing_up(), False, True),
        # Its tensors' first axes are not the same.
        (adding(), False, True),
        # It works as long as a value says.
        (counting(), False, False),
        # Its first axis is not free.
        (of_fixed_rows(), False, True),
        # It draws lots.
        (drawing_lots(), False, True),
    ],
)
async def test_it_is_tried_whether_rows_are_independent_and_work_depends_on_shapes_alone(
    tmp_path: Path, content: bytes, joinable: bool, steady: bool
) -> None:
    traits = (await load(tmp_path, content)).traits
    assert (traits.joinable, traits.steady) == (joinable, steady)
    assert traits.providers == ("CPUExecutionProvider",)
    assert traits.first_runs
    units = [units for units, _ in traits.first_runs]
    assert max(units) == min(units) * (16 if joinable else 1)


async def test_a_model_that_takes_longer_than_loading_may_is_served_untried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "SECONDS_MAX", 0.05)
    monkeypatch.setattr(drawing, "_drawn", lambda *_, **__: np.array(10**12, dtype="<i8"))
    runner = await load(tmp_path, counting())
    assert (runner.traits.joinable, runner.traits.first_runs) == (False, ())


async def test_a_provider_that_is_missing_is_told_and_the_cpu_is_used(tmp_path: Path) -> None:
    runner = await load(tmp_path, doubling(), Sessions(providers=("tensorrt", "cuda")))
    assert runner.traits.providers[-1] == "CPUExecutionProvider"
    np.testing.assert_array_equal(runner.compute({"x": np.ones((1, 3), dtype="<f4")}, ["y"], None)["y"], [[2, 2, 2]])


async def test_why_a_model_could_not_be_tried_out_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("no such\ninnards")

    monkeypatch.setattr(probes.Probe, "_agrees", broken)
    runner = await load(tmp_path, doubling())

    said = capsys.readouterr().out + capsys.readouterr().err
    assert not runner.traits.joinable
    assert said.count("not tried out") == 1
    assert "ValueError: no such" in said
    assert "innards" not in said
