"""Who is compared on which set, and a handle on the process of each. Used by the parts of `run.py`."""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from environments import environment
from sets import Set
from telling import left_out, progress

Answer = dict[str, Any]

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
"""Keeps libraries from starting a thread a processor; they look when they are loaded."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """An engine with what it is told."""

    name: str
    engine: str
    options: dict[str, Any] = field(default_factory=dict)
    element: str = "float32"
    """What it keeps rows as where the set has such; peers take float32."""


def faiss(name: str, factory: str, **options: Any) -> Contestant:
    """An index of faiss by its factory's word."""
    return Contestant(f"faiss-{name}", "faiss", {"factory": factory, **options})


def ours(name: str, kind: str, element: str = "float32", **parameters: Any) -> Contestant:
    """An index of ours."""
    return Contestant(f"ours-{name}", "ours", {"kind": kind, "parameters": parameters}, element)


def graph_peers() -> list[Contestant]:
    """Peers whose index is a graph."""
    return [
        Contestant("hnswlib", "hnswlib"),
        faiss("hnsw", "HNSW16"),
        Contestant("usearch-f16", "usearch", {"dtype": "f16"}),
    ]


def slow_peers() -> list[Contestant]:
    """Peers that take minutes to build."""
    return [Contestant("pynndescent", "pynndescent")]


def list_peers(dimension: int) -> list[Contestant]:
    """Peers whose index is inverted lists: of products with and without refinement, of bytes, of single bits."""
    quarter, half = dimension // 4, dimension // 2
    return [
        faiss("ivf-pq4", f"IVF{{lists}},PQ{half}x4fs"),
        faiss("ivf-pq4-refine", f"IVF{{lists}},PQ{half}x4fs,RFlat", refine=10),
        faiss("ivf-pq8", f"IVF{{lists}},PQ{quarter}x8"),
        faiss("ivf-pq8-refine", f"IVF{{lists}},PQ{quarter}x8,RFlat", refine=8),
        faiss("ivf-sq8", "IVF{lists},SQ8"),
        faiss("ivf-1bit-refine", "IVF{lists},RaBitQ,RFlat", refine=20),
    ]


def our_graphs(of: Set) -> list[Contestant]:
    """Graphs of ours over a set: over floats, and over bytes where the set is of bytes."""
    found = [ours("graph", "hnsw")]
    if of.element == "uint8":
        found.append(ours("graph-uint8", "hnsw", "uint8"))
    return found


def our_shards(of: Set) -> list[Contestant]:
    """Shards as the service has them, which choose efforts themselves, and indexes where none is wished for."""
    told = [("", {}, "float32"), ("-ivf", {"kind": "ivf"}, "float32"), ("-ivf-pq", {"kind": "ivf-pq"}, "float32")]
    if of.element == "uint8":
        told.append(("-uint8", {}, "uint8"))
    return [Contestant(f"ours-shard{name}", "ours", {"shard": True, **wish}, element) for name, wish, element in told]


def our_lists(of: Set) -> list[Contestant]:
    """Inverted lists of ours; codes of products have as many bytes as those of faiss, bytes need none."""
    quarter, half = of.dimension // 4, of.dimension // 2
    bytes_alone = [ours("lists-uint8", "ivf", "uint8")] if of.element == "uint8" else []
    return [
        *bytes_alone,
        ours("lists-int8", "ivf", codes="int8"),
        ours("lists-1bit", "ivf", codes="bit"),
        ours("ivf-pq8", "ivf-pq", bits=8, parts=quarter, kept=1),
        ours("ivf-pq8-refine", "ivf-pq", bits=8, parts=quarter, kept=8),
        ours("ivf-pq4", "ivf-pq", bits=4, parts=half, kept=1),
        ours("ivf-pq4-refine", "ivf-pq", bits=4, parts=half, kept=10),
    ]


class Worker:
    """An engine's process."""

    def __init__(self, contestant: Contestant, of: Set, python: Path) -> None:
        self.name, self.set = contestant.name, of
        self.efforts: list[float] = []
        self.built: Answer = {}
        command = [str(python), str(Path(__file__).with_name("worker.py"))]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | ONE_THREAD,
        )
        given = {"dimension": of.dimension, "metric": of.metric, "options": contestant.options}
        given["element"] = contestant.element
        reads = contestant.element if contestant.element == of.element else "float32"
        self.row_bytes = of.dimension * (1 if reads == "uint8" else 4)
        self.ask("begin", engine=contestant.engine, given=given, folder=str(of.folder), reads=reads)

    def ask(self, what: str, **details: Any) -> Answer:
        """Ask one thing; raises RuntimeError with what the engine said where it failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": what, **details}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        answer: Answer = json.loads(line) if line else {"error": f"its process ended, {self._process.wait()}"}
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def build(self, **details: Any) -> Answer:
        """Build, and keep what it took."""
        progress(f"{self.set.name}: {self.name} builds")
        self.built = self.ask("build", **details)
        self.efforts = self.built["efforts"]
        return self.built

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def worker(contestant: Contestant, of: Set) -> Worker | None:
    """The process of a contestant; None, with the reason told, where it cannot be."""
    made = environment(contestant.engine)
    if made.because:
        left_out(contestant.name, made.because)
        return None
    try:
        return Worker(contestant, of, made.python)
    except RuntimeError as error:
        left_out(contestant.name, str(error))
        return None


@contextmanager
def built(contestants: Sequence[Contestant], of: Set, **details: Any) -> Iterator[list[Worker]]:
    """Contestants that have built over a set; those that cannot are told and left out."""
    with ExitStack() as stack:
        ready = []
        for contestant in contestants:
            made = worker(contestant, of)
            if made is None:
                continue
            stack.enter_context(made)
            try:
                made.build(**details)
            except RuntimeError as error:
                left_out(contestant.name, str(error))
                continue
            ready.append(made)
        yield ready
