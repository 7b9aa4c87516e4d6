"""One engine in a process of its own: builds, searches and tells what it took. Started and asked by `contestants.py`.

A question is a line of JSON on stdin, its answer one on stdout. Time is the process's own CPU time where one thread works, which
others on the machine disturb least, and the clock's where several do.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from engines import CANDIDATES_BUILT, LINKS, Array, Given, engine_of
from environments import PACKAGES

Answer = dict[str, Any]

WARMING_ROWS = 2_000
"""Enough that every engine makes of them what it makes of many: ours compares up to 1,024 rows one by one."""

ROUND_SECONDS = 0.25
"""How long a round by the clock lasts at least."""

BUILT_BEFORE = 2 / 3
"""The share of a set that is built before half of that is replaced by the rest."""


class Worker:
    """The engine, and what it is asked with."""

    def __init__(self, told: Answer) -> None:
        given = Given(**told["given"])
        self._engine = engine_of(told["engine"], given)
        made = [*PACKAGES.get(told["engine"], ())[1:], *map(str, given.options.values()), given.metric]
        self._made = None if told["engine"] == "ours" else "-".join([*made, f"{LINKS}-{CANDIDATES_BUILT}"])
        folder = Path(told["folder"])
        self._base = np.load(folder / f"base_{told['reads']}.npy", mmap_mode="r")
        self._queries = np.load(folder / f"query_{told['reads']}.npy")
        self._truth = np.load(folder / "truth.npy")

    def build(self, threads: int = 1, share: float = 1.0, keep: str = "", seed: int = 1) -> Answer:
        """Build over the set, or over its first `share`. A peer's index is kept in the folder `keep`, and had from there."""
        self._engine.seed = seed
        base = self._base[: int(len(self._base) * share)]
        kept = Path(keep) / self._made if keep and self._made else None
        seconds = self._timed(np.ascontiguousarray(base), threads) if kept is None else self._kept(kept, base, threads)
        self._engine.search(self._queries[:16], 10, self._engine.efforts[0], 1)
        return {**seconds, "rows": len(base), "efforts": list(self._engine.efforts), **self._engine.told()}

    def _timed(self, base: Array, threads: int) -> Answer:
        # Programs load, and some compile, when they are first used, which takes as long whatever is built.
        self._engine.build(base[:WARMING_ROWS], threads)
        wall, cpu = time.perf_counter(), time.process_time()
        self._engine.build(base, threads)
        return {"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.perf_counter() - wall}

    def _kept(self, folder: Path, base: Array, threads: int) -> Answer:
        """Open what an earlier run built, and tell what it took then; build and keep it where there is nothing yet."""
        took = folder / "took.json"
        if took.exists():
            self._engine.load(folder)
            return dict(json.loads(took.read_text()))
        seconds = self._timed(np.ascontiguousarray(base), threads)
        folder.mkdir(parents=True, exist_ok=True)
        self._engine.save(folder)
        took.write_text(json.dumps(seconds))
        return seconds

    def measure(self, effort: float, limit: int = 10, threads: int = 1) -> Answer:
        """All queries in one call."""
        wall, cpu = time.perf_counter(), time.process_time()
        found = self._engine.search(self._queries, limit, effort, threads)
        cpu_seconds, wall_seconds = time.process_time() - cpu, time.perf_counter() - wall
        seconds = cpu_seconds if threads == 1 else wall_seconds
        return {"recall": self._recall(found, limit), "per_second": len(found) / seconds, "cpu_seconds": cpu_seconds}

    def recall_of(self, truth: str, effort: float, limit: int = 10) -> Answer:
        """Recall against other exact answers than the set's own."""
        found = self._engine.search(self._queries, limit, effort, 1)
        return {"recall": _shared(found, np.load(truth)[:, :limit])}

    def by_clock(self, effort: float, threads: int, limit: int = 10) -> Answer:
        """All queries in one call, again for a while, by the clock however many threads there are; and the CPU time of each."""
        wall, cpu, answered = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - wall < ROUND_SECONDS:
            answered += len(self._engine.search(self._queries, limit, effort, threads))
        cpu_seconds, wall_seconds = time.process_time() - cpu, time.perf_counter() - wall
        return {"per_second": answered / wall_seconds, "cpu_seconds_each": cpu_seconds / answered}

    def one_by_one(self, effort: float, limit: int = 10) -> Answer:
        """A query a call, each timed by the clock."""
        seconds, found = [], []
        for query in self._queries:
            begun = time.perf_counter()
            found.append(self._engine.search(query[None], limit, effort, 1)[0])
            seconds.append(time.perf_counter() - begun)
        micros = np.percentile(np.array(seconds) * 1e6, [50, 99])
        return {"recall": self._recall(np.array(found), limit), "p50_us": micros[0], "p99_us": micros[1]}

    def filtered(self, mask: str, truth: str, effort: float, limit: int = 10) -> Answer:
        """Queries among the rows of a mask, or of a mask a query where the file has one for each."""
        masks, exact = np.load(mask), np.load(truth)
        seconds, hits, wanted, short, wrong = 0.0, 0, 0, 0, 0
        for at, (allowed, rows) in enumerate(_by_mask(masks, len(exact))):
            self._engine.allow(allowed)
            if not at:
                # What is loaded or compiled for the first search among some rows is there for all later ones.
                self._engine.search(self._queries[rows[:1]], limit, effort, 1)
            begun = time.process_time()
            found = self._engine.search(self._queries[rows], limit, effort, 1)
            seconds += time.process_time() - begun
            least = min(limit, int(allowed.sum()))
            for ids, best in zip(found, exact[rows], strict=True):
                real = {int(each) for each in ids if 0 <= each < len(allowed)}
                hits, wanted = hits + len(real & set(best[:least].tolist())), wanted + least
                short += len(real) != least
                wrong += sum(not allowed[each] for each in real)
        self._engine.allow(None)
        return {
            "recall": hits / wanted,
            "per_second": len(exact) / seconds,
            "short_answers": short,
            "wrong_rows": wrong,
        }

    def replace_half(self, truth: str, effort: float, limit: int = 10) -> Answer:
        """Delete the first half of what was built and insert the rest of the set, then search; `truth` is of what is left."""
        built = int(len(self._base) * BUILT_BEFORE)
        gone, exact = built // 2, np.load(truth)[:, :limit]
        begun = time.process_time()
        self._engine.delete(np.arange(gone))
        deleted = time.process_time() - begun
        fresh = np.ascontiguousarray(self._base[built:])
        begun = time.process_time()
        self._engine.insert(fresh, built)
        inserted = time.process_time() - begun
        found = self._engine.search(self._queries, limit, effort, 1)
        return {
            "deletes_per_second": gone / deleted,
            "inserts_per_second": len(fresh) / inserted,
            "recall": _shared(found, exact),
            "deleted_found": int(((found >= 0) & (found < gone)).sum()),
        }

    def save(self, to: str) -> Answer:
        """Keep it on disk."""
        Path(to).mkdir(parents=True, exist_ok=True)
        self._engine.save(Path(to))
        return {"bytes": sum(each.stat().st_size for each in Path(to).iterdir())}

    def warm(self) -> Answer:
        """Build and ask a small index, so that all that the program needs itself is in memory."""
        self._engine.build(np.ascontiguousarray(self._base[:WARMING_ROWS]), 1)
        for effort in (self._engine.efforts[0], self._engine.efforts[-1]):
            self._engine.search(self._queries, 10, effort, 1)
        return {}

    def load(self, at: str) -> Answer:
        """Open what was kept, and answer one query."""
        before, begun = resident(), time.perf_counter()
        self._engine.load(Path(at))
        opened = time.perf_counter()
        self._engine.search(self._queries[:1], 10, self._engine.efforts[3 % len(self._engine.efforts)], 1)
        first = time.perf_counter()
        return {
            "load_ms": (opened - begun) * 1e3,
            "first_query_ms": (first - opened) * 1e3,
            "anonymous_before_bytes": before["anonymous_bytes"],
            "efforts": list(self._engine.efforts),
        }

    def memory(self) -> Answer:
        """What it holds by now."""
        return resident()

    def _recall(self, found: Array, limit: int) -> float:
        return _shared(found, self._truth[:, :limit])


def _shared(found: Array, best: Array) -> float:
    """Which part of the best was found."""
    both = zip(found.tolist(), best.tolist(), strict=True)
    return float(np.mean([len(set(ids) & set(exact)) / len(exact) for ids, exact in both]))


def _by_mask(masks: Array, queries: int) -> list[tuple[Array, Array]]:
    if masks.ndim == 1:
        return [(masks, np.arange(queries))]
    return [(mask, np.array([at])) for at, mask in enumerate(masks)]


def resident() -> dict[str, int]:
    """Bytes in memory: of the process's own, and of mapped files: all of an index's, and those of the rows that were touched."""
    found, name = {"anonymous_bytes": 0, "mapped_index_bytes": 0, "mapped_rows_bytes": 0}, ""
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = line.split()
        if "-" in head[0] and not head[0].endswith(":"):
            name = head[5] if len(head) > 5 else ""
        elif head[0] == "Anonymous:":
            found["anonymous_bytes"] += int(head[1]) * 1024
        elif name.endswith(".npy") and "/kept/" in name:
            rows = name.endswith("_rows.npy")
            if head[0] == ("Rss:" if rows else "Size:"):
                found["mapped_rows_bytes" if rows else "mapped_index_bytes"] += int(head[1]) * 1024
    return found


def main() -> None:
    """Answer until stdin ends. What libraries print goes to stderr."""
    answers, sys.stdout = sys.stdout, sys.stderr
    worker: Worker | None = None
    for line in sys.stdin:
        question = json.loads(line)
        name = question.pop("do")
        try:
            if name == "begin":
                worker, answer = Worker(question), {}
            else:
                ask: Callable[..., Answer] = getattr(worker, name)
                answer = ask(**question)
        except Exception as error:  # Whatever a peer raises is an answer of the comparison.
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
