"""The questions that need an NVIDIA GPU: are a run's joules right, and is a shared card split by work?

`make bench-accounting ARGS=--gpu`. The programs under test are matrix products of fixed duty, each a run of its own beside the
other; their tracker is this checkout's. The card's own counter is read when both stand ready and again when both have ended
their runs, so that loading and warming up are in neither figure.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from asking import last_line
from environments import gpu_environment

SECONDS = 60.0
# Loading torch and warming up take some seconds, from a cold disk a minute; what takes longer hangs.
PATIENCE_SECONDS = 300.0
JOULES_OFF_MAX = 0.02
SPLIT_OFF_MAX = 0.1

# Products that last so many milliseconds of each 100, for so long; the number of products is the work that was done.
PROGRAM = """
import sys, time, json
import ergonaut, torch
busy, seconds = float(sys.argv[1]), float(sys.argv[2])
a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
for _ in range(20):
    torch.mm(a, a)
torch.cuda.synchronize()
print("ready", flush=True)
sys.stdin.readline()
done, end = 0, time.monotonic() + seconds
with ergonaut.track(name="gpu") as run:
    while time.monotonic() < end:
        slot = time.monotonic()
        while time.monotonic() < slot + busy / 10:
            torch.mm(a, a); torch.cuda.synchronize(); done += 1
        time.sleep(max(0.0, slot + 0.1 - time.monotonic()))
parts = {part.component: part.energy_joules for part in run.summary.components if part.component.startswith("gpu")}
print(json.dumps({"done": done, "gpu_joules": sum(value or 0.0 for value in parts.values())}), flush=True)
sys.stdin.readline()
"""


def main(bar: Callable[..., None], uv: str) -> None:
    """Ask both questions of one card."""
    joules = _counter()
    environment = gpu_environment(uv)
    if environment.because:
        sys.exit(f"torch cannot be had here: {environment.because}")
    told, used = _together(str(environment.python), [1.0, 0.5], joules)
    print(f"the card used {used:.0f} J; the runs were charged {told}")
    charged = sum(run["gpu_joules"] for run in told)
    if not (used and charged and told[0]["done"]):
        sys.exit("there is nothing to compare: the card's counter, what was charged or the work done stayed at zero")
    bar("gpu_joules_off_counter", abs(charged / used - 1), JOULES_OFF_MAX)
    work = told[0]["done"] / (told[0]["done"] + told[1]["done"])
    bar("gpu_split_off_work", abs(told[0]["gpu_joules"] / charged / work - 1), SPLIT_OFF_MAX)


def _counter() -> Callable[[], float]:
    """What tells the joules that the first card has used since its driver was loaded."""
    import pynvml

    try:
        pynvml.nvmlInit()
        card = pynvml.nvmlDeviceGetHandleByIndex(0)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(card)
    except pynvml.NVMLError as error:
        sys.exit(f"no NVIDIA card with an energy counter answers here: {error}")
    return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(card)) / 1000


def _together(python: str, busy: Sequence[float], joules: Callable[[], float]) -> tuple[list[dict[str, Any]], float]:
    """Programs of these duties at the same time: what each was charged and did, and the joules of the card meanwhile."""
    with tempfile.TemporaryDirectory() as home, ExitStack() as stack:
        programs = [
            stack.enter_context(_program(python, duty, Path(home) / str(number))) for number, duty in enumerate(busy)
        ]
        for program in programs:
            program.line()
        before = joules()
        for program in programs:
            program.release()
        told = [json.loads(program.line()) for program in programs]
        used = joules() - before
        for program in programs:
            program.release()
    return told, used


@dataclass(frozen=True, slots=True)
class Program:
    """One program under test; what goes wrong with it ends the benchmark, with the last thing that it said."""

    child: "subprocess.Popen[str]"
    errors: Path

    def line(self) -> str:
        """The next line that it tells."""
        assert self.child.stdout is not None
        return self.child.stdout.readline() or self._fail()

    def release(self) -> None:
        """Let it go on."""
        assert self.child.stdin is not None
        try:
            self.child.stdin.write("\n")
            self.child.stdin.flush()
        except BrokenPipeError:
            self._fail()

    def _fail(self) -> NoReturn:
        with suppress(subprocess.TimeoutExpired):
            self.child.wait(timeout=10)
        because = self.errors.read_text() or f"it said nothing, or was killed after {PATIENCE_SECONDS + SECONDS:g} s"
        sys.exit(f"a program on the GPU failed with exit code {self.child.returncode}: {last_line(because)}")


@contextmanager
def _program(python: str, duty: float, home: Path) -> Iterator[Program]:
    """One program with a home of its own, gone when the block is, or when it is far too late."""
    home.mkdir()
    with (home / "errors").open("w") as errors:
        child = subprocess.Popen(
            [python, "-c", PROGRAM, str(duty), str(SECONDS)],
            env=os.environ | {"ERGONAUT_HOME": str(home)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    patience = threading.Timer(PATIENCE_SECONDS + SECONDS, child.kill)
    patience.start()
    try:
        yield Program(child, home / "errors")
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=60)
    finally:
        patience.cancel()
        child.kill()
        child.wait()
