"""How the answers of an ensemble become one, and which branch of a splitter is drawn."""

import hashlib
from collections.abc import Sequence

import numpy as np

from ergonaut_gateway.domain.pipelines.spec import Combine
from ergonaut_gateway.domain.tensors import DTYPES, Tensor, to_raw

MEANT = ("FP16", "FP32", "FP64")
"""Datatypes that a mean can be taken of and that hold it."""

VOTED = ("BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "BYTES")
"""Datatypes that can be voted on: equal is equal."""


def combined(answers: Sequence[Tensor], how: Combine, weights: Sequence[float], axis: int) -> Tensor:
    """One tensor of those that the branches gave under one name. Raises ValueError where their shapes do not fit."""
    if how is Combine.CONCAT:
        return np.concatenate(answers, axis=axis)
    if len({answer.shape for answer in answers}) > 1:
        raise ValueError(f"shapes {', '.join(str(list(answer.shape)) for answer in answers)}")
    return _vote(answers, weights) if how is Combine.VOTE else _mean(answers, weights)


def shares(weights: Sequence[float]) -> list[float]:
    """Weights as parts of 1."""
    total = sum(weights)
    return [weight / total for weight in weights]


def drawn(weights: Sequence[float], at: float) -> int:
    """Which of the weights a point from 0 to 1 falls on.

    >>> [drawn([1, 0, 3], at) for at in (0.0, 0.2499, 0.25, 0.9999)]
    [0, 0, 2, 2]
    """
    at *= sum(weights)
    for index, weight in enumerate(weights):
        at -= weight
        if at < 0:
            return index
    # Rounding may leave a little; it belongs to the last that has any weight.
    return max(index for index, weight in enumerate(weights) if weight > 0)


def point_of(key: bytes) -> float:
    """A point from 0 to 1 that is always the same for a key."""
    return int.from_bytes(hashlib.sha256(key).digest()[:7], "big") / 2**56


def key_of(value: object) -> bytes | None:
    """A parameter, or a tensor's first element, as bytes to be hashed; None where there is none."""
    if isinstance(value, np.ndarray):
        if not value.size:
            return None
        first = value.reshape(-1)[:1]
        return bytes(first[0]) if first.dtype == object else to_raw(first)
    return None if value is None else str(value).encode(errors="backslashreplace")


def _mean(answers: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    dtype = answers[0].dtype
    # Half precision is too short to add in.
    work = DTYPES["FP32"] if dtype == DTYPES["FP16"] else dtype
    parts = shares(weights)
    total = answers[0].astype(work) * work.type(parts[0])
    for answer, part in zip(answers[1:], parts[1:], strict=True):
        total = total + answer.astype(work) * work.type(part)
    # A scalar would come out as a number and no tensor.
    return np.asarray(total, dtype)


def _vote(answers: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    for_each = [
        sum(weight * np.equal(other, answer).astype(float) for other, weight in zip(answers, weights, strict=True))
        for answer in answers
    ]
    winner = np.argmax(np.stack(for_each), axis=0)
    result = answers[0].copy()
    for index, answer in enumerate(answers[1:], 1):
        result = np.where(winner == index, answer, result)
    return np.asarray(result, answers[0].dtype)
