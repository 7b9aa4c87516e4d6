"""Our own gRPC server, called by grpcio's client: what is told about messages, deadlines, streams and errors holds over it."""

import asyncio
import gc
import gzip
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import pack

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from ergonaut.api.inference.v1 import inference_pb2 as pb
from ergonaut.api.openinference.v2 import open_inference_pb2 as oip
from ergonaut.api.openinference.v2.open_inference_pb2_grpc import GRPCInferenceServiceStub
from ergonaut_common.auth import KeyRing
from ergonaut_common.h2 import H2Limits, frames
from ergonaut_common.testing import key_ring_file
from ergonaut_gateway import h2
from ergonaut_gateway.adapters.onnx import OnnxLoader
from ergonaut_gateway.domain.batching import Traits
from ergonaut_gateway.fakes import FakeModelLoader, FakeRunner
from ergonaut_gateway.h2 import H2Door
from ergonaut_gateway.rpc import NAMES, door
from ergonaut_gateway.service import EngineLimits

from .conftest import Gateway, Gateways
from .h2_frames import Wire, connected, framed, listening
from .onnx_models import doubling

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
MANY_ROWS = 300_000
"""3.6 MB a message: more than a stream's window and than many frames."""


@dataclass
class Own:
    """Our server with a gateway behind it, and how to call it."""

    door: H2Door
    gateway: Gateway
    port: int
    metadata: tuple[tuple[str, str], ...]

    def channel(self, **options: object) -> grpc.aio.Channel:
        most = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        return grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options=most, **options)


class GatedLoader(FakeModelLoader):
    """Its models answer when the gate is open; `entered` counts who came to it, `ended` who was stopped."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.ended = threading.Semaphore(0)

    async def load(self, path):
        loader = self

        class Gated(FakeRunner):
            def compute(self, inputs, outputs, stop):
                loader.entered.release()
                while not loader.gate.wait(0.001):
                    if stop.terminate:
                        loader.ended.release()
                        break
                return super().compute(inputs, outputs, stop)

        return Gated(Traits())

    async def was_entered(self) -> None:
        assert await asyncio.to_thread(self.entered.acquire, timeout=30)

    async def was_ended(self) -> None:
        assert await asyncio.to_thread(self.ended.acquire, timeout=30)


async def served(gateway: Gateway, folder: Path, content: bytes, limits: H2Limits | None = None) -> AsyncIterator[Own]:
    path, keys = key_ring_file(folder, ("default",))
    await gateway.deploy(content)
    add = door(gateway.models, gateway.catalogue, gateway.predictions)
    async with (
        h2.opened(add, gateway.predictions, KeyRing.load(path), NAMES, limits, close_seconds=0.1) as opened,
        listening(opened) as port,
    ):
        yield Own(opened, gateway, port, (("authorization", f"Bearer {keys['default']}"),))
    gateway.predictions.close()


@pytest.fixture
async def own(gateways: Gateways, tmp_path: Path) -> AsyncIterator[Own]:
    async for each in served(gateways.another(OnnxLoader()), tmp_path, doubling()):
        yield each


@pytest.fixture
def loader() -> Iterator[GatedLoader]:
    loader = GatedLoader()
    yield loader
    loader.gate.set()


@pytest.fixture
async def gated(gateways: Gateways, tmp_path: Path, loader: GatedLoader) -> AsyncIterator[Own]:
    limits = EngineLimits(threads=1, waiting=1, model_waiting=1)
    async for each in served(gateways.another(loader, limits=limits), tmp_path, b"model"):
        yield each


def request(rows: int = 1, value: float = 1.0) -> oip.ModelInferRequest:
    raw = np.full((rows, 3), value, dtype="<f4").tobytes()
    asked = oip.ModelInferRequest(model_name="digits", id=str(value), raw_input_contents=[raw])
    asked.inputs.add(name="x", datatype="FP32", shape=[rows, 3])
    return asked


def first_output(response: oip.ModelInferResponse) -> np.ndarray:
    return np.frombuffer(response.raw_output_contents[0], dtype="<f4")


async def test_messages_larger_than_windows_and_frames_pass_both_ways(own: Own) -> None:
    async with own.channel() as channel:
        stub = GRPCInferenceServiceStub(channel)
        answers = await asyncio.gather(
            *(stub.ModelInfer(request(MANY_ROWS, value), metadata=own.metadata) for value in (1.0, 2.0, 3.0))
        )
    assert [set(first_output(answer)) for answer in answers] == [{2.0}, {4.0}, {6.0}]
    assert all(len(first_output(answer)) == 3 * MANY_ROWS for answer in answers)


async def test_a_message_larger_than_may_be_is_refused_by_status(own: Own) -> None:
    async with own.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await GRPCInferenceServiceStub(channel).ModelInfer(request(1_500_000), metadata=own.metadata)
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than the 16777216 that are taken" in refused.value.details()


@pytest.mark.parametrize("packing", [grpc.Compression.Gzip, grpc.Compression.Deflate, grpc.Compression.NoCompression])
@pytest.mark.parametrize("rows", [1, 2_000])
async def test_packed_messages_are_read_and_answered_packed(own: Own, packing: grpc.Compression, rows: int) -> None:
    async with own.channel(compression=packing) as channel:
        stub = GRPCInferenceServiceStub(channel)
        call = stub.ModelInfer(request(rows), metadata=own.metadata)
        assert first_output(await call).tolist() == [2.0] * 3 * rows
        streamed = stub.ModelStreamInfer(iter([request(rows)]), metadata=own.metadata)
        assert [set(first_output(each.infer_response)) for each in [each async for each in streamed]] == [{2.0}]


async def test_a_message_that_grows_too_large_by_unpacking_is_refused(own: Own) -> None:
    bomb = gzip.compress(bytes(64 * 1024 * 1024))
    async with connected(own.port) as wire:
        fields = wire.block(INFER, ("grpc-encoding", "gzip"), *own.metadata)
        wire.send(
            h2_frame(1, 4, fields),
            *(h2_frame(0, 0, piece) for piece in _pieces(b"\1" + framed(bomb)[1:])),
            h2_frame(0, 1),
        )
        told, _ = await wire.answer(1)
    assert told["grpc-status"] == "8"


def h2_frame(kind: int, flags: int, payload: bytes = b"", stream_id: int = 1) -> bytes:
    return frames.frame(kind, flags, stream_id, payload)


def _pieces(whole: bytes) -> list[bytes]:
    return [whole[at : at + 10_000] for at in range(0, len(whole), 10_000)]


async def test_a_blocking_client_and_many_calls_at_once_are_served(own: Own) -> None:
    def ask() -> list[float]:
        with grpc.insecure_channel(f"127.0.0.1:{own.port}") as channel:
            stub = GRPCInferenceServiceStub(channel)
            calls = [stub.ModelInfer.future(request(1, at), metadata=own.metadata) for at in range(200)]
            return [first_output(call.result(timeout=20))[0] for call in calls]

    assert await asyncio.to_thread(ask) == [2.0 * at for at in range(200)]


async def test_a_deadline_that_passes_ends_the_call_and_its_run(gated: Own, loader: GatedLoader) -> None:
    async with connected(gated.port) as wire:
        message = framed(request().SerializeToString())
        wire.send(h2_frame(1, 4, wire.block(INFER, ("grpc-timeout", "100m"), *gated.metadata)), h2_frame(0, 1, message))
        told, _ = await wire.answer(1)
    assert told["grpc-status"] == str(grpc.StatusCode.DEADLINE_EXCEEDED.value[0])
    assert told["grpc-message"] == "the deadline passed before the answer was there"
    await loader.was_ended()


async def test_a_call_that_is_given_up_ends_its_run(gated: Own, loader: GatedLoader) -> None:
    async with gated.channel() as channel:
        call = GRPCInferenceServiceStub(channel).ModelInfer(request(), metadata=gated.metadata)
        asking = asyncio.ensure_future(call.code())
        await loader.was_entered()
        call.cancel()
        assert await asking == grpc.StatusCode.CANCELLED
        await loader.was_ended()


async def test_a_stream_that_is_given_up_ends_its_runs(gated: Own, loader: GatedLoader) -> None:
    async with gated.channel() as channel:
        stream = GRPCInferenceServiceStub(channel).ModelStreamInfer(metadata=gated.metadata)
        await stream.write(request())
        await loader.was_entered()
        stream.cancel()
        await loader.was_ended()
        loader.gate.set()
        assert (await GRPCInferenceServiceStub(channel).ModelInfer(request(), metadata=gated.metadata)).id == "1.0"
    assert not gated.door.tasks.running


async def test_a_stream_that_is_given_up_between_two_answers_ends_without_a_fault(own: Own) -> None:
    faults: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    no_window = pack(">HI", 4, 0)
    async with connected(own.port, no_window) as wire:
        for path in (STREAM, "/ergonaut.api.inference.v1.ModelService/DownloadModel"):
            asked = request() if path == STREAM else pb.DownloadModelRequest(name="digits")
            stream_id = 1 if path == STREAM else 3
            block = wire.block(path, *own.metadata)
            wire.send(h2_frame(1, 4, block, stream_id), h2_frame(0, 1, framed(asked.SerializeToString()), stream_id))
            (connection,) = own.door.connections
            async with asyncio.timeout(30):
                while not any(stream.pending for stream in connection.streams.values()):
                    await asyncio.sleep(0.001)
            wire.send(h2_frame(3, 0, pack(">I", 8), stream_id))
            async with asyncio.timeout(30):
                while own.door.tasks.running:
                    await asyncio.sleep(0.001)
    gc.collect()
    await asyncio.sleep(0)
    assert faults == []


async def test_a_stream_whose_message_cannot_be_read_answers_what_came_before_and_says_why_it_ends(own: Own) -> None:
    async with connected(own.port) as wire:
        body = framed(request().SerializeToString()) + framed(b"\xff\xff")
        wire.send(h2_frame(1, 4, wire.block(STREAM, *own.metadata)), h2_frame(0, 1, body))
        told, data = await wire.answer(1)
    assert first_output(oip.ModelStreamInferResponse.FromString(data[5:]).infer_response).tolist() == [2.0] * 3
    assert (told["grpc-status"], told["grpc-message"]) == ("3", f"the message is not what {STREAM} takes")


async def test_a_caller_sends_no_more_on_a_stream_than_its_window_while_its_requests_wait(
    gated: Own, loader: GatedLoader
) -> None:
    message = framed(request(300).SerializeToString())
    count = 2 * H2Limits().stream_window_bytes // len(message)
    async with gated.channel() as channel:
        stream = GRPCInferenceServiceStub(channel).ModelStreamInfer(metadata=gated.metadata)
        sent = 0

        async def send() -> None:
            nonlocal sent
            for _ in range(count):
                await stream.write(request(300))
                sent += 1
            await stream.done_writing()

        sending = asyncio.ensure_future(send())
        await loader.was_entered()
        done, _ = await asyncio.wait({sending}, timeout=0.5)
        assert not done, "more was taken in than the window lets through"
        loader.gate.set()
        answers = [each async for each in stream]
        await sending
    assert len(answers) == sent == count


async def test_a_connection_that_is_lost_ends_its_runs(gated: Own, loader: GatedLoader) -> None:
    async with connected(gated.port) as wire:
        message = framed(request().SerializeToString())
        wire.send(h2_frame(1, 4, wire.block(INFER, *gated.metadata)), h2_frame(0, 1, message))
        await loader.was_entered()
    await loader.was_ended()


async def test_who_comes_when_the_queue_is_full_is_told_when_to_come_back(gated: Own, loader: GatedLoader) -> None:
    async with gated.channel() as channel:
        stub = GRPCInferenceServiceStub(channel)
        asked = [asyncio.ensure_future(_ask(stub, gated)) for _ in range(4)]
        done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED, timeout=30)
        refused = done.pop().exception()
        loader.gate.set()
        await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(refused, grpc.aio.AioRpcError)
    assert refused.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert int(dict(refused.trailing_metadata())["grpc-retry-pushback-ms"]) > 0


async def _ask(stub: GRPCInferenceServiceStub, own: Own) -> oip.ModelInferResponse:
    return await stub.ModelInfer(request(), metadata=own.metadata)


async def test_health_is_watched_while_the_door_stops(own: Own) -> None:
    async with own.channel() as channel:
        watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
        await own.door.set_serving(False)
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="no such"))
        assert unknown.value.code() == grpc.StatusCode.NOT_FOUND


async def test_reflection_tells_the_services_to_who_has_a_key(own: Own) -> None:
    async with own.channel() as channel:
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        (told,) = [each async for each in stub.ServerReflectionInfo(asked, metadata=own.metadata)]
    names = {each.name for each in told.list_services_response.service}
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= names


async def test_words_of_any_language_arrive_in_a_status(own: Own) -> None:
    asked = request()
    asked.model_name = "größe 100 %"
    async with own.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await GRPCInferenceServiceStub(channel).ModelInfer(asked, metadata=own.metadata)
    assert refused.value.details() == "no model größe 100 % is served"


async def test_a_caller_who_reads_slowly_holds_up_nobody_and_little_memory(own: Own) -> None:
    async with connected(own.port) as slow, own.channel() as channel:
        message = framed(request(MANY_ROWS).SerializeToString())
        await _send_within_windows(slow, INFER, own, message)
        stub = GRPCInferenceServiceStub(channel)
        assert first_output(await stub.ModelInfer(request(), metadata=own.metadata)).tolist() == [2.0] * 3
        answered = 0
        while (frame := await slow.next()) is not None:
            if frame.kind == 0:
                answered += len(frame.payload)
                more = len(frame.payload).to_bytes(4, "big")
                slow.send(frames.frame(8, 0, 0, more), frames.frame(8, 0, 1, more))
            if frame.kind == 1 and frame.flags & 1:
                break
    assert answered > 2 * 12 * MANY_ROWS


async def _send_within_windows(wire: Wire, path: str, own: Own, message: bytes) -> None:
    wire.send(h2_frame(1, 4, wire.block(path, *own.metadata)))
    window = 65_535
    for at in range(0, len(message), 16_000):
        piece = message[at : at + 16_000]
        while window < len(piece):
            window += await _more(wire)
        window -= len(piece)
        wire.send(h2_frame(0, int(at + 16_000 >= len(message)), piece))
        await wire.writer.drain()


async def _more(wire: Wire) -> int:
    frame = await wire.next()
    assert frame is not None
    if frame.kind == 4 and not frame.flags:
        settings = [frame.payload[at : at + 6] for at in range(0, len(frame.payload), 6)]
        return sum(int.from_bytes(each[2:], "big") - 65_535 for each in settings if each[:2] == b"\0\4")
    # The connection's window is the larger one, so only what is said of the stream counts.
    return int.from_bytes(frame.payload, "big") if frame.kind == 8 and frame.stream_id == 1 else 0
