"""onnxruntime behind its ports: what loads, what is refused, and that neither crowds nor slow models stop the others."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ergonaut.errors import Refused, Unavailable
from ergonaut_gateway.adapters.onnx import OnnxLoader, OnnxRunner, PoolLimits, RunPool, run_pool
from ergonaut_gateway.domain.models import TensorSpec
from ergonaut_gateway.domain.tensors import BYTES, DTYPES, object_array

from .drawn_tensors import same
from .onnx_models import adding, counting, doubling, giving_a_map, identity, reading_a_neighbour


@pytest.fixture
def pool() -> Iterator[RunPool]:
    with run_pool(PoolLimits(threads=1, waiting=2, run_timeout_seconds=20)) as opened:
        yield opened


async def load(pool: RunPool, folder: Path, content: bytes) -> OnnxRunner:
    path = folder / "model.onnx"
    path.write_bytes(content)
    return await OnnxLoader(pool).load(path)


async def test_a_model_tells_what_it_takes_and_gives_and_computes_what_is_asked(pool: RunPool, tmp_path: Path) -> None:
    runner = await load(pool, tmp_path, doubling())
    assert runner.signature.inputs == (TensorSpec("x", "FP32", (-1, 3)),)
    assert [spec.name for spec in runner.signature.outputs] == ["y", "z"]
    outputs = await runner.run({"x": np.ones((2, 3), dtype="<f4")}, ["z"])
    assert list(outputs) == ["z"]
    np.testing.assert_array_equal(outputs["z"], -np.ones((2, 3)))


@pytest.mark.parametrize("datatype", sorted(DTYPES))
async def test_every_datatype_goes_through(pool: RunPool, tmp_path: Path, datatype: str) -> None:
    runner = await load(pool, tmp_path, identity(datatype))
    assert runner.signature.inputs[0].datatype == datatype
    if datatype == BYTES:
        tensor = object_array([b"", "é".encode(), b"a\0b", b"d"]).reshape(2, 2)
    else:
        tensor = np.array([[0, 1], [1, 0]], dtype=DTYPES[datatype])
        tensor.flags.writeable = False
    assert same((await runner.run({"x": tensor}, ["y"]))["y"], tensor)


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
async def test_what_cannot_be_served_is_refused(pool: RunPool, tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "secret.bin").write_bytes(b"\0" * 12)
    folder = tmp_path / "inner"
    folder.mkdir()
    with pytest.raises(Refused) as refused:
        await load(pool, folder, content)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


async def test_text_that_is_not_utf8_is_refused_by_name(pool: RunPool, tmp_path: Path) -> None:
    runner = await load(pool, tmp_path, identity(BYTES))
    with pytest.raises(Refused, match=r"^inputs\.x: is not UTF-8 text"):
        await runner.run({"x": object_array([b"\xff", b"a"]).reshape(1, 2)}, ["y"])


async def test_a_mismatch_that_only_the_graph_knows_is_refused(pool: RunPool, tmp_path: Path) -> None:
    runner = await load(pool, tmp_path, adding())
    with pytest.raises(Refused, match=r"^inputs: the model cannot compute this: "):
        await runner.run({"a": np.ones(2, dtype="<f4"), "b": np.ones(3, dtype="<f4")}, ["y"])
    outputs = await runner.run({"a": np.ones(2, dtype="<f4"), "b": np.ones(2, dtype="<f4")}, ["y"])
    np.testing.assert_array_equal(outputs["y"], [2, 2])


def rounds(count: int) -> dict[str, np.ndarray]:
    return {"rounds": np.array(count, dtype="<i8")}


async def test_a_crowd_waits_in_a_bounded_queue_and_the_rest_is_told_to_come_back(
    pool: RunPool, tmp_path: Path
) -> None:
    runner = await load(pool, tmp_path, counting())
    crowd = [asyncio.create_task(runner.run(rounds(50_000), ["y"])) for _ in range(8)]
    results = await asyncio.gather(*crowd, return_exceptions=True)
    refused = [result for result in results if isinstance(result, Unavailable)]
    assert len(refused) == 5
    assert str(refused[0]) == "3 requests are at work or waiting, which is the most; ask again"
    assert (await runner.run(rounds(5), ["y"]))["y"] == [5]


async def test_a_model_that_takes_too_long_is_stopped_and_frees_its_thread(tmp_path: Path) -> None:
    with run_pool(PoolLimits(threads=1, waiting=2, run_timeout_seconds=0.3)) as pool:
        runner = await load(pool, tmp_path, counting())
        with pytest.raises(Unavailable, match=r"^the model took longer than 0\.3 s$"):
            await runner.run(rounds(10**12), ["y"])
        began = time.monotonic()
        while True:
            try:
                assert (await runner.run(rounds(3), ["y"]))["y"] == [3]
                break
            except Unavailable:
                assert time.monotonic() - began < 10


async def test_a_caller_that_went_away_frees_the_thread(pool: RunPool, tmp_path: Path) -> None:
    runner = await load(pool, tmp_path, counting())
    gone = asyncio.create_task(runner.run(rounds(10**12), ["y"]))
    await asyncio.sleep(0.05)
    gone.cancel()
    async with asyncio.timeout(10):
        assert (await runner.run(rounds(3), ["y"]))["y"] == [3]


async def test_the_event_loop_stays_free_while_a_model_runs(pool: RunPool, tmp_path: Path) -> None:
    runner = await load(pool, tmp_path, counting())
    running = asyncio.create_task(runner.run(rounds(200_000), ["y"]))
    turns = 0
    while not running.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 5
    assert (await running)["y"] == [200_000]
