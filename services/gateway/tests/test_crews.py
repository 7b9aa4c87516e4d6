"""Runs of several threads: what a model's own threads use is its alone, exactly, and counted once."""

import asyncio
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from ergonaut_common.clock import FakeClock
from ergonaut_gateway.adapters.crews import beginning
from ergonaut_gateway.adapters.onnx import OnnxLoader, Sessions
from ergonaut_gateway.domain.batching import Traits
from ergonaut_gateway.domain.energy import Rate
from ergonaut_gateway.domain.inference import InferenceRequest
from ergonaut_gateway.fakes import FakeModelLoader, FakeRunner
from ergonaut_gateway.ports import Runner
from ergonaut_gateway.service import Wish
from ergonaut_gateway.service.dozing import Dozing
from ergonaut_gateway.service.energy import Energy
from ergonaut_gateway.service.footprint import metered

from .conftest import Gateway, Gateways

RATE = Rate(2.0, 0.1, "calibrated", "a counter")
SIDE = 500
knows_threads = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads have clocks on Linux only")


def heavy() -> bytes:
    """A model whose runs take some milliseconds, which several threads share."""
    weights = numpy_helper.from_array(np.full((SIDE, SIDE), 1e-3, np.float32), "w")
    names = ["x", *(f"h{at}" for at in range(3)), "y"]
    nodes = [helper.make_node("MatMul", [given, "w"], [made]) for given, made in pairwise(names)]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", SIDE])] for name in ("x", "y")]
    graph = helper.make_graph(nodes, "heavy", *ends, [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return bytes(model.SerializeToString())


ROWS = {"x": np.ones((256, SIDE), np.float32)}


@pytest.fixture
async def of_two_threads(tmp_path: Path) -> Runner:
    file = tmp_path / "heavy.onnx"
    file.write_bytes(heavy())
    return await OnnxLoader(Sessions(intra_op_threads=2)).load(file)


@knows_threads
async def test_a_models_own_threads_and_its_caller_are_all_that_its_runs_use(of_two_threads: Runner) -> None:
    crew_before, process, caller = of_two_threads.crew_seconds(), time.process_time(), time.thread_time()
    for _ in range(20):
        of_two_threads.compute(ROWS, ["y"], None)
    own, process, caller = of_two_threads.crew_seconds(), time.process_time() - process, time.thread_time() - caller
    assert crew_before is not None
    assert own is not None
    assert own > crew_before
    # Read a moment later than the process's, and the crew goes on looking for work meanwhile.
    assert own - crew_before + caller == pytest.approx(process, rel=0.15, abs=0.02)


async def test_a_model_of_one_thread_has_no_others(tmp_path: Path) -> None:
    file = tmp_path / "heavy.onnx"
    file.write_bytes(heavy())
    assert (await OnnxLoader().load(file)).crew_seconds() is None


@knows_threads
def test_a_crew_that_is_gone_is_remembered_and_takes_nobody_elses_time() -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 3
    with beginning() as crew:
        session = onnxruntime.InferenceSession(heavy(), options, providers=["CPUExecutionProvider"])
    assert len(crew) == 2
    session.run(None, ROWS)
    used = crew.cpu_seconds()
    assert used > 0.0
    del session
    after = crew.cpu_seconds()
    assert after >= used
    assert crew.cpu_seconds() == after


def served_by(gateway: Gateway) -> float:
    [served] = gateway.predictions._board.served.values()
    return served.used.cpu_seconds


class Loader(FakeModelLoader):
    """Gives one runner, which a test steers."""

    def __init__(self, runner: FakeRunner) -> None:
        self.runner = runner

    async def load(self, path: Path) -> FakeRunner:
        await asyncio.sleep(0)
        return self.runner


def request() -> InferenceRequest:
    return InferenceRequest("", {"x": np.ones((1, 3), np.float32)})


class Working(FakeRunner):
    """Of each run its own threads take half a second, by what they tell."""

    def __init__(self) -> None:
        super().__init__(Traits(joinable=False, steady=False, threads=2))
        self.crew = 7.0

    def compute(self, *given: object) -> dict[str, object]:  # type: ignore[override]
        assert self.crew is not None
        self.crew += 0.5
        return super().compute(*given)  # type: ignore[arg-type, return-value]


async def test_time_of_a_crew_is_its_models_also_what_it_takes_after_the_run(gateways: Gateways) -> None:
    runner = Working()
    gateway = gateways.another(Loader(runner))
    await gateway.deploy(b"model")
    process = [0.0]
    energy = Energy(gateway.predictions._board, gateway.predictions._engine, gateway.clock, lambda: process[0])
    energy.rate = lambda: RATE
    for _ in range(3):
        await gateway.predictions.infer("default", "digits", "", request())
    process[0] = 1.6
    energy.look()
    assert served_by(gateway) == pytest.approx(1.6), "1.5 of the crew, the rest of reading and writing"
    runner.crew = 7.0 + 1.5 + 0.25
    process[0] += 0.25
    energy.look()
    assert served_by(gateway) == pytest.approx(1.85)
    assert energy.idle.cpu_seconds == 0.0


async def test_who_asks_is_told_what_the_crew_did_in_its_run(gateways: Gateways) -> None:
    gateway = gateways.another(Loader(Working()))
    await gateway.deploy(b"model")
    gateway.predictions.energy.rate = lambda: RATE
    asked, footprint = metered(request(), gateway.predictions.energy)
    answered: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    gateway.predictions.submit(Wish("default", "digits"), asked, answered.set_result)
    await answered
    assert footprint()["cpu_seconds"] == pytest.approx(0.5, abs=0.05)


async def test_a_model_that_slept_goes_on_counting_where_it_was() -> None:
    first, second = Working(), Working()
    first.crew, second.crew = 3.0, 0.5

    async def load() -> Runner:
        await asyncio.sleep(0)
        return second

    clock = FakeClock()
    dozing = Dozing(first, load, clock)
    await clock.advance(10)
    assert dozing.doze(5)
    assert dozing.crew_seconds() == 3.0
    await dozing.wake()
    assert dozing.crew_seconds() == 3.5


@knows_threads
async def test_with_several_threads_all_that_is_told_and_the_idle_part_are_the_processs_time(
    gateways: Gateways,
) -> None:
    gateway = gateways.another(OnnxLoader(Sessions(intra_op_threads=2)), file_bytes_max=10_000_000)
    await gateway.deploy(heavy())
    energy = Energy(gateway.predictions._board, gateway.predictions._engine, gateway.clock)
    energy.rate = lambda: RATE
    asked = InferenceRequest("", dict(ROWS))
    begun = time.process_time()
    energy.look()
    for _ in range(5):
        waiting = [gateway.predictions.infer("default", "digits", "", asked) for _ in range(4)]
        await asyncio.gather(*waiting)
        energy.look()
    used = time.process_time() - begun
    told = served_by(gateway) + energy.idle.cpu_seconds
    assert told == pytest.approx(used, rel=0.1, abs=0.05)
