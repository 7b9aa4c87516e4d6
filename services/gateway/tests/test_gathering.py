"""Requests that come within one turn of the loop are answered together, byte for byte as each would be by itself."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ergonaut.errors import Refused
from ergonaut_common.auth import KeyRing
from ergonaut_common.clock import SystemClock
from ergonaut_common.testing import key_ring_file
from ergonaut_gateway.adapters.onnx import OnnxLoader
from ergonaut_gateway.domain.batching import Traits
from ergonaut_gateway.domain.inference import InferenceAnswer, InferenceRequest
from ergonaut_gateway.domain.tensors import Tensor
from ergonaut_gateway.fakes import FakeModelLoader, FakeRunner
from ergonaut_gateway.http import Callers, HttpLimits, InferenceDoor, Router
from ergonaut_gateway.http import gathering as gathering_module
from ergonaut_gateway.http.connection import Connection, Door
from ergonaut_gateway.ports import ModelLoader, Stop
from ergonaut_gateway.service import EngineLimits, Predictions
from ergonaut_gateway.service import batching as batching_module

from .conftest import Gateway, Gateways
from .onnx_models import doubling
from .test_http_known import KeptTransport, connection_to

SHORT = Traits(joinable=True, steady=True, first_runs=((1, 1e-5), (16, 1.1e-5)))
PATH = "/v2/models/digits/infer"


class Loader(FakeModelLoader):
    """Gives one runner."""

    def __init__(self, runner: FakeRunner) -> None:
        self._runner = runner

    async def load(self, path: Path) -> FakeRunner:
        return self._runner


class Callings:
    """Connections of callers of a gateway, and what the door does for them."""

    def __init__(self, gateway: Gateway, folder: Path) -> None:
        ring, keys = key_ring_file(folder, ("default",))
        self.key = keys["default"]
        self.gateway = gateway
        self.callers = Callers(KeyRing.load(ring))
        router = Router()
        self.inference = InferenceDoor(gateway.models, gateway.catalogue, gateway.predictions, self.callers)
        self.inference.add_to(router)
        self.door = Door(router, HttpLimits())
        self.connections: list[tuple[Connection, KeptTransport]] = []

    async def open(self, count: int) -> None:
        """So many callers whose heads and forms are known: each has asked twice."""
        for _ in range(count):
            self.connections.append(connection_to(self.door))
        for _ in range(2):
            await self.ask([body_of([1, 2, 3])] * count)

    async def ask(self, bodies: Sequence[bytes], path: str = PATH, *, json_bytes: int | None = None) -> list[bytes]:
        """What each is answered, who all ask within one turn."""
        before = [len(transport.written) for _, transport in self.connections]
        for (connection, _), body in zip(self.connections, bodies, strict=False):
            connection.data_received(self.request(body, path, json_bytes))
        await self.answered(before[: len(bodies)])
        return [transport.written[at:] for at, (_, transport) in zip(before, self.connections, strict=True)][
            : len(bodies)
        ]

    async def answered(self, before: Sequence[int]) -> None:
        async with asyncio.timeout(20):
            while any(len(t.written) == at for at, (_, t) in zip(before, self.connections, strict=False)):
                await asyncio.sleep(0)

    def request(self, body: bytes, path: str = PATH, json_bytes: int | None = None) -> bytes:
        head = f"POST {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {self.key}\r\nContent-Length: {len(body)}\r\n"
        if json_bytes is not None:
            head += f"Inference-Header-Content-Length: {json_bytes}\r\n"
        return head.encode() + b"\r\n" + body


def body_of(numbers: Sequence[float], request_id: str = "r", **other: Any) -> bytes:
    given_input = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": list(numbers)}
    return json.dumps({"id": request_id, "inputs": [given_input | other]}).encode()


def document_of(answer: bytes) -> Any:
    return orjson.loads(answer.partition(b"\r\n\r\n")[2])


@asynccontextmanager
async def calling(
    folder: Path, count: int, loader: ModelLoader | None = None, content: bytes = b"model", **limits: Any
) -> AsyncIterator[Callings]:
    """So many known callers of a gateway that serves `digits`."""
    gateways = Gateways(folder / "spool")
    gateways.clock = SystemClock()  # type: ignore[assignment]
    gateway = gateways.another(loader or Loader(FakeRunner(SHORT)), limits=EngineLimits(**limits))
    await gateway.deploy(content)
    callings = Callings(gateway, folder)
    await callings.open(count)
    try:
        yield callings
    finally:
        gateway.predictions.close()


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How each request was answered that came: gathered and at once, or singly."""
    told: list[str] = []

    def noting(kind: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*given: Any, **named: Any) -> Any:
            result = call(*given, **named)
            if result is not None:
                told.append(kind)
            return result

        return noted

    # However slowly a busy machine runs what is short.
    monkeypatch.setattr(batching_module, "INLINE_SECONDS_MAX", 30.0)
    monkeypatch.setattr(Predictions, "at_once", noting("at once", Predictions.at_once))
    monkeypatch.setattr(Predictions, "submit", noting("submitted", Predictions.submit))
    return told


async def test_like_requests_of_a_turn_run_as_one_and_each_has_its_own_answer(tmp_path: Path, ways: list[str]) -> None:
    runner = FakeRunner(SHORT)
    async with calling(tmp_path, 5, Loader(runner)) as callings:
        runner.batches.clear()
        ways.clear()
        answers = await callings.ask([body_of([at, -at, 0.1], f"id {at}") for at in range(5)])
        assert (runner.batches, ways) == ([5], ["at once"])
        for at, answer in enumerate(answers):
            assert document_of(answer) == {
                "model_name": "digits",
                "model_version": "1",
                "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [2.0 * at, -2.0 * at, 0.2]}],
                "id": f"id {at}",
            }
        assert callings.door.room.held_bytes == 0


def raw_of(numbers: Sequence[float], request_id: str = "r", *, binary: bool = True) -> tuple[bytes, int]:
    """A request with a binary tensor, and the length of its JSON."""
    given_input = {"name": "x", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": 12}}
    parameters = {"parameters": {"binary_data_output": True}} if binary else {}
    head = json.dumps({"id": request_id, "inputs": [given_input], **parameters}).encode()
    return head + np.array(numbers, dtype="<f4").tobytes(), len(head)


@pytest.mark.parametrize("binary", [True, False])
async def test_like_requests_with_binary_tensors_run_as_one_too(
    tmp_path: Path, ways: list[str], monkeypatch: pytest.MonkeyPatch, *, binary: bool
) -> None:
    bodies = [raw_of([at, -at, 0.1], f"id {at}", binary=binary)[0] for at in range(5)]
    json_bytes = raw_of([], "id 0", binary=binary)[1]
    runner = FakeRunner(SHORT)
    async with calling(tmp_path, 5, Loader(runner)) as callings:
        callings.door.date = b""
        for _ in range(3):
            runner.batches.clear()
            ways.clear()
            answers = await callings.ask(bodies, json_bytes=json_bytes)
        assert (runner.batches, ways) == ([5], ["at once"])
        monkeypatch.setattr(gathering_module.Gathering, "_took", lambda *_: False)
        assert await callings.ask(bodies, json_bytes=json_bytes) == answers
        assert (b"Inference-Header-Content-Length" in answers[0]) == binary


_RAW_BODIES = st.one_of(
    st.builds(
        lambda numbers, name: raw_of(numbers, name)[0],
        st.lists(st.floats(width=32), min_size=2, max_size=4),
        st.just("s"),
    ),
    st.builds(lambda numbers: raw_of(numbers, "longer")[0], st.lists(st.floats(width=32), min_size=3, max_size=3)),
    st.sampled_from([b"", raw_of([1, 2, 3])[0].replace(b"x", b"z"), raw_of([1, 2, 3], "\\")[0]]),
)


@given(st.lists(st.lists(_RAW_BODIES, min_size=1, max_size=6), min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
async def test_whatever_comes_together_as_binary_tensors_is_answered_as_by_itself(rounds: list[list[bytes]]) -> None:
    usual, json_bytes = raw_of([1, 2, 3])
    asked = [[usual] * 6, [usual] * 6, *rounds]
    with pytest.MonkeyPatch.context() as patch:
        together = await _answers(asked, json_bytes)
        patch.setattr(gathering_module.Gathering, "_took", lambda *_: False)
        apart = await _answers(asked, json_bytes)
    assert together == apart


async def test_a_lone_request_needs_no_more_turns_than_others(tmp_path: Path, ways: list[str]) -> None:
    async with calling(tmp_path, 1) as callings:
        ways.clear()
        connection, transport = callings.connections[0]
        before = len(transport.written)
        connection.data_received(callings.request(body_of([1, 2, 3])))
        await asyncio.sleep(0)
        assert len(transport.written) > before
        assert ways == ["at once"]


_NUMBERS = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3)
_BODIES = st.one_of(
    st.builds(body_of, _NUMBERS, st.text(max_size=4)),
    st.builds(body_of, _NUMBERS, st.just("r")),
    st.builds(body_of, st.lists(st.integers(-5, 5), max_size=5)),
    st.builds(body_of, st.just([1, 2, 1e39])),
    st.builds(lambda rows: body_of([1, 2, 3] * rows, shape=[rows, 3]), st.integers(1, 3)),
    st.sampled_from(
        [b"", b"{", body_of([1, 2, 3])[:-2], body_of([1, 2, 3], name="z"), body_of([1, 2, 3], datatype="FP64")]
    ),
    st.builds(
        lambda piece: body_of([1, 2, 3]).replace(b"1, 2, 3", piece), st.sampled_from([b"1,2],[3", b"1,,2", b"null,1,2"])
    ),
)


@given(st.lists(st.lists(_BODIES, min_size=1, max_size=6), min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
async def test_whatever_comes_together_is_answered_as_by_itself(rounds: list[list[bytes]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        together = await _answers(rounds)
        patch.setattr(gathering_module.Gathering, "_took", lambda *_: False)
        apart = await _answers(rounds)
    assert together == apart


async def _answers(rounds: list[list[bytes]], json_bytes: int | None = None) -> list[list[bytes]]:
    with TemporaryDirectory() as folder:
        async with calling(Path(folder), 6, OnnxLoader(), doubling()) as callings:
            callings.door.date = b""
            return [await callings.ask(bodies, json_bytes=json_bytes) for bodies in rounds]


async def test_one_at_fault_is_told_so_and_its_neighbours_are_answered(tmp_path: Path) -> None:
    class Picky(FakeRunner):
        def compute(self, inputs: Mapping[str, Tensor], outputs: Sequence[str], stop: Stop | None) -> dict[str, Tensor]:
            if (inputs["x"] == 13).any():
                raise Refused("the model cannot compute this", field="inputs")
            return super().compute(inputs, outputs, stop)

    async with calling(tmp_path, 3, Loader(Picky(SHORT))) as callings:
        answers = await callings.ask([body_of([1, 2, 3]), body_of([13, 2, 3]), body_of([3, 2, 1])])
        assert [document_of(answer).get("error") for answer in answers] == [
            None,
            "inputs: the model cannot compute this",
            None,
        ]


async def test_they_are_counted_and_learned_from_as_others(tmp_path: Path) -> None:
    async with calling(tmp_path, 4) as callings:
        predictions = callings.gateway.predictions
        before = predictions.statistics("default", "digits")
        await callings.ask([body_of([1, 2, 3])] * 4)
        after = predictions.statistics("default", "digits")
        assert after.inferences - before.inferences == after.success.count - before.success.count == 4
        assert after.executions - before.executions == 1
        assert after.queue.count - before.queue.count == after.compute_infer.count - before.compute_infer.count == 4
        assert after.batches[4].count == before.batches.get(4, after.batches[4]).count + (4 in before.batches)
        assert after.success.ns > before.success.ns
        assert after.last_inference_ms >= before.last_inference_ms > 0


async def test_who_watches_sees_each_of_them(tmp_path: Path) -> None:
    seen: list[tuple[str, list[float], list[float]]] = []

    def watch(_: object, request: InferenceRequest, outputs: Mapping[str, Tensor], seconds: float) -> None:
        assert seconds > 0
        seen.append((request.id, request.inputs["x"].tolist()[0], outputs["y"].tolist()[0]))

    gateways = Gateways(tmp_path / "spool")
    gateways.clock = SystemClock()  # type: ignore[assignment]
    gateway = gateways.another(Loader(FakeRunner(SHORT)))
    gateway.predictions = Predictions(gateway.catalogue, gateways.announcer, gateways.clock, EngineLimits(), watch)
    await gateway.deploy(b"model")
    callings = Callings(gateway, tmp_path)
    await callings.open(2)
    seen.clear()
    await callings.ask([body_of([1, 2, 3], "a"), body_of([4, 5, 6], "b")])
    assert seen == [("a", [1, 2, 3], [2, 4, 6]), ("b", [4, 5, 6], [8, 10, 12])]
    gateway.predictions.close()


async def test_more_than_run_as_one_run_as_several(tmp_path: Path) -> None:
    runner = FakeRunner(SHORT)
    async with calling(tmp_path, 7, Loader(runner), batch_rows=3) as callings:
        runner.batches.clear()
        answers = await callings.ask([body_of([at, 0, 0]) for at in range(7)])
        assert runner.batches == [3, 3, 1]
        assert [document_of(answer)["outputs"][0]["data"][0] for answer in answers] == [2.0 * at for at in range(7)]


async def test_who_finds_no_room_is_told_when_to_come_back(tmp_path: Path) -> None:
    async with calling(tmp_path, 5, threads=1, waiting=2, model_waiting=2) as callings:
        answers = await callings.ask([body_of([1, 2, 3])] * 5)
        assert [answer.split()[1] for answer in answers] == [b"200"] * 3 + [b"429"] * 2
        assert all(b"retry-after: " in answer for answer in answers[3:])


@pytest.mark.parametrize(
    "traits",
    [
        Traits(joinable=False, steady=True, first_runs=((1, 1e-5),)),
        Traits(joinable=True, steady=True, first_runs=((1, 0.01), (16, 0.16))),
        Traits(joinable=True, steady=False, first_runs=((1, 1e-5), (16, 1.1e-5))),
    ],
)
async def test_where_they_would_not_run_as_one_on_the_loop_they_wait_their_turn(
    tmp_path: Path, traits: Traits, ways: list[str]
) -> None:
    runner = FakeRunner(traits)
    async with calling(tmp_path, 3, Loader(runner)) as callings:
        ways.clear()
        answers = await callings.ask([body_of([at, 0, 0], str(at)) for at in range(3)])
        assert ways == ["submitted"] * 3
        assert [document_of(answer)["id"] for answer in answers] == ["0", "1", "2"]


async def test_what_was_gathered_before_a_stop_is_answered(tmp_path: Path) -> None:
    async with calling(tmp_path, 2) as callings:
        before = [len(transport.written) for _, transport in callings.connections]
        for connection, _ in callings.connections:
            connection.data_received(callings.request(body_of([1, 2, 3])))
        await callings.gateway.predictions.finish(within_seconds=5)
        await callings.answered(before)
        assert all(
            b"HTTP/1.1 200" in transport.written[at:]
            for at, (_, transport) in zip(before, callings.connections, strict=True)
        )
        refused = await callings.ask([body_of([1, 2, 3])] * 2)
        assert all(b"HTTP/1.1 503" in answer for answer in refused)


async def test_a_caller_that_has_gone_meanwhile_disturbs_nobody(tmp_path: Path) -> None:
    async with calling(tmp_path, 3) as callings:
        before = [len(transport.written) for _, transport in callings.connections]
        for connection, _ in callings.connections:
            connection.data_received(callings.request(body_of([1, 2, 3])))
        callings.connections[1][0].connection_lost(None)
        await asyncio.sleep(0)
        written = [len(transport.written) - at for at, (_, transport) in zip(before, callings.connections, strict=True)]
        assert written[0] == written[2] > 0 == written[1]
        assert callings.door.room.held_bytes == 0


async def test_a_key_is_looked_at_again_after_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with calling(tmp_path, 1) as callings:
        looked: list[object] = []
        known = callings.callers.of
        monkeypatch.setattr(callings.callers, "of", lambda *given: looked.append(given) or known(*given))
        await callings.ask([body_of([1, 2, 3])])
        assert not looked
        later = gathering_module.monotonic() + 1.1
        monkeypatch.setattr(gathering_module, "monotonic", lambda: later)
        await callings.ask([body_of([1, 2, 3])])
        assert looked


async def test_a_name_that_an_endpoint_takes_over_is_answered_by_it(tmp_path: Path) -> None:
    class Plan:
        version = ""

        def submit(self, _: object, request: InferenceRequest, done: Callable[[InferenceAnswer], None]) -> None:
            done(InferenceAnswer(request.id, "digits", 9, request.inputs))

    async with calling(tmp_path, 2) as callings:
        callings.gateway.predictions.plans["default", "digits"] = Plan()  # type: ignore[assignment]
        # It answers before it gives a ticket, which is asked for nothing then.
        answers = await callings.ask([body_of([1, 2, 3])] * 2)
        assert [document_of(answer)["model_version"] for answer in answers] == ["9", "9"]


async def test_one_model_by_several_ways_in_a_turn_runs_as_one_still(tmp_path: Path) -> None:
    runner = FakeRunner(SHORT)
    async with calling(tmp_path, 4, Loader(runner)) as callings:
        versioned = "/v2/models/digits/versions/1/infer"
        for connection, _ in callings.connections[2:]:
            for _ in range(2):
                connection.data_received(callings.request(body_of([1, 2, 3]), versioned))
                await asyncio.sleep(0)
        runner.batches.clear()
        before = [len(transport.written) for _, transport in callings.connections]
        for at, (connection, _) in enumerate(callings.connections):
            connection.data_received(callings.request(body_of([1, 2, 3]), PATH if at < 2 else versioned))
        await callings.answered(before)
        assert runner.batches == [4]


async def test_outputs_that_are_no_numbers_are_written_for_each(tmp_path: Path) -> None:
    class Texts(FakeRunner):
        def compute(self, inputs: Mapping[str, Tensor], outputs: Sequence[str], stop: Stop | None) -> dict[str, Tensor]:
            computed = super().compute(inputs, outputs, stop)["y"]
            texts = np.array([[str(number).encode() for number in row] for row in computed.tolist()], dtype=object)
            return {"y": texts}

    async with calling(tmp_path, 2, Loader(Texts(SHORT))) as callings:
        answers = await callings.ask([body_of([1, 2, 3]), body_of([4, 5, 6])])
        assert [document_of(answer)["outputs"][0]["data"] for answer in answers] == [
            ["2.0", "4.0", "6.0"],
            ["8.0", "10.0", "12.0"],
        ]


async def test_a_caller_of_no_steady_form_is_answered_all_the_same(tmp_path: Path) -> None:
    async with calling(tmp_path, 1, OnnxLoader(), doubling()) as callings:
        for rows in (1, 2, 3, 1, 2, 1, 1):
            (answer,) = await callings.ask([body_of([1, 2, 3] * rows, shape=[rows, 3])])
            assert document_of(answer)["outputs"][0]["shape"] == [rows, 3]
