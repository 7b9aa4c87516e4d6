"""How a run tells people: progress on stderr, tables, what is left out and the bars on stdout; what ours failed at is kept."""

import sys

failures: list[str] = []
"""What ours failed at; told at the end, with exit code 1."""


def progress(sentence: str) -> None:
    """Tell whoever waits, apart from the results."""
    print(f"  {sentence}", file=sys.stderr, flush=True)


def tell(sentence: str) -> None:
    """A line of the results."""
    print(sentence, flush=True)


def left_out(name: str, because: str) -> None:
    """Tell what is missing from the comparison."""
    tell(f"  {name} is left out: {because}")
    if name.startswith("ours"):
        failures.append(f"{name}: {because}")


def bar(name: str, value: float | None, bound: float, *, least: bool = True, unless: str = "") -> None:
    """One line a bar: what was promised and what was seen; `unless` is a reason for which it counts as short all the same."""
    if value is None:
        tell(f"{name} is left out: what it rests on was not measured")
        return
    kept = (value >= bound if least else value <= bound) and not unless
    tell(f"BAR {name} {value:.4g} {bound:g} {'ok' if kept else 'short'}{f' ({unless})' if unless else ''}")
