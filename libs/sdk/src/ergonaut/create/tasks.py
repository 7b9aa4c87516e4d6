"""What is done in the process apart: check, run, race, optimise, quantise, convert. `apart.py` starts it; files carry all.

A task gets a request and gives an answer that is JSON; what it cannot do is an answer too.
"""

import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ergonaut.create.apart import TOLD_CHARACTERS
from ergonaut.create.feeds import read_feed, write_feed
from ergonaut.create.tensors import Array, Feed, row_count, taken
from ergonaut.errors import ErgonautError, Refused

Request = Mapping[str, Any]
Answer = dict[str, Any]

CHUNK_ROWS = 256
"""Rows a run over many examples: batching gains nothing beyond it, and memory stays bounded."""

QUIET = 4  # onnxruntime's level for fatal errors only; all others come as exceptions


def main() -> None:
    """Read the request, keep within the bounds, do the task, write the answer."""
    task, asked, answered = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    request = json.loads(asked.read_text())
    # Read by onnxruntime when it is loaded: it would keep an id of this machine, and tell its makers which models it runs.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        answered.write_text(json.dumps(_done(task, request)))
    except ErgonautError as error:
        answered.write_text(json.dumps({"refused": str(error)}))
    except MemoryError:
        answered.write_text(json.dumps({"refused": _too_much(request)}))
    except Exception as error:
        # Whatever a library raises over a strange model; the file is at fault, and its words are the best there are.
        told = _too_much(request) if "bad_alloc" in str(error) else first_line(error)
        answered.write_text(json.dumps({"refused": told}))


def _done(task: str, request: Request) -> Answer:
    function, libraries = TASKS[task]
    for library in libraries:
        importlib.import_module(library)
    _bound_memory(request["memory_mib"])
    return function(request)


def _too_much(request: Request) -> str:
    return f"it needs more than {request['memory_mib']} MiB; --memory sets how much it may use"


def _bound_memory(memory_mib: int) -> None:
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Elsewhere than on Linux the bound is not kept by the system, and time alone bounds.
    with suppress(OSError, ValueError):
        held_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        most_bytes = held_bytes + (memory_mib << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))


def first_line(error: Exception) -> str:
    """The start of a library's words."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:TOLD_CHARACTERS]


def check(request: Request) -> Answer:
    """Hold a model against the schema, its shapes inferred."""
    import onnx

    # Operators of other domains are told by name elsewhere; shapes that contradict each other are found here.
    onnx.checker.check_model(request["model"], full_check=True)
    return {}


def session(path: str, **options: Any) -> Any:
    """A session as the gateway opens it: one thread."""
    import onnxruntime

    wishes = onnxruntime.SessionOptions()
    wishes.intra_op_num_threads = wishes.inter_op_num_threads = 1
    wishes.log_severity_level = QUIET
    for name, value in options.items():
        setattr(wishes, name, value)
    return onnxruntime.InferenceSession(path, wishes, providers=["CPUExecutionProvider"])


def run(request: Request) -> Answer:
    """Run the first of several feeds that a model takes, some times over; tells which, how long, and whether it varied."""
    opened = session(request["model"])
    problems = []
    for place, path in enumerate(request["feeds"]):
        feed = read_feed(Path(path))
        try:
            outputs = outputs_of(opened, feed)
        except MemoryError:
            raise
        except Exception as error:
            problems.append(first_line(error))
            continue
        seconds, same = _again(opened, feed, outputs, request.get("times", 5))
        write_feed(Path(request["outputs"]), outputs)
        return {"used": place, "seconds_median": seconds, "deterministic": same, "problems": problems}
    raise Refused(problems[0])


def _again(opened: Any, feed: Feed, first: Feed, times: int) -> tuple[float, bool]:
    durations, same = [], True
    until = time.monotonic() + 2.0  # enough for a median; slow models are run fewer times
    for _ in range(times):
        began = time.perf_counter()
        outputs = outputs_of(opened, feed)
        durations.append(time.perf_counter() - began)
        same = same and all(_equal(outputs[name], first[name]) for name in first)
        if time.monotonic() > until:
            break
    return statistics.median(durations), same


def outputs_of(opened: Any, feed: Feed) -> dict[str, Array]:
    """What a session gives, by name. Raises Refused where an output is no tensor."""
    names = [each.name for each in opened.get_outputs()]
    outputs = dict(zip(names, opened.run(names, dict(feed)), strict=True))
    strange = [name for name, value in outputs.items() if not isinstance(value, np.ndarray | np.generic)]
    if strange:
        raise Refused(f"the output {strange[0]} is no tensor")
    return {name: np.asarray(value) for name, value in outputs.items()}


def _equal(one: Array, other: Array) -> bool:
    if one.dtype == object:
        return bool(np.array_equal(one, other))
    return one.tobytes() == other.tobytes()


def rows(request: Request) -> Answer:
    """Run every row of a feed, in chunks where the model takes more than one at once."""
    opened = session(request["model"])
    feed = read_feed(Path(request["feeds"][0]))
    parts = [outputs_of(opened, part) for part in chunks(feed, request["chunk_rows"])]
    joined = {name: np.concatenate([np.atleast_1d(part[name]) for part in parts]) for name in parts[0]}
    write_feed(Path(request["outputs"]), joined)
    return {"rows": row_count(feed)}


def chunks(feed: Feed, size: int) -> Iterator[Feed]:
    """A feed's rows, some at a time."""
    if row_count(feed) == 1:
        yield feed
        return
    for start in range(0, row_count(feed), size):
        yield taken(feed, slice(start, start + size))


def race(request: Request) -> Answer:
    """Run several models by turns on the same feed: medians of seconds, and what each gives."""
    feed = read_feed(Path(request["feeds"][0]))
    opened = [session(path) for path in request["models"]]
    for one, path in zip(opened, request["outputs"], strict=True):
        write_feed(Path(path), outputs_of(one, feed))
    durations: list[list[float]] = [[] for _ in opened]
    until = time.monotonic() + 1.0
    while (time.monotonic() < until and len(durations[0]) < 200) or len(durations[0]) < 3:
        for place, one in enumerate(opened):
            began = time.perf_counter()
            outputs_of(one, feed)
            durations[place].append(time.perf_counter() - began)
    return {"seconds_median": [statistics.median(each) for each in durations]}


LEVELS = {"basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED", "all": "ORT_ENABLE_ALL"}


def optimise(request: Request) -> Answer:
    """Let onnxruntime rewrite the graph and write it down."""
    import onnxruntime

    level = getattr(onnxruntime.GraphOptimizationLevel, LEVELS[request["level"]])
    session(request["model"], graph_optimization_level=level, optimized_model_filepath=request["out"])
    return {}


def quantise(request: Request) -> Answer:
    """Make weights int8, and activations too where there is data that tells their ranges."""
    from onnxruntime import quantization

    if request["kind"] == "dynamic":
        quantization.quantize_dynamic(request["model"], request["out"], weight_type=quantization.QuantType.QInt8)
        return {}

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        """Hands out the calibration rows, as the library asks for them."""

        def __init__(self) -> None:
            feed = read_feed(Path(request["feeds"][0]))
            self._parts: Iterator[Feed] = chunks(feed, request["chunk_rows"])

        def get_next(self) -> dict[str, Array] | None:
            part = next(self._parts, None)
            return None if part is None else dict(part)

    quantization.quantize_static(request["model"], request["out"], Reader(), per_channel=False)
    return {}


def _convert_sklearn(request: Request) -> Answer:
    from ergonaut.create.from_sklearn import convert, load

    return convert(load(request), request)


def _convert_module(request: Request) -> Answer:
    """Convert what a person's own code holds: a torch module where it is one, else a scikit-learn estimator."""
    module, _, attribute = request["source"].partition(":")
    found = importlib.import_module(module)
    for name in attribute.split("."):
        found = getattr(found, name)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(found, torch.nn.Module):
        from ergonaut.create.from_torch import convert_module

        return convert_module(found, request)
    from ergonaut.create.from_sklearn import convert

    return convert(found, request)


def _convert_torch(request: Request) -> Answer:
    from ergonaut.create.from_torch import convert

    return convert(request)


def _convert_huggingface(request: Request) -> Answer:
    from ergonaut.create.from_torch import convert_pretrained

    return convert_pretrained(request)


TASKS: dict[str, tuple[Callable[[Request], Answer], Sequence[str]]] = {
    "check": (check, ("onnx",)),
    "run": (run, ("onnxruntime",)),
    "rows": (rows, ("onnxruntime",)),
    "race": (race, ("onnxruntime",)),
    "optimise": (optimise, ("onnxruntime",)),
    "quantise": (quantise, ("onnxruntime.quantization",)),
    "module": (_convert_module, ()),
    "sklearn": (_convert_sklearn, ("skl2onnx",)),
    "torch": (_convert_torch, ("torch",)),
    "huggingface": (_convert_huggingface, ("torch", "transformers")),
}
"""What may be asked for, and the libraries that are loaded before memory is bounded."""

if __name__ == "__main__":
    main()
