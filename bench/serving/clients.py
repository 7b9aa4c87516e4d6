"""The clients that put peak load on servers: wrk for HTTP and h2load for gRPC, or ours in place of either that is not there.

Which is chosen once and serves every row of a run, so that ratios compare servers only.
"""

import os
import re
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from load import Load, driven
from wires import GRPC_PATH, Door, messages

CALLERS = 32
PATIENCE_SECONDS = 60.0
POST = Path(__file__).with_name("post.lua")
INSTALL = {"wrk": "apt-get install wrk", "h2load": "apt-get install nghttp2-client"}
# Of a right answer's bytes, an answer that is an error has none; h2load counts both as done.
MESSAGE_BYTES_MIN = 40


@dataclass(frozen=True, slots=True)
class Seen:
    """Peak load on one door: answers a second, latencies in milliseconds, how many requests failed, and the server's CPU
    time for each, which other work on the machine changes least."""

    per_second: float
    latency_ms_p50: float
    latency_ms_p99: float
    failed: int
    cpu_microseconds: float = 0.0


class Clients:
    """The client for each protocol."""

    def __init__(self, *, ours: bool = False) -> None:
        self._ours = ours
        self._paths = {name: None if ours else shutil.which(name) for name in INSTALL}

    def told(self) -> str:
        """Which clients are used and what could be installed."""
        used = {"HTTP": "wrk", "gRPC": "h2load"}
        words = [f"{what} {name if self._paths[name] else 'ours'}" for what, name in used.items()]
        missing = [
            f"{name} (Debian: {INSTALL[name]})" for name, path in self._paths.items() if not path and not self._ours
        ]
        after = f"; ours stands in for {' and '.join(missing)}, and costs more CPU" if missing else ""
        return f"clients: {', '.join(words)}, {CALLERS} connections{after}"

    def peak(self, door: Door, seconds: int) -> Seen:
        """32 callers that ask again at once for so many whole seconds. Raises ValueError where the client failed."""
        wanted = "h2load" if door.is_grpc else "wrk"
        path = self._paths[wanted]
        if path is None:
            outcome = driven(Load(door, CALLERS, seconds))
            failed = sum(outcome.answers.values()) - outcome.answers.get(200, 0)
            return Seen(outcome.per_second, outcome.latency_ms(0.5), outcome.latency_ms(0.99), failed)
        with tempfile.TemporaryDirectory() as folder:
            ask = _h2load if door.is_grpc else _wrk
            return ask(path, door, seconds, Path(folder))


def _wrk(path: str, door: Door, seconds: int, folder: Path) -> Seen:
    requests = folder / "requests"
    requests.write_bytes(b"".join(struct.pack(">I", len(text)) + text for text in messages(door)))
    command = [path, "-t1", f"-c{CALLERS}", f"-d{seconds}s", "-s", str(POST), f"http://127.0.0.1:{door.port}"]
    said = _output(command, seconds, {"BENCH_REQUESTS": str(requests)})
    found = re.search(r"RESULT ([\d.]+) ([\d.]+) ([\d.]+) (\d+)", said)
    if found is None:
        raise ValueError(f"wrk told nothing: {said.strip()[-300:]}")
    return Seen(float(found[1]), float(found[2]), float(found[3]), int(found[4]))


def _h2load(path: str, door: Door, seconds: int, folder: Path) -> Seen:
    request, log = folder / "request", folder / "log"
    request.write_bytes(messages(door)[0])
    command = [path, "-t1", f"-c{CALLERS}", "-m1", "-D", str(seconds), "-d", str(request), f"--log-file={log}"]
    for name, value in (("content-type", "application/grpc"), ("te", "trailers"), *door.headers):
        command += ["-H", f"{name.lower()}: {value}"]
    said = _output([*command, f"http://127.0.0.1:{door.port}{GRPC_PATH}"], seconds, {})
    rate = re.search(r"([\d.]+) req/s", said)
    counts = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", said)
    data = re.search(r"\((\d+)\) data", said)
    if rate is None or counts is None or data is None:
        raise ValueError(f"h2load told nothing: {said.strip()[-300:]}")
    lines = (line.split() for line in log.read_text().splitlines())
    micros = sorted(int(parts[2]) for parts in lines if parts[1] == "200")
    if not micros or int(data[1]) < MESSAGE_BYTES_MIN * int(counts[2]):
        raise ValueError("calls were answered without a message")
    p50, p99 = (micros[min(len(micros) - 1, int(len(micros) * part))] / 1000 for part in (0.5, 0.99))
    return Seen(float(rate[1]), p50, p99, sum(int(counts[number]) for number in (3, 4, 5)))


def _output(command: list[str], seconds: int, variables: dict[str, str]) -> str:
    environment = {**os.environ, **variables}
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, timeout=seconds + PATIENCE_SECONDS
        )
    except subprocess.TimeoutExpired as late:
        raise ValueError(f"{Path(command[0]).name} did not end") from late
    return ended.stdout + ended.stderr
