"""int8, and the gate it must pass on a person's data: accuracy where there are labels, else answers that stay the same."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ergonaut.create.apart import Bounds, apart
from ergonaut.create.feeds import read_feed, write_feed
from ergonaut.create.tasks import CHUNK_ROWS
from ergonaut.create.tensors import Array, Feed
from ergonaut.errors import Refused

VALUE_SHARE_MAX = 0.05
"""A figure that is no class counts as the same where it moved by at most this share of the output's whole range."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What int8 may cost."""

    accuracy_drop_max: float
    agreement_min: float


@dataclass(frozen=True, slots=True)
class Quantised:
    """What int8 cost, over so many rows."""

    rows: int
    agreement: float
    bytes_before: int
    bytes_after: int
    accuracy_before: float | None = None
    accuracy_after: float | None = None

    def refusal(self, gate: Gate) -> str:
        """Why the gate does not open, in figures; empty where it does."""
        if self.accuracy_before is not None and self.accuracy_after is not None:
            drop = self.accuracy_before - self.accuracy_after
            if drop > gate.accuracy_drop_max:
                return (
                    f"accuracy falls from {self.accuracy_before:.4f} to {self.accuracy_after:.4f} over {self.rows} rows, "
                    f"and at most {gate.accuracy_drop_max:g} may be lost (--accuracy-drop)"
                )
            return ""
        if self.agreement < gate.agreement_min:
            return (
                f"{self.agreement:.2%} of {self.rows} answers stay the same, "
                f"and {gate.agreement_min:.2%} must (--agreement)"
            )
        return ""

    def in_words(self) -> str:
        """For people."""
        size = f"{self.bytes_before:,} -> {self.bytes_after:,} bytes"
        if self.accuracy_before is not None and self.accuracy_after is not None:
            return f"accuracy {self.accuracy_before:.4f} -> {self.accuracy_after:.4f} over {self.rows} rows, {size}"
        return f"{self.agreement:.2%} of {self.rows} answers stay the same, {size}"


@dataclass(frozen=True, slots=True)
class Evidence:
    """A person's data: rows to judge by, rows that tell the ranges, the right answers, and rows that the model takes at once."""

    feed: Feed
    calibration: Feed
    labels: Array | None
    rows_at_once: int = CHUNK_ROWS


def quantised(model: Path, out: Path, kind: str, evidence: Evidence, bounds: Bounds) -> Quantised:
    """Write the int8 model to `out` and tell what it costs on a person's rows. Raises Refused where it cannot be made."""
    size = evidence.rows_at_once
    ranges, rows = out.with_suffix(".ranges.npz"), out.with_suffix(".rows.npz")
    write_feed(ranges, evidence.calibration)
    write_feed(rows, evidence.feed)
    apart("quantise", {"model": model, "out": out, "kind": kind, "feeds": [ranges], "chunk_rows": size}, bounds)
    before, after = (_answers(each, rows, size, bounds) for each in (model, out))
    return weighed(before, after, evidence.labels, model.stat().st_size, out.stat().st_size)


def weighed(before: Feed, after: Feed, labels: Array | None, bytes_before: int, bytes_after: int) -> Quantised:
    """What the answers of both models say."""
    one, other = answers(before), answers(after)
    agreement = float(np.mean(_stays(one, other)))
    accuracy = [None, None] if labels is None else [accuracy_of(each, labels) for each in (one, other)]
    return Quantised(len(one), agreement, bytes_before, bytes_after, *accuracy)


def answers(outputs: Feed) -> Array:
    """One answer a row: the label where a model gives one, else the class of the largest score, else the figure itself."""
    labels = [value for value in outputs.values() if value.ndim == 1 and value.dtype.kind in "iuOU"]
    if labels:
        named: Array = labels[0].astype(str)
        return named
    first = next(iter(outputs.values()))
    table = first.reshape(len(first), -1)
    if table.shape[1] == 1:
        figures: Array = table[:, 0].astype(np.float64)
        return figures
    classes: Array = np.argmax(table, axis=1).astype(str)
    return classes


def accuracy_of(given: Array, labels: Array) -> float:
    """The share of right answers. Raises Refused for a model that gives figures and not classes."""
    if given.dtype.kind == "f":
        raise Refused("the model gives a figure and no class, so labels tell no accuracy; leave --labels out")
    # A label read from a table may be 3 where the model says 3.0 and the like.
    return float(np.mean(given == np.array([_plain(label) for label in labels])))


def _plain(label: object) -> str:
    number = label.item() if isinstance(label, np.generic) else label
    return str(int(number)) if isinstance(number, float) and number.is_integer() else str(number)


def _stays(one: Array, other: Array) -> Array:
    if one.dtype.kind != "f":
        return np.asarray(one == other)
    spread = float(np.ptp(one)) or float(np.max(np.abs(one), initial=0.0)) or 1.0
    return np.asarray(np.abs(one - other) <= VALUE_SHARE_MAX * spread)


def _answers(model: Path, rows: Path, size: int, bounds: Bounds) -> dict[str, Array]:
    out = model.with_suffix(".answers.npz")
    apart("rows", {"model": model, "feeds": [rows], "outputs": out, "chunk_rows": size}, bounds)
    return read_feed(out)
