"""How a run tells people: progress on stderr, what is left out and the bars on stdout; what ours failed at is kept."""

import sys

from contestants import WIRES

failures: list[str] = []
"""What ours failed at; told at the end, with exit code 1."""


def left_out(name: str, because: str) -> None:
    """Tell what is missing from the comparison."""
    print(f"  {name} is left out, {because}", flush=True)
    if name not in WIRES:
        failures.append(f"{name} failed, {because}")


def progress(sentence: str) -> None:
    """Tell whoever waits, apart from the results."""
    print(f"  {sentence}", file=sys.stderr, flush=True)


def bar(name: str, value: float | None, bound: float, *, least: bool = False) -> None:
    """One line a bar: what was promised and what was seen; or that it is left out."""
    if value is None:
        print(f"{name} is left out: what it rests on was not measured", flush=True)
        return
    kept = value >= bound if least else value <= bound
    print(f"BAR {name} {value:.4g} {bound:g} {'ok' if kept else 'short'}", flush=True)
