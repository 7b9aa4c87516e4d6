"""Files that ask for much memory, or end the process that loads them: refused in one sentence, and the gateway lives on."""

import contextlib
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from ergonaut.errors import Refused
from ergonaut_gateway import memory
from ergonaut_gateway.adapters import apart, trials
from ergonaut_gateway.adapters.declared import declared
from ergonaut_gateway.adapters.onnx import OnnxLoader, Sessions
from ergonaut_gateway.adapters.trials import TriedFirst
from ergonaut_gateway.fakes import FakeModelLoader

from .onnx_models import (
    NUMPY_TO_ONNX,
    centring,
    comparing,
    counting,
    doubling,
    filling,
    giving_a_map,
    growing,
    identity,
    of_fixed_rows,
    reading_a_neighbour,
    weighing,
)

MEMORY_BYTES_MAX = 512 * 1024**2


async def tried(folder: Path, content: bytes) -> None:
    path = folder / "model.onnx"
    path.write_bytes(content)
    await TriedFirst(OnnxLoader(), memory_bytes_max=MEMORY_BYTES_MAX).load(path)


@pytest.mark.parametrize(
    "content",
    [doubling(), centring(), counting(), comparing(), of_fixed_rows(), identity("BYTES"), identity("BF16")],
    ids=["doubling", "centring", "counting", "comparing", "fixed", "texts", "bf16"],
)
async def test_what_can_be_served_is_loaded(tmp_path: Path, content: bytes) -> None:
    await tried(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello", "chunk: is not an ONNX model: "),
        (doubling()[:-20], "chunk: is not an ONNX model: "),
        (giving_a_map(), "chunk: the model's output y is seq(map(int64,tensor(float))), only tensors of BOOL"),
        (
            reading_a_neighbour("/etc/passwd"),
            "chunk: has weights in another file (such as w), which does not come with",
        ),
        (
            weighing([300_000, 300_000]),
            "chunk: declares constants of 335.3 GiB, of which w [300000, 300000] is the largest; at most 0.5 GiB",
        ),
        (growing("when loaded"), "chunk: takes more than 0.5 GiB of memory"),
        (growing("when run"), "chunk: takes more than 0.5 GiB of memory to compute a few rows"),
    ],
    ids=["words", "cut", "map", "neighbour", "declared", "loaded", "run"],
)
async def test_what_cannot_be_served_is_refused_in_one_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(Refused) as refused:
        await tried(tmp_path, content)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


async def test_where_there_are_accelerators_files_are_refused_for_their_memory_only(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    trial = TriedFirst(FakeModelLoader(), memory_bytes_max=MEMORY_BYTES_MAX, for_memory_only=True)
    # onnxruntime knows no such operator; the fake loader, which stands for an accelerator, is asked all the same.
    path.write_bytes(doubling().replace(b"Add", b"Odd"))
    with pytest.raises(Refused, match="it does not begin as one"):
        await trial.load(path)
    path.write_bytes(weighing([300_000, 300_000]))
    with pytest.raises(Refused, match="declares constants"):
        await trial.load(path)


async def test_no_more_is_taken_than_the_machine_has_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 100 * 1024**2)
    with pytest.raises(Refused, match=r"at most 0\.1 GiB may be taken"):
        await tried(tmp_path, weighing([8_000, 8_000]))


async def test_a_file_whose_trial_takes_too_long_is_refused_and_nothing_is_left_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "SECONDS_MAX", 0.01)
    with pytest.raises(Refused, match=r"^trying the file in a process of its own took longer than 0\.01 s$"):
        await tried(tmp_path, doubling())


async def test_how_a_program_ended_is_told_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "killed.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(Refused, match=r"^doing it ended with SIGKILL$"):
        await apart.asked("killed", {}, doing="doing it", seconds=30)


async def test_a_program_sees_no_keys_and_no_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "telling.py").write_text("import json, os\nprint(json.dumps({'seen': list(os.environ)}))\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("ERGONAUT_API_KEY", "secret")
    seen = (await apart.asked("telling", {}, doing="telling", seconds=30))["seen"]
    assert "PYTHONPATH" in seen
    assert not [name for name in seen if name.startswith("ERGONAUT_")]


@pytest.mark.parametrize("datatype", sorted(set(NUMPY_TO_ONNX) - {"BYTES"}))
def test_constants_are_counted_by_their_types(tmp_path: Path, datatype: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(weighing([3, 5], NUMPY_TO_ONNX[datatype]))
    size_bytes = {"BF16": 2, "FP16": 2, "FP32": 4, "FP64": 8, "BOOL": 1}.get(datatype) or np.dtype(
        datatype.lower()
    ).itemsize
    assert declared(path).tensor_bytes == 15 * size_bytes


def test_constants_of_graphs_within_graphs_and_sparse_ones_are_counted(tmp_path: Path) -> None:
    values = helper.make_tensor("values", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("indices", TensorProto.INT64, [1], [0])
    sparse = helper.make_sparse_tensor(values, indices, [1_000])
    inner = helper.make_graph([], "inner", [], [], [helper.make_tensor("w", TensorProto.DOUBLE, [2], [0.0, 0.0])])
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    graph = helper.make_graph([node], "outer", [], [], sparse_initializer=[sparse])
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    said = declared(path)
    assert said.tensor_bytes == 1_000 * 8 + 4 + 8 + 2 * 16
    assert said.largest == "a constant [1000]"


@given(st.binary(min_size=1, max_size=60), st.integers(0, 200))
def test_what_is_no_file_of_fields_is_refused_whatever_it_is(content: bytes, depth: int) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(b"\x3a" * depth + content)
        with contextlib.suppress(Refused):
            assert declared(path).tensor_bytes >= 0


def test_how_much_memory_is_left_is_known_here() -> None:
    left = memory.available_bytes()
    assert left is None or left > 1024**2


async def test_a_run_that_wants_more_memory_than_all_may_take_is_refused_and_others_go_on(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(filling())
    runner = await OnnxLoader(Sessions(memory_bytes_max=MEMORY_BYTES_MAX)).load(path)

    def filled(count: int) -> list[float]:
        inputs = {"count": np.array([count], dtype="<i8")}
        return [float(runner.compute(inputs, ["y"], stop)["y"]) for stop in (runner.stop(), None)]

    assert filled(10_000_000) == [0.0, 0.0]
    with pytest.raises(
        Refused, match=r"^inputs: the model wants more memory for this than all such may take, 0\.5 GiB; "
    ):
        filled(1_000_000_000)
    assert filled(10_000_000) == [0.0, 0.0]
