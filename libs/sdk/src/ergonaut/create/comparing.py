"""How far two models' outputs lie apart, and whether that is near enough. Pure."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ergonaut.create.tensors import Array, Feed
from ergonaut.errors import Refused


@dataclass(frozen=True, slots=True)
class Difference:
    """The largest distances of one output; relative ones to the larger of both values."""

    name: str
    absolute: float
    relative: float
    unlike: int
    """Values that differ by more than both bounds, or that are texts, or not a number on one side only."""
    values: int

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "name": self.name,
            "absolute_max": self.absolute,
            "relative_max": self.relative,
            "unlike": self.unlike,
            "values": self.values,
        }


@dataclass(frozen=True, slots=True)
class Tolerance:
    """A value is near enough where it lies within either bound, or within their sum, as numpy.allclose has it."""

    absolute: float = 1e-4
    relative: float = 1e-3


def compared(ours: Feed, theirs: Feed, tolerance: Tolerance) -> tuple[Difference, ...]:
    """Output by output. Raises Refused where the two do not give the same outputs in the same shapes."""
    if [*ours] != [*theirs]:
        raise Refused(
            f"one model gives {', '.join(ours)}, the other {', '.join(theirs)}; give models of the same outputs"
        )
    return tuple(_difference(name, ours[name], theirs[name], tolerance) for name in ours)


def agree(differences: tuple[Difference, ...], *, unlike_share_max: float = 0.0) -> bool:
    """Whether of every output at most such a share of the values is not near enough."""
    return all(each.unlike <= unlike_share_max * each.values for each in differences)


def in_words(differences: tuple[Difference, ...]) -> str:
    """The output that lies farthest apart, in figures."""
    worst = max(differences, key=lambda each: (each.unlike / max(each.values, 1), each.absolute))
    return (
        f"{worst.name} differs by at most {worst.absolute:.3g} ({worst.relative:.3g} relative), "
        f"{worst.unlike} of {worst.values} values beyond the bounds"
    )


def _difference(name: str, ours: Array, theirs: Array, tolerance: Tolerance) -> Difference:
    if ours.shape != theirs.shape:
        raise Refused(
            f"the output {name} has the shape {list(ours.shape)}, and {list(theirs.shape)} in the other model"
        )
    if not (_is_number(ours) and _is_number(theirs)):
        unlike = int(np.sum(ours.astype(str) != theirs.astype(str)))
        return Difference(name, 0.0, 0.0, unlike, ours.size)
    one, other = ours.astype(np.float64), theirs.astype(np.float64)
    with np.errstate(all="ignore"):
        distance = np.abs(one - other)
        size = np.maximum(np.abs(one), np.abs(other))
        same = (one == other) | (np.isnan(one) & np.isnan(other))
        # Infinity is near to itself alone, though a share of it is as large.
        near = same | (np.isfinite(distance) & (distance <= tolerance.absolute + tolerance.relative * size))
        distance = np.where(same, 0.0, distance)
        relative = np.where(size > 0, distance / np.maximum(size, np.finfo(np.float64).tiny), 0.0)
    absolute_max = float(np.max(distance[np.isfinite(distance)], initial=0.0))
    relative_max = float(np.max(relative[np.isfinite(relative)], initial=0.0))
    return Difference(name, absolute_max, relative_max, int(np.sum(~near)), ours.size)


def _is_number(values: Array) -> bool:
    return values.dtype.kind in "biuf"
