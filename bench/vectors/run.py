"""Our vector indexes and the service beside hnswlib, faiss, usearch and pynndescent. `make bench-vectors`.

Every engine runs in a process and a Python of its own and all take turns, round by round, on one thread; told are medians of
their CPU time, rates at a recall interpolated between efforts, recall of queries that are not among the rows. Peers are installed
outside the repository; one that cannot be is told and left out. Sets come from ERGONAUT_BENCH_DATA (`sets.py` tells the form);
without it generated ones stand in.

`ARGS="parts=curves,threads,build,lists,single,memory,filters,replacing,service,million,tenants"` chooses parts,
`only=hnswlib,ours-graph` engines by the beginnings of their names, `sets=sift` sets; `quick` takes one round rather than five
and leaves out what builds for minutes; `pictures=FOLDER` says where curves are drawn (default `.bench/vectors`). All of it takes
about an hour.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from curves import MILLION, Wish, curves_part, million_part
from filters import filters_part
from memory import memory_part
from parts import build_part, lists_part, single_part, threads_part
from replacing import replacing_part
from service import service_part
from sets import Set, generated_set, real_sets
from telling import failures, tell
from tenants import tenants_part

ROUNDS, QUICK_ROUNDS = 5, 1

PARTS: dict[str, Callable[[Set, Wish], None]] = {
    "threads": threads_part,
    "build": build_part,
    "lists": lists_part,
    "single": single_part,
    "memory": memory_part,
    "filters": filters_part,
    "replacing": replacing_part,
    "service": service_part,
}


def stand_ins(work: Path) -> list[Set]:
    """What is measured where no real vectors are."""
    return [
        generated_set(work, 77_000, 128),
        generated_set(work, 77_000, 128, of_bytes=True),
        generated_set(work, 60_000, 384),
    ]


def main(arguments: list[str]) -> int:
    """Measure and tell."""
    told = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    quick = "quick" in arguments
    parts = [part for part in told.get("parts", ",".join(["curves", *PARTS, "million", "tenants"])).split(",") if part]
    names = [name for name in told.get("sets", "").split(",") if name]
    only = frozenset(name for name in told.get("only", "").split(",") if name)
    wish = Wish(QUICK_ROUNDS if quick else ROUNDS, Path(told.get("pictures", ".bench/vectors")), only)
    with TemporaryDirectory() as folder:
        work = Path(folder)
        for of in ([*real_sets(work)] or stand_ins(work)) if set(parts) - {"million"} else []:
            if names and not of.name.startswith(tuple(names)):
                continue
            if "curves" in parts:
                curves_part(of, wish, slow=not quick)
            for part in parts:
                if part in PARTS:
                    tell(f"{of.name}: {part}")
                    PARTS[part](of, wish)
        if "million" in parts and not (quick and "parts" not in told):
            million_part(generated_set(work, MILLION, 128), wish)
    if "tenants" in parts:
        tell("tenants")
        tenants_part(quick=quick)
    for failure in failures:
        tell(f"failed: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
