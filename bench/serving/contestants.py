"""Servers as they are started, stopped and made to stand still: each peer, serving one model, as processes of its own.

Whoever is not measured is stopped by SIGSTOP, so that it can use no CPU; it keeps its memory.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
from environments import Environment
from subjects import Model
from wires import GRPC_PATH, INFER_PATH, Door, first_answer

from ergonaut_common.testing import free_port

PEERS = Path(__file__).with_name("peers")
START_SECONDS_MAX = 90.0
LEAVE_SECONDS_MAX = 5.0
LOOK_AGAIN_SECONDS = 0.002
WIRES = {
    "mlserver": ("json", "binary", "grpc"),
    "kserve": ("json", "binary", "grpc"),
    "pytriton": ("json", "binary", "grpc"),
    "litserve": ("plain",),
    "bentoml": ("plain",),
}
"""What each peer is asked by."""

PATHS = {"litserve": "/predict", "bentoml": "/infer", "grpc": GRPC_PATH}


FRESH = ("pytriton",)
"""What cannot stand still: Triton ends once its backend was not scheduled for a while. It is started anew for every turn."""


class Absent(Exception):
    """A server that did not start, and what its log says last."""


class Contestant(ABC):
    """One server with one model. `name` is told to people; `doors` are the ways to ask it, by wire."""

    def __init__(self, name: str, model: Model) -> None:
        self.name, self.model = name, model
        self.doors: dict[str, Door] = {}
        self.ready_seconds = 0.0

    @abstractmethod
    def start(self) -> None:
        """Start it and wait for its first right answer. Raises Absent."""

    @abstractmethod
    def stop(self) -> None:
        """End it; harmless where it has ended."""

    @abstractmethod
    def processes(self) -> list[psutil.Process]:
        """All that belongs to the server."""

    def stand_still(self) -> None:
        """Use no CPU until `go_on`."""
        _signal(self.processes(), signal.SIGSTOP)

    def go_on(self) -> None:
        """Be as before."""
        _signal(self.processes(), signal.SIGCONT)

    def idle_bytes(self) -> int:
        """Its memory as it is now: each process's share of what it has in common with others, summed up."""
        return sum(_proportional_bytes(process.pid) for process in self.processes())

    def cpu_seconds(self) -> float:
        """CPU time that its processes have used."""
        total = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                used = process.cpu_times()
                total += used.user + used.system
        return total


class Peer(Contestant):
    """A peer in its own environment. Its log is in `folder`."""

    def __init__(self, environment: Environment, model: Model, folder: Path) -> None:
        super().__init__(environment.name, model)
        self._environment, self._folder = environment, folder / f"{environment.name}-{model.name}"
        self._process: subprocess.Popen[bytes] | None = None
        self._known: set[psutil.Process] = set()
        self._ports = {name: free_port() for name in ("HTTP", "GRPC", "METRICS")}
        for wire in WIRES[self.name]:
            path = PATHS.get(wire if wire == "grpc" else self.name, INFER_PATH)
            self.doors[wire] = Door(model, wire, self._ports["GRPC" if wire == "grpc" else "HTTP"], path)

    def start(self) -> None:
        """As its documentation starts it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        command = _command(self._environment, self._folder, self._ports)
        log = self._folder / "log"
        began = time.perf_counter()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=output, cwd=self._folder, env=self._variables()
            )
        self.ready_seconds = seconds_until_right(self.doors[WIRES[self.name][0]], self._process, began, log)

    def stand_still(self) -> None:
        """As every contestant, or be gone until `go_on`."""
        if self.name in FRESH:
            self.stop()
        else:
            super().stand_still()

    def go_on(self) -> None:
        """Raises Absent where it had to be started and was not."""
        if self.name in FRESH:
            self.start()
        else:
            super().go_on()

    def stop(self) -> None:
        """Ask it to leave, and end what is still there."""
        processes = self.processes()
        _signal(processes, signal.SIGCONT)
        _signal(processes, signal.SIGTERM)
        _, alive = psutil.wait_procs(processes, timeout=LEAVE_SECONDS_MAX)
        _signal(alive, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def processes(self) -> list[psutil.Process]:
        """Those that it had earlier too, where they outlive the one that started them."""
        self._known |= set(family(self._process))
        self._known = {process for process in self._known if process.is_running()}
        return list(self._known)

    def _variables(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("ERGONAUT_", "PYTHON"))}
        folder = self._environment.python.parent
        own |= {f"BENCH_{name}_PORT": str(port) for name, port in self._ports.items()}
        own |= {"BENCH_MODEL": str(self.model.path), "PYTHONPATH": str(PEERS), "BENTOML_DO_NOT_TRACK": "True"}
        own |= {"PATH": f"{folder}:{own.get('PATH', '')}", "BENTOML_HOME": str(self._folder)}
        if self.name == "pytriton":
            # Its stub looks for Python's own shared library, which a Python that is not the system's keeps elsewhere.
            asked = [str(self._environment.python), "-c", "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))"]
            own["LD_LIBRARY_PATH"] = subprocess.check_output(asked, text=True).strip()
        return own


def _command(environment: Environment, folder: Path, ports: Mapping[str, int]) -> list[str]:
    """What starts a peer; MLServer wants its settings as files."""
    binaries = environment.python.parent
    if environment.name == "bentoml":
        service = ["serve", "bento_server:ServedModel", "--working-dir", str(PEERS)]
        return [str(binaries / "bentoml"), *service, "--host", "127.0.0.1", "--port", str(ports["HTTP"])]
    if environment.name != "mlserver":
        return [str(environment.python), str(PEERS / f"{environment.name}_server.py")]
    server = {f"{name.lower()}_port": port for name, port in ports.items()}
    # With its default of one worker process, MLServer 1.7.1's worker ends again and again: it finds no event loop.
    server |= {"host": "127.0.0.1", "debug": False, "parallel_workers": 0}
    model = {
        "name": "m",
        "implementation": "mlserver_runtime.ServedModel",
        "max_batch_size": 32,
        "max_batch_time": 0.001,
    }
    (folder / "settings.json").write_text(json.dumps(server))
    (folder / "model-settings.json").write_text(json.dumps(model))
    return [str(binaries / "mlserver"), "start", str(folder)]


def seconds_until_right(door: Door, process: "subprocess.Popen[bytes]", began: float, log: Path) -> float:
    """Seconds from `began` to the first right answer. Raises Absent with what the log says last."""
    because = "it did not answer"
    while time.perf_counter() - began < START_SECONDS_MAX and process.poll() is None:
        if _listens(door.port) and not (because := first_answer(door)):
            return time.perf_counter() - began
        time.sleep(LOOK_AGAIN_SECONDS)
    lines = log.read_text(errors="replace").strip().splitlines()
    raise Absent(f"{because}; its log ends: {' / '.join(lines[-2:])[-400:]}")


def _listens(port: int) -> bool:
    import socket

    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def family(process: "subprocess.Popen[bytes] | None") -> list[psutil.Process]:
    """A process with all its descendants, as far as they live."""
    if process is None or process.poll() is not None:
        return []
    try:
        head = psutil.Process(process.pid)
        return [head, *head.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _signal(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _proportional_bytes(pid: int) -> int:
    """What the kernel charges a process for, memory that it shares divided among its sharers; 0 once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
