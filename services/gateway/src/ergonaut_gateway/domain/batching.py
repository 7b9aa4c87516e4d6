"""What running a model together for several callers costs and saves, and whose turn it is: the rules of `service.batching`."""

import math
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from ergonaut_gateway.domain.models import Signature
from ergonaut_gateway.domain.tensors import Tensor

INLINE_SECONDS_MAX = 0.001
"""Work up to this is done on the event loop, where a hand-over to a thread and back would cost a good part of it."""

SHARE_MIN = 0.05
"""A part of the cost counts as at least this share of it, so that one that was next to nothing can still grow."""

JOINING_GAIN_MIN = 1.1
"""Joined runs must save at least this factor; below it the first caller of a batch would wait for little."""

HANDOVER_SECONDS = 30e-6
"""What a run in a thread costs beside itself: waking the thread, waking the loop, and passing the interpreter's lock twice.
Measured with a model of 0.12 ms, whose joined runs took a sixth less of a core than single ones."""

PORTION_SECONDS = 0.002
"""Runs in threads are of about this length where little is saved: long against the hand-over, short against a wait."""

PORTION_GAIN_MIN = 2.0
"""From this factor on joined runs may be as long as their rows make them: all callers together wait less."""

REMEMBERED = 0.98
"""How much a run counts against the next one: the last fifty or so are remembered."""

INERTIA = 0.02
"""How much what was known before counts against what is remembered."""

SURPRISE_MAX = 2.0
"""A run counts as at most so many times longer or shorter than expected, so that one outlier changes little."""

PRIORITY_DEFAULT = 16
"""Where requests without a priority stand: those of 1 to 15 go before them, all others after them."""

Member = TypeVar("Member", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Traits:
    """What was found out about a model when it was loaded."""

    joinable: bool = False
    """Whether its rows are independent, which was tried, so that requests may run together."""

    steady: bool = False
    """Whether its time depends on shapes alone; one that may loop as often as a caller says never runs on the event loop."""

    providers: tuple[str, ...] = ()
    """What it runs on, by onnxruntime's names, the preferred first."""

    first_runs: tuple[tuple[int, float], ...] = ()
    """Units and seconds of the runs that warmed it up."""

    threads: int = 1
    """Of the CPU, that one run may use."""

    accelerated: bool = False
    """Whether it runs on something else than the CPU, so that CPU time does not tell what it uses."""

    notes: tuple[tuple[str, str], ...] = ()
    """What its file says of itself for people, by key: the names of its features and of its classes."""


@dataclass(slots=True)
class Cost:
    """What runs of a model take: a fixed part, and one that grows with the units, learned from its runs.

    >>> cost = Cost()
    >>> for _ in range(500):
    ...     cost.learn(1, 0.011)
    ...     cost.learn(32, 0.042)
    >>> round(cost.fixed_seconds, 3), round(cost.unit_seconds, 3)
    (0.01, 0.001)
    """

    fixed_seconds: float = 0.0
    unit_seconds: float = 0.0
    runs: int = 0
    _sums: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)
    """Of the weights, and of the weights with units, units squared, seconds, and units with seconds."""

    def seconds(self, units: float, *, runs: int = 1) -> float:
        """What so many units should take in so many runs."""
        return self.fixed_seconds * runs + self.unit_seconds * units

    def learn(self, units: float, seconds: float) -> None:
        """Take a run into account: least squares of the relative errors, in which each run counts a little less than the next."""
        self.runs += 1
        expected = self.fixed_seconds + self.unit_seconds * units
        if expected <= 0.0:
            self.fixed_seconds = seconds / 2
            self.unit_seconds = seconds / 2 / max(units, 1.0)
            return
        seconds = min(max(seconds, expected / SURPRISE_MAX), expected * SURPRISE_MAX)
        weight = 1 / (expected * expected)
        weights, of_units, of_squares, of_seconds, of_both = (REMEMBERED * part for part in self._sums)
        weights += weight
        of_units += weight * units
        of_squares += weight * units * units
        of_seconds += weight * seconds
        of_both += weight * units * seconds
        self._sums = weights, of_units, of_squares, of_seconds, of_both
        # What is known counts as well, the smaller part more, or runs that are all of one size would leave open which part grew.
        keep_fixed = INERTIA * weights / max(self.fixed_seconds / expected, SHARE_MIN) ** 2
        keep_unit = INERTIA * of_squares / max(self.unit_seconds * units / expected, SHARE_MIN) ** 2
        fixed, unit = weights + keep_fixed, of_squares + keep_unit
        to_fixed = of_seconds + keep_fixed * self.fixed_seconds
        to_unit = of_both + keep_unit * self.unit_seconds
        scale = fixed * unit - of_units * of_units
        if scale > 0.0:
            self.fixed_seconds = max((to_fixed * unit - of_units * to_unit) / scale, 0.0)
            self.unit_seconds = max((fixed * to_unit - of_units * to_fixed) / scale, 0.0)

    def joining_pays(self, units: float, requests: int) -> bool:
        """Whether so many requests, of so many units together, should run as one where no thread is needed."""
        return requests > 1 and self.seconds(units, runs=requests) >= JOINING_GAIN_MIN * self.seconds(units)

    def units_together(self, units: float, requests: int) -> float:
        """Of so many requests that wait for threads, how many units should run together; 0 where each should by itself."""
        together = self.seconds(units) + HANDOVER_SECONDS
        apart = self.seconds(units, runs=requests) + HANDOVER_SECONDS * requests
        if requests < 2 or apart < JOINING_GAIN_MIN * together:
            return 0.0
        if apart >= PORTION_GAIN_MIN * together or self.unit_seconds <= 0.0:
            return units
        # The fixed part is paid alone as well; what joining adds to the first one's wait is the units of the others.
        return min(units, PORTION_SECONDS / self.unit_seconds)


def first_cost(runs: Sequence[tuple[int, float]]) -> Cost:
    """What the runs tell that warmed a model up. The fastest of each size counts, others were disturbed.

    >>> cost = first_cost([(1, 0.9), (1, 0.2), (9, 0.6)])
    >>> round(cost.fixed_seconds, 3), round(cost.unit_seconds, 3)
    (0.15, 0.05)
    """
    fastest: dict[int, float] = {}
    for units, seconds in runs:
        fastest[units] = min(seconds, fastest.get(units, math.inf))
    if not fastest:
        return Cost()
    low, high = min(fastest), max(fastest)
    if low == high:
        cost = Cost()
        cost.learn(low, fastest[low])
        return cost
    # Neither part is taken as nothing at all, since it could then never grow.
    unit = max((fastest[high] - fastest[low]) / (high - low), 0.01 * fastest[low] / max(low, 1))
    return Cost(max(fastest[low] - unit * low, 0.01 * fastest[low]), unit, len(runs))


def may_join(signature: Signature) -> bool:
    """Whether all inputs and outputs have a free first axis, without which requests can never run together."""
    specs = (*signature.inputs, *signature.outputs)
    return bool(signature.inputs) and all(spec.shape and spec.shape[0] == -1 for spec in specs)


def unit_elements(signature: Signature) -> int:
    """How many elements of the first input are one unit of cost: those of one row, its free axes counted as one long."""
    if not signature.inputs:
        return 1
    return max(1, math.prod(length for length in signature.inputs[0].shape if length != -1))


def has_fixed_rows(signature: Signature) -> bool:
    """Whether only the first axes of the inputs are free, so that all requests fit together."""
    return all(-1 not in spec.shape[1:] for spec in signature.inputs)


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Rows of several requests as one tensor."""
    return np.concatenate(parts)


VIEW_BYTES_MAX = 64 * 1024
"""Up to this size of a batch its pieces are views of it; of larger ones a slow reader of one piece would hold all."""


class Whole:
    """What was computed together for several requests, and what a door makes of all of it at once for their answers."""

    __slots__ = ("made", "outputs", "requests")

    def __init__(self, outputs: Mapping[str, Tensor], requests: int) -> None:
        self.outputs = outputs
        self.requests = requests
        self.made: dict[str, Any] = {}
        """By names that doors choose."""


class Part(dict[str, Tensor]):
    """The outputs of one request, which are the rows from `begin` to `end` of a whole."""

    __slots__ = ("begin", "end", "whole")

    def __init__(self, whole: Whole, begin: int, end: int) -> None:
        self.whole, self.begin, self.end = whole, begin, end


def parted(outputs: dict[str, Tensor], rows: Sequence[int]) -> Sequence[dict[str, Tensor]] | None:
    """Each request's rows of what was computed together, or None where the model gave another number of rows."""
    total, size_bytes = sum(rows), 0
    for tensor in outputs.values():
        if tensor.ndim == 0 or len(tensor) != total:
            return None
        size_bytes += tensor.nbytes
    whole = Whole(outputs, len(rows))
    pieces: list[dict[str, Tensor]] = []
    begin = 0
    for count in rows:
        end = begin + count
        if size_bytes > VIEW_BYTES_MAX:
            pieces.append({name: tensor[begin:end].copy() for name, tensor in outputs.items()})
        else:
            piece = Part(whole, begin, end)
            for name, tensor in outputs.items():
                piece[name] = tensor[begin:end]
            pieces.append(piece)
        begin = end
    return pieces


def level_of(priority: int) -> int:
    """Where a request stands, smallest first. As with Triton, 0 is the default and 1 the highest priority."""
    return priority if priority > 0 else PRIORITY_DEFAULT


class Turns(Generic[Member]):
    """Whose turn it is: tenants in a circle, and within a tenant its members in a circle.

    >>> turns = Turns()
    >>> for tenant, member in [("a", 1), ("a", 2), ("b", 3), ("a", 1)]:
    ...     turns.add(tenant, member)
    >>> [turns.next(), turns.next(), turns.next(), turns.next()]
    [1, 3, 2, None]
    """

    def __init__(self) -> None:
        self._tenants: OrderedDict[str, deque[Member]] = OrderedDict()
        self._members: set[Member] = set()

    def __iter__(self) -> Iterator[Member]:
        return iter(list(self._members))

    def __len__(self) -> int:
        return len(self._members)

    def add(self, tenant: str, member: Member) -> None:
        """Wait for a turn; who waits already keeps the place."""
        if member not in self._members:
            self._members.add(member)
            self._tenants.setdefault(tenant, deque()).append(member)

    def next(self) -> Member | None:
        """The one whose turn it is, who waits no longer then; None where nobody waits."""
        if not self._tenants:
            return None
        tenant, members = self._tenants.popitem(last=False)
        member = members.popleft()
        self._members.discard(member)
        if members:
            self._tenants[tenant] = members
        return member
