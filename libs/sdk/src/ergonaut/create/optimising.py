"""onnxruntime's rewriting of the graph beforehand; kept only where it gives the same and is not slower."""

from dataclasses import dataclass
from pathlib import Path

from ergonaut.create.apart import Bounds, apart
from ergonaut.create.comparing import Tolerance, agree, compared, in_words
from ergonaut.create.feeds import read_feed, write_feed
from ergonaut.create.tensors import Feed
from ergonaut.errors import Refused

SLOWER_MAX = 1.05
"""Two medians of the same model differ by so much on a busy machine."""

SAME = Tolerance(absolute=1e-5, relative=1e-4)
"""Rewriting may add in another order, and nothing else."""


@dataclass(frozen=True, slots=True)
class Optimised:
    """What came of it."""

    kept: bool
    why: str
    seconds_before: float = 0.0
    seconds_after: float = 0.0


def optimised(model: Path, out: Path, level: str, feed: Feed, bounds: Bounds) -> Optimised:
    """Rewrite a model into `out`, and tell whether that is worth keeping. Failing to is no reason to fail."""
    try:
        apart("optimise", {"model": model, "out": out, "level": level}, bounds)
        before, after = raced(model, out, feed, bounds)
        differences = compared(read_feed(_given(out)), read_feed(_given(model)), SAME)
    except Refused as error:
        return Optimised(kept=False, why=str(error))
    if not agree(differences):
        return Optimised(kept=False, why=in_words(differences), seconds_before=before, seconds_after=after)
    return judged(before, after)


def judged(before: float, after: float) -> Optimised:
    """Whether the seconds of a run speak for the change.

    >>> judged(0.001, 0.0009).kept, judged(0.001, 0.0012).kept
    (True, False)
    """
    kept = after <= before * SLOWER_MAX
    slower = f"it is slower, {after * 1e6:.0f} us a run where it was {before * 1e6:.0f}"
    why = "it gives the same and is not slower" if kept else slower
    return Optimised(kept=kept, why=why, seconds_before=before, seconds_after=after)


def raced(one: Path, other: Path, feed: Feed, bounds: Bounds) -> tuple[float, float]:
    """Seconds a run of two models, measured by turns, so that a busy machine slows both."""
    path = one.with_suffix(".feed.npz")
    write_feed(path, feed)
    request = {"models": [one, other], "feeds": [path], "outputs": [_given(one), _given(other)]}
    first, second = apart("race", request, bounds)["seconds_median"]
    return first, second


def _given(model: Path) -> Path:
    return model.with_suffix(".given.npz")
