"""Runs a step in a process apart, within bounds, so that a hostile or broken model ends that process and not the caller's."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ergonaut.errors import Refused

TOLD_CHARACTERS = 400
"""What is repeated of a library's own words; more hides the sentence around it."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a step may take: seconds of the clock, and memory beyond what the libraries themselves hold (Linux only)."""

    seconds: float = 120.0
    memory_mib: int = 4096


def apart(task: str, request: Mapping[str, Any], bounds: Bounds, *, own_code: bool = False) -> dict[str, Any]:
    """What a task of `tasks.py` answers. `own_code` lets it import from the current folder. Raises Refused."""
    with TemporaryDirectory(prefix="ergonaut-create-") as folder:
        asked, answered, said = (Path(folder, name) for name in ("request.json", "answer.json", "said.txt"))
        asked.write_text(json.dumps({**request, "memory_mib": bounds.memory_mib}, default=str))
        # -P: a file that lies in the current folder must not stand in for a library.
        command = [sys.executable, *([] if own_code else ["-P"]), "-m", "ergonaut.create.tasks"]
        code = _run([*command, task, str(asked), str(answered)], said, bounds.seconds)
        if code is None:
            raise Refused(f"{_DOING[task]} took longer than {bounds.seconds:g} s; --timeout sets how long it may take")
        if code != 0 or not answered.exists():
            raise Refused(f"{_DOING[task]} ended the process: {_why(code, said)}")
        answer: dict[str, Any] = json.loads(answered.read_text())
    if "refused" in answer:
        raise Refused(f"{_DOING[task]} failed: {answer['refused']}", field=answer.get("field", ""))
    return answer


_DOING = {
    "check": "checking the model",
    "run": "running the model",
    "rows": "running the model over the examples",
    "race": "running both models by turns",
    "optimise": "optimising the model",
    "quantise": "quantising the model",
    "module": "importing and converting the model",
    "sklearn": "converting the scikit-learn model",
    "torch": "converting the PyTorch model",
    "huggingface": "converting the Hugging Face model",
}


def _run(command: list[str], said: Path, seconds: float) -> int | None:
    """The exit code; None where it took too long. Whatever it started is gone when this returns."""
    # A model has no business with keys and addresses.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ERGONAUT_")}
    with (
        said.open("wb") as output,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        ) as process,
    ):
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    if hasattr(os, "killpg"):
        # What it started itself is in its group.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


def _why(code: int, said: Path) -> str:
    with said.open("rb") as file:
        file.seek(max(0, said.stat().st_size - TOLD_CHARACTERS))
        last = file.read().decode(errors="replace").strip().splitlines()
    words = f"; it said: {last[-1]}" if last else ""
    if code >= 0:
        return f"exit code {code}{words}"
    name = signal.Signals(-code).name if -code in {*signal.Signals} else f"signal {-code}"
    return f"{name}, as when it needs more memory than --memory allows or is broken{words}"
