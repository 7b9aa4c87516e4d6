"""Whether tensors can be what somebody takes, as far as is known before a request comes."""

from dataclasses import dataclass, replace

from ergonaut_gateway.domain.models import TensorSpec


@dataclass(frozen=True, slots=True)
class There:
    """A tensor that is there at some place of a pipeline."""

    spec: TensorSpec
    whence: str
    """Who gives it, for people."""
    is_unsure: bool = False
    """Whether only a soft step gives it."""


def told(spec: TensorSpec) -> str:
    """Datatype and shape, for people.

    >>> told(TensorSpec("x", "FP32", (-1, 3)))
    'FP32 [-1, 3]'
    """
    return f"{spec.datatype} {list(spec.shape)}"


def fits(given: TensorSpec, taken: TensorSpec) -> bool:
    """Whether one may be the other; a length of -1 may be any, which shows when a request comes."""
    return (
        given.datatype == taken.datatype
        and len(given.shape) == len(taken.shape)
        and all(-1 in pair or pair[0] == pair[1] for pair in zip(given.shape, taken.shape, strict=True))
    )


def narrowed(one: TensorSpec, other: TensorSpec) -> TensorSpec:
    """What is both; they fit."""
    return replace(one, shape=tuple(max(pair) for pair in zip(one.shape, other.shape, strict=True)))


def merged(one: TensorSpec, other: TensorSpec) -> TensorSpec | None:
    """What either is; None where nothing can be said of both."""
    if one.datatype != other.datatype or len(one.shape) != len(other.shape):
        return None
    shape = tuple(a if a == b else -1 for a, b in zip(one.shape, other.shape, strict=True))
    return replace(one, shape=shape)
