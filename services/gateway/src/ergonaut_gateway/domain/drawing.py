"""Inputs that a model may be tried out with: always the same for a signature and a number of rows. Nobody asks what they mean."""

from collections.abc import Callable, Iterator
from random import Random

import numpy as np

from ergonaut_gateway.domain.models import Signature, TensorSpec
from ergonaut_gateway.domain.tensors import BF16, BYTES, DTYPES, Tensor, bf16_of, object_array

AXIS_LENGTHS = (4, 1, 32, 224)
"""What is tried for free axes other than the first: the smallest that a sequence, a feature map and an image may need."""

ELEMENTS_MAX = 4_000_000
"""Larger inputs are not generated; they would take memory that no request may ever need."""

Drawing = Callable[[int], dict[str, Tensor]]
"""Inputs of so many rows. Raises ValueError where they would be too large."""


def drawings(signature: Signature) -> Iterator[Drawing]:
    """Ways to draw inputs, the likeliest to be computable first."""
    has_other_free_axes = any(-1 in spec.shape[1:] for spec in signature.inputs)
    for is_wide in (True, False):
        for length in AXIS_LENGTHS if has_other_free_axes else AXIS_LENGTHS[:1]:
            yield _drawing(signature, length, is_wide=is_wide)


def _drawing(signature: Signature, length: int, *, is_wide: bool) -> Drawing:
    def draw(rows: int) -> dict[str, Tensor]:
        # Not numpy's, which takes 3 MB and is used for nothing else.
        random = Random(rows)  # noqa: S311 - nobody is to be surprised
        return {spec.name: _drawn(spec, rows, length, random, is_wide=is_wide) for spec in signature.inputs}

    return draw


def _drawn(spec: TensorSpec, rows: int, length: int, random: Random, *, is_wide: bool) -> Tensor:
    shape = tuple((rows if axis == 0 else length) if wanted == -1 else wanted for axis, wanted in enumerate(spec.shape))
    count = int(np.prod(shape, dtype=np.int64))
    if count > ELEMENTS_MAX:
        raise ValueError(f"{spec.name} would have {count} elements")
    if spec.datatype == BYTES:
        return object_array([b"%d" % number for number in _whole(random, 100, count)]).reshape(shape)
    if spec.datatype == BF16:
        return bf16_of(_normal(random, count).reshape(shape))
    dtype = DTYPES[spec.datatype]
    if dtype.kind == "f":
        return _normal(random, count).reshape(shape).astype(dtype)
    # Whole numbers are often indices: 0 and 1 are in range for nearly every model that takes them.
    return _whole(random, 100 if is_wide and dtype.kind != "b" else 2, count).reshape(shape).astype(dtype)


def _whole(random: Random, below: int, count: int) -> Tensor:
    """So many whole numbers from 0 on."""
    return np.frombuffer(random.randbytes(4 * count), "<u4") % below


def _normal(random: Random, count: int) -> Tensor:
    """So many numbers around 0, most of them between -1 and 1, by the method of Box and Muller."""
    uniform = np.frombuffer(random.randbytes(8 * count), "<u4").reshape(2, count) / 2**32
    normal: Tensor = np.sqrt(-2 * np.log1p(-uniform[0])) * np.cos(2 * np.pi * uniform[1])
    return normal
