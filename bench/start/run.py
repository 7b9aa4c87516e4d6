"""How fast the house is at hand: `import ergonaut`, `ergonaut up` on a warm machine, and what the tracker's import costs a peer.

`make bench-start`. Rounds alternate between what is compared; medians are told. CodeCarbon is compared where it is installed
(`uv pip install codecarbon`); it is no dependency.
"""

import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

ROUNDS = 7
IMPORT_SECONDS_MAX = 0.1
UP_SECONDS_MAX = 15.0


def seconds_of(command: Sequence[str], environment: dict[str, str] | None = None) -> float:
    """Wall time of a whole process that must succeed."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - started


def import_medians(modules: Sequence[str]) -> dict[str, float]:
    """Median seconds that each import adds to a bare interpreter, rounds alternated."""
    statements = {"": "pass"} | {module: f"import {module}" for module in modules}
    rounds: dict[str, list[float]] = {name: [] for name in statements}
    for _ in range(ROUNDS):
        for name, statement in statements.items():
            rounds[name].append(seconds_of([sys.executable, "-c", statement]))
    medians = {name: statistics.median(times) for name, times in rounds.items()}
    return {name: medians[name] - medians[""] for name in modules}


def warm_up_seconds() -> float:
    """Median seconds of `ergonaut up` after a first one has warmed the machine."""
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"ERGONAUT_HOME": home}
        times = []
        for _ in range(4):
            try:
                times.append(seconds_of([sys.executable, "-m", "ergonaut", "up"], environment))
            finally:
                seconds_of([sys.executable, "-m", "ergonaut", "down"], environment)
    return statistics.median(times[1:])


def bar(name: str, value: float, bound: float) -> None:
    """One line a bar: what was promised and what was seen."""
    print(f"BAR {name} {value:.3f} {bound:g} {'ok' if value <= bound else 'short'}")


def main() -> None:
    """Measure and tell."""
    peers = [name for name in ("codecarbon",) if importlib.util.find_spec(name)]
    imports = import_medians(["ergonaut", *peers])
    for peer in peers:
        print(f"import {peer}: {imports[peer]:.3f} s, {imports[peer] / imports['ergonaut']:.1f} times ergonaut")
    bar("import_ergonaut_seconds", imports["ergonaut"], IMPORT_SECONDS_MAX)
    bar("up_warm_seconds", warm_up_seconds(), UP_SECONDS_MAX)


if __name__ == "__main__":
    main()
