"""A program: reads on stdin which ONNX file to try and how much memory it may take beyond the libraries' own; loads it, runs it
on generated inputs, and says on stdout what keeps it from being served."""

import contextlib
import json
import re
import resource
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime

from ergonaut.errors import Refused
from ergonaut_gateway.adapters import bf16
from ergonaut_gateway.adapters.declared import declared
from ergonaut_gateway.adapters.sessions import PROVIDERS, opened, signature_of, to_onnx
from ergonaut_gateway.domain.drawing import Drawing, drawings

ROWS = (1, 16)
"""Of the requests that are tried: one, and as many as the gateway joins when it learns what rows cost."""

RUN_SECONDS_MAX = 2.0
"""After this the trial ends, without an objection."""

_WANTS_MEMORY = re.compile(r"bad_alloc|failed to allocate|out of memory|cannot allocate|MemoryError", re.IGNORECASE)


class _TakesTooMuch(Exception):
    """It asked for more memory than it may have."""


def main() -> None:
    """Be the program."""
    request = json.load(sys.stdin)
    memory_bytes = request["memory_bytes"]
    _confine(memory_bytes, request["seconds"])
    answer: dict[str, Any] = {}
    try:
        answer["runs_out"] = not tried(Path(request["path"]), memory_bytes, for_memory_only=request["for_memory_only"])
    except Refused as error:
        answer = {"refused": str(error).removeprefix(f"{error.field}: "), "field": error.field}
    except (MemoryError, _TakesTooMuch):
        told = f"takes more than {in_gigabytes(memory_bytes)} of memory when it is loaded"
        answer = {"refused": told, "field": "chunk"}
    json.dump(answer, sys.stdout)


def tried(path: Path, memory_bytes: int, *, for_memory_only: bool) -> bool:
    """Whether the memory is enough to run a file. Raises Refused for one that cannot be served, unless only its memory matters,
    and _TakesTooMuch for one that it is too little to load."""
    said = declared(path)
    if said.external:
        told = (
            f"has weights in another file (such as {said.external}), which does not come with it; save it as one file"
        )
        raise Refused(told, field="chunk")
    if said.tensor_bytes > memory_bytes:
        told = f"declares constants of {in_gigabytes(said.tensor_bytes)}, of which {said.largest} is the largest"
        raise Refused(f"{told}; at most {in_gigabytes(memory_bytes)} may be taken", field="chunk")
    try:
        session = opened(path, [PROVIDERS["cpu"]], 1)
    except Refused as error:
        if _WANTS_MEMORY.search(str(error)):
            raise _TakesTooMuch from error
        if for_memory_only:
            return True
        raise
    signature = signature_of(session)
    stop = onnxruntime.RunOptions()
    timer = threading.Timer(RUN_SECONDS_MAX, lambda: setattr(stop, "terminate", True))
    timer.daemon = True
    timer.start()
    for draw in drawings(signature):
        enough = _is_enough(session, draw, stop)
        if enough is not None:
            return enough
    return True


def _is_enough(session: Any, draw: Drawing, stop: Any) -> bool | None:
    """Whether the memory is enough to run what is drawn; None where it cannot be computed for other reasons."""
    names = [output.name for output in session.get_outputs()]
    kinds = {argument.type for argument in (*session.get_inputs(), *session.get_outputs())}
    run = partial(bf16.run, session) if "tensor(bfloat16)" in kinds else session.run
    for count in ROWS:
        try:
            run(names, {name: to_onnx(tensor, name) for name, tensor in draw(count).items()}, stop)
        except MemoryError:
            return False
        except Exception as error:
            return False if _WANTS_MEMORY.search(str(error)) else None
    return True


def in_gigabytes(size_bytes: int) -> str:
    """A size for people.

    >>> in_gigabytes(4 * 1024**3)
    '4.0 GiB'
    """
    return f"{size_bytes / 1024**3:,.1f} GiB"


def _confine(memory_bytes: int, seconds: int) -> None:
    """Let this process have no more than so much memory, and let the system end it before any other where there is none. Where
    nobody is left to end it, as the gateway was killed, its time of work ends it."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    if sys.platform != "linux":
        return
    held_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = held_bytes + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    main()
