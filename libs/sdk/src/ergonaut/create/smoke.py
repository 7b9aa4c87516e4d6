"""The first try of a model: does it run, how long, is what it gives a number, is it the same each time."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ergonaut.create.apart import Bounds, apart
from ergonaut.create.comparing import Tolerance, agree, compared
from ergonaut.create.feeds import read_feed, write_feed
from ergonaut.create.tensors import DRAWS, Array, Feed, Spec, drawn, row_count, taken
from ergonaut.errors import Refused

PROOF_ROWS = 3
"""Rows that prove a freed batch axis: more than two, so that neither first nor last is all there is."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a try gave under one name."""

    name: str
    shape: tuple[int, ...]
    not_finite: int
    """Values that are NaN or infinite."""
    values: int

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {"name": self.name, "shape": list(self.shape), "not_finite": self.not_finite, "values": self.values}


@dataclass(frozen=True, slots=True)
class Trial:
    """A try that ran."""

    feed: dict[str, Array]
    results: dict[str, Array]
    outputs: tuple[Output, ...]
    seconds_median: float
    deterministic: bool
    is_given: bool
    """Whether the inputs were a person's, and not drawn."""

    @property
    def not_finite(self) -> tuple[Output, ...]:
        """The outputs that hold NaN or infinity."""
        return tuple(output for output in self.outputs if output.not_finite)


def tried(model: Path, specs: Sequence[Spec], example: Feed | None, folder: Path, bounds: Bounds) -> Trial:
    """Run a model on a person's first rows, else on values drawn for it. Raises Refused where it does not run."""
    feeds = [first_rows(specs, example)] if example is not None else [drawn(specs, draw) for draw in DRAWS]
    paths = [folder / f"feed-{place}.npz" for place in range(len(feeds))]
    for path, feed in zip(paths, feeds, strict=True):
        write_feed(path, feed)
    out = folder / "tried.npz"
    answer = apart("run", {"model": model, "feeds": paths, "outputs": out}, bounds)
    results = read_feed(out)
    return Trial(
        feed=feeds[answer["used"]],
        results=results,
        outputs=tuple(_output(name, value) for name, value in results.items()),
        seconds_median=answer["seconds_median"],
        deterministic=answer["deterministic"],
        is_given=example is not None,
    )


def first_rows(specs: Sequence[Spec], example: Feed, most: int = 64) -> dict[str, Array]:
    """As many of the first rows as a model takes at once."""
    fixed = [spec.axes[0] for spec in specs if spec.axes and isinstance(spec.axes[0], int)]
    return taken(example, slice(0, min(fixed[0] if fixed else most, most))) if row_count(example) > 1 else dict(example)


def frees_batch(fixed: Path, freed: Path, specs: Sequence[Spec], folder: Path, bounds: Bounds) -> str:
    """Why a freed model does not compute, row by row, what the fixed one does; empty where it does."""
    singles = [drawn(specs, DRAWS[1], seed=seed) for seed in range(PROOF_ROWS)]
    together = {name: np.concatenate([single[name] for single in singles]) for name in singles[0]}
    feed, one, other = folder / "rows.npz", folder / "single.npz", folder / "together.npz"
    write_feed(feed, together)
    try:
        apart("rows", {"model": fixed, "feeds": [feed], "outputs": one, "chunk_rows": 1}, bounds)
        apart("rows", {"model": freed, "feeds": [feed], "outputs": other, "chunk_rows": PROOF_ROWS}, bounds)
        differences = compared(read_feed(other), read_feed(one), Tolerance())
    except Refused as error:
        return str(error)
    return "" if agree(differences) else "rows change each other"


def _output(name: str, value: Array) -> Output:
    counts = value.dtype.kind == "f"
    return Output(name, value.shape, int(np.sum(~np.isfinite(value))) if counts else 0, value.size)
