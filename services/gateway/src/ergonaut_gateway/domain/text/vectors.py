"""From tokens to one vector a text: texts of like length are run together, their tokens' vectors become one, which may be cut."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from ergonaut_gateway.domain.tensors import Tensor

LENGTH_STEP = 8
"""Texts are filled up to multiples of so many tokens: few enough to cost little, enough that many texts are of one length and
run together. The length depends on the text alone, so that no answer depends on what else is asked."""

GROUP_ROWS_MAX = 16
"""Texts that may run together. More save little, and others would wait behind them."""

GROUP_TOKENS_MAX = 4_096
"""Tokens that may run together, filling included: what lies between layers takes some kB a token."""


class Pooling(StrEnum):
    """How the vectors of a text's tokens become one: their mean, or that of the first or of the last token."""

    MEAN = "mean"
    CLS = "cls"
    LAST = "last"


@dataclass(frozen=True, slots=True)
class Group:
    """Texts that may run together, by their places in the request, filled up to a length."""

    places: tuple[int, ...]
    length: int


def filled_length(tokens: int, tokens_max: int) -> int:
    """How long a text is once it is filled up.

    >>> filled_length(3, 512), filled_length(8, 512), filled_length(9, 512), filled_length(509, 510)
    (8, 8, 16, 510)
    """
    return min(-(-max(tokens, 1) // LENGTH_STEP) * LENGTH_STEP, max(tokens_max, tokens))


def grouped(lengths: Sequence[int], tokens_max: int, fixed_length: int = 0) -> list[Group]:
    """Which texts may run together; `fixed_length` is that of a model which takes no other.

    >>> [(group.places, group.length) for group in grouped([3, 20, 5], 512)]
    [((0, 2), 8), ((1,), 24)]
    """
    by_length: dict[int, list[int]] = {}
    for place, tokens in enumerate(lengths):
        by_length.setdefault(fixed_length or filled_length(tokens, tokens_max), []).append(place)
    groups: list[Group] = []
    for length, places in by_length.items():
        rows = max(1, min(GROUP_ROWS_MAX, GROUP_TOKENS_MAX // length))
        groups += [Group(tuple(places[at : at + rows]), length) for at in range(0, len(places), rows)]
    return groups


def filled(rows: Sequence[Sequence[int]], length: int) -> tuple[Tensor, Tensor]:
    """Tokens as one tensor, zeros behind each text, and another that has 1 where a token is."""
    tokens = np.zeros((len(rows), length), np.int64)
    mask = np.zeros((len(rows), length), np.int64)
    for row, of_text in enumerate(rows):
        tokens[row, : len(of_text)] = of_text
        mask[row, : len(of_text)] = 1
    return tokens, mask


def pooled(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """One vector a text, from those of its tokens: `states` is texts by tokens by width."""
    made: Tensor
    if pooling is Pooling.CLS:
        made = states[:, 0]
    elif pooling is Pooling.LAST:
        made = states[np.arange(len(states)), mask.sum(axis=1) - 1]
    else:
        made = _mean(states, mask)
    return made.astype(np.float32)


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    # In double precision: the sum of thousands of single ones would lose digits.
    summed = np.einsum("rtw,rt->rw", states, mask, dtype=np.float64)
    mean: Tensor = summed / mask.sum(axis=1, keepdims=True)
    return mean


def shortened(vectors: Tensor, dimensions: int | None, *, normalized: bool) -> Tensor:
    """The first so many numbers of each vector, which models trained for it (Matryoshka) allow; of length 1 where wanted."""
    cut = vectors if dimensions is None else vectors[:, :dimensions]
    if not normalized:
        return np.ascontiguousarray(cut, np.float32)
    lengths = np.linalg.norm(cut.astype(np.float64), axis=1, keepdims=True)
    unit: Tensor = (cut / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float32)
    return unit
