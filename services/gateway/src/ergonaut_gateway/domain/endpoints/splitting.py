"""Which way a request goes. Each route has a stretch from 0 to 1 as long as its share; chance or a key's hash is a point on it.

The stretches lie in the order of the routes. So when weight moves between the last two, as from a champion to a canary, only
those points change their route that one loses and the other wins: who asks with a key and has seen the canary goes on seeing it.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True, slots=True)
class Split:
    """The stretches of an endpoint's routes."""

    ends: tuple[float, ...]

    def at(self, point: float) -> int:
        """Which route a point from 0 to 1 belongs to; never one without weight."""
        return bisect_right(self.ends, point * self.ends[-1], hi=len(self.ends) - 1)

    def others(self, index: int) -> list[int]:
        """The other routes that have weight, the heaviest first: who is asked where this one cannot be."""
        weights = [end - begin for begin, end in zip((0.0, *self.ends), self.ends, strict=False)]
        found = [at for at, weight in enumerate(weights) if weight > 0 and at != index]
        return sorted(found, key=lambda at: -weights[at])


def split_of(weights: Sequence[float]) -> Split:
    """The split of weights that are not all 0.

    >>> split = split_of([90, 0, 10])
    >>> [split.at(point) for point in (0.0, 0.89, 0.9, 0.999)]
    [0, 0, 2, 2]
    """
    last = max(index for index, weight in enumerate(weights) if weight > 0)
    ends = tuple(accumulate(weights[: last + 1]))
    return Split(ends)


def point_of(tenant: str, endpoint: str, key: object) -> float:
    """The point of a key: the same for ever and everywhere, and unlike that on another endpoint, so that tests of two endpoints
    do not divide people alike."""
    # Whatever a caller gives as its key has a point: half a surrogate pair cannot be written as UTF-8.
    text = f"{tenant}/{endpoint}/{key}".encode(errors="backslashreplace")
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big") / 2**56
