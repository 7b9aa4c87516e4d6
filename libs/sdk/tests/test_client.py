"""The client against a real door: blocking and async, errors by kind, watches that outlive a restart."""

import asyncio
import contextlib
import inspect
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from ergonaut.api.scheduling.v1 import scheduling_pb2 as pb
from ergonaut.api.scheduling.v1 import scheduling_pb2_grpc as pb_grpc
from ergonaut.client import AsyncClient, Client, Connection, watching
from ergonaut.errors import NotAllowed, NotFound, Refused, Unavailable
from ergonaut.jobs import JobSpec
from ergonaut.statuses import error_of
from ergonaut_common.auth import KeyRing
from ergonaut_common.rpc import caller, serving
from ergonaut_common.testing import free_port, key_ring_file

NAME = "ergonaut.api.scheduling.v1.SchedulingService"
AREAS = ("jobs", "meters", "prices", "models", "vectors", "ledger", "statements", "budgets")
SPEC = JobSpec(name="hello", command=("true",), duration_seconds_expected=1)


class Door(pb_grpc.SchedulingServiceServicer):
    """Tells of one job, whose state the test sets."""

    def __init__(self) -> None:
        self.state = pb.JOB_STATE_RUNNING
        self.changed = asyncio.Event()
        self.submitted: list[tuple[str, str, bytes]] = []
        self.source = b""

    async def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.GetJobResponse:
        if request.job_id != "job-1":
            raise NotFound(f"there is no job {request.job_id}")
        return pb.GetJobResponse(status=pb.JobStatus(job_id="job-1", name=caller().tenant, state=self.state))

    async def WatchJob(self, request: pb.WatchJobRequest, context: Any) -> AsyncIterator[pb.WatchJobResponse]:
        yield pb.WatchJobResponse(status=pb.JobStatus(job_id=request.job_id, state=self.state))
        await self.changed.wait()
        yield pb.WatchJobResponse(status=pb.JobStatus(job_id=request.job_id, state=self.state))

    async def UploadSource(self, requests: AsyncIterator[Any], context: Any) -> pb.UploadSourceResponse:
        self.source = b"".join([request.chunk async for request in requests])
        return pb.UploadSourceResponse(source=f"sha256-{'0' * 64}")

    async def SubmitJob(self, request: pb.SubmitJobRequest, context: Any) -> pb.SubmitJobResponse:
        self.submitted.append((request.job_id, request.job.source, self.source))
        return pb.SubmitJobResponse(job_id=request.job_id)

    async def DownloadArtifact(self, request: Any, context: Any) -> AsyncIterator[pb.DownloadArtifactResponse]:
        yield pb.DownloadArtifactResponse(chunk=b"half ")
        if request.name.endswith("torn"):
            raise Unavailable("the store is away")
        yield pb.DownloadArtifactResponse(chunk=b"and half")


@contextlib.asynccontextmanager
async def house(ring_and_keys: tuple[Path, dict[str, str]], door: Door, port: int = 0) -> AsyncIterator[Connection]:
    path, keys = ring_and_keys
    add = lambda server: pb_grpc.add_SchedulingServiceServicer_to_server(door, server)
    ring = KeyRing.load(path)
    async with serving(f"127.0.0.1:{port}", service="test", add=add, keys=ring, names=[NAME]) as server:
        yield Connection({"scheduler": f"127.0.0.1:{server.port}"}, keys["default"])


async def test_a_program_with_asyncio_asks_and_is_answered(tmp_path: Path) -> None:
    async with house(key_ring_file(tmp_path), Door()) as connection, AsyncClient(connection) as client:
        status = await client.jobs.get("job-1")
    assert (status.name, status.state) == ("default", pb.JOB_STATE_RUNNING)


async def test_a_program_without_asyncio_asks_and_is_answered(tmp_path: Path) -> None:
    door = Door()
    door.state = pb.JOB_STATE_SUCCEEDED

    def program(connection: Connection) -> tuple[str, list[int]]:
        with Client(connection) as client:
            return client.jobs.get("job-1").name, [status.state for status in client.jobs.watch("job-1")]

    async with house(key_ring_file(tmp_path), door) as connection:
        assert await asyncio.to_thread(program, connection) == ("default", [pb.JOB_STATE_SUCCEEDED])


@pytest.mark.parametrize("area", AREAS)
async def test_all_that_can_be_awaited_can_be_waited_for(area: str) -> None:
    async with AsyncClient(Connection({}, "key")) as client:
        offered = getattr(client, area)
        promised = {
            name for name, _ in inspect.getmembers(type(offered), inspect.isfunction) if not name.startswith("_")
        }
    with contextlib.closing(await asyncio.to_thread(Client, Connection({}, "key"))) as blocking:
        assert {name for name in vars(getattr(blocking, area)) if not name.startswith("_")} == promised


async def test_a_watch_that_is_left_early_and_a_second_close_do_no_harm(tmp_path: Path) -> None:
    def program(connection: Connection) -> None:
        client = Client(connection)
        watch = client.jobs.watch("job-1")
        assert next(watch).job_id == "job-1"
        client.close()
        client.close()
        watch.close()
        with pytest.raises(Refused, match="closed"):
            client.jobs.get("job-1")

    async with house(key_ring_file(tmp_path), Door()) as connection:
        await asyncio.to_thread(program, connection)


async def test_a_call_under_way_is_cancelled_by_a_close_from_another_thread(tmp_path: Path) -> None:
    seen = threading.Event()

    def watching_program(client: Client) -> None:
        for _ in client.jobs.watch("job-1"):
            seen.set()

    async with house(key_ring_file(tmp_path), Door()) as connection:
        client = await asyncio.to_thread(Client, connection)
        program = asyncio.create_task(asyncio.to_thread(watching_program, client))
        await asyncio.to_thread(seen.wait, 10)
        await asyncio.to_thread(client.close)
        _, waiting = await asyncio.wait([program], timeout=30)
    assert waiting == set()


def test_a_client_that_finds_no_system_says_what_to_do_and_leaves_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERGONAUT_HOME", str(tmp_path))
    with pytest.raises(NotFound, match="ergonaut up"):
        Client()
    assert [thread.name for thread in threading.enumerate() if thread.name == "ergonaut-client"] == []


async def test_an_error_says_what_was_attempted_and_keeps_its_kind(tmp_path: Path) -> None:
    async with house(key_ring_file(tmp_path), Door()) as connection, AsyncClient(connection) as client:
        with pytest.raises(NotFound, match="asking for job-2: there is no job job-2"):
            await client.jobs.get("job-2")


async def test_a_wrong_key_is_not_allowed_and_not_repeated(tmp_path: Path) -> None:
    async with house(key_ring_file(tmp_path), Door()) as connection:
        client = AsyncClient(Connection(connection.services, "ergo_abc_hunter2"))
        with pytest.raises(NotAllowed) as refused:
            await client.jobs.get("job-1")
        await client.close()
    assert "hunter2" not in f"{refused.value} {refused.value.__cause__!r}"
    assert "ERGONAUT_API_KEY sets which key is sent" in str(refused.value)


async def test_a_system_that_is_away_is_unavailable_and_says_how_to_look() -> None:
    async with AsyncClient(Connection({"scheduler": f"127.0.0.1:{free_port()}"}, "key")) as client:
        with pytest.raises(Unavailable, match="ergonaut status"):
            await client.jobs.get("job-1")


async def test_an_address_that_nobody_told_is_named(tmp_path: Path) -> None:
    async with AsyncClient(Connection({}, "key")) as client:
        with pytest.raises(NotFound, match="ERGONAUT_LEDGER_ADDRESS"):
            await client.ledger.runs()
        with pytest.raises(NotFound, match="ERGONAUT_GATEWAY_HTTP_ADDRESS"):
            await client.models.predict("digits", [])


async def test_a_metric_that_is_unknown_is_refused_by_its_field() -> None:
    async with AsyncClient(Connection({"vectors": "127.0.0.1:1"}, "key")) as client:
        with pytest.raises(Refused, match=r"metric: 'manhattan' is unknown; known are l2, cosine, inner-product"):
            await client.vectors.create("digits", 64, metric="manhattan")


async def test_a_job_is_submitted_with_the_files_of_its_folder(tmp_path: Path) -> None:
    folder, door = tmp_path / "job", Door()
    folder.mkdir()
    (folder / "train.py").write_text("print('hello')")
    async with house(key_ring_file(tmp_path), door) as connection, AsyncClient(connection) as client:
        assert await client.jobs.submit(SPEC, folder, job_id="job-1") == "job-1"
    ((job_id, source, packed),) = door.submitted
    assert (job_id, source) == ("job-1", f"sha256-{'0' * 64}")
    assert packed.startswith(b"\x1f\x8b")


async def test_a_watch_goes_on_after_a_restart_also_when_the_job_was_quiet_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, door, seen, passed_seconds = free_port(), Door(), [], [0.0]
    monkeypatch.setattr(watching, "monotonic", lambda: time.monotonic() + passed_seconds[0])

    async def watch(connection: Connection) -> None:
        async with AsyncClient(connection) as client:
            async for status in client.jobs.watch("job-1"):
                seen.append(status.state)

    keys = key_ring_file(tmp_path)
    async with house(keys, door, port) as connection:
        watcher = asyncio.create_task(watch(connection))
        async with asyncio.timeout(30):
            while not seen:
                await asyncio.sleep(0.02)
        passed_seconds[0] = 1000.0
    door.state = pb.JOB_STATE_SUCCEEDED
    async with house(keys, door, port):
        await asyncio.wait_for(watcher, 60)
    assert seen == [pb.JOB_STATE_RUNNING, pb.JOB_STATE_SUCCEEDED]


async def test_a_watch_of_a_service_that_stays_away_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "AWAY_SECONDS_MAX", 0.2)
    connection = Connection({"telemetry": f"127.0.0.1:{free_port()}"}, "key")
    async with AsyncClient(connection) as client:
        with pytest.raises(Unavailable, match="watching run-1"):
            async for _ in client.meters.watch_run("run-1"):
                pass


async def test_a_download_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    async with house(key_ring_file(tmp_path), Door()) as connection, AsyncClient(connection) as client:
        assert (await client.jobs.download("run-1/whole", kept / "whole")).read_bytes() == b"half and half"
        with pytest.raises(Unavailable):
            await client.jobs.download("run-1/torn", kept / "torn")
        with pytest.raises(Refused, match="cannot be written"):
            await client.jobs.download("run-1/whole", kept / "whole" / "below-a-file")
    assert [path.name for path in kept.iterdir()] == ["whole"]


def test_a_call_that_was_cut_off_while_it_was_sent_may_be_tried_again() -> None:
    """As gRPC says it, which hides what ended the call behind an error of its own."""
    cut_off = aio.AioRpcError(grpc.StatusCode.INTERNAL, aio.Metadata(), aio.Metadata(), "Internal error from Core")
    told = error_of(cut_off, doing="writing to the collection pages")
    assert type(told) is Unavailable
    assert str(told).startswith("writing to the collection pages: the call was cut off while it was being sent")
