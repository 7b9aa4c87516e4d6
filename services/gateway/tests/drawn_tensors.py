"""Tensors of every datatype, drawn by hypothesis."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from ergonaut_gateway.domain.tensors import BF16, BYTES, DTYPES, Tensor, bf16_of, float32_of, object_array

NUMERIC = sorted(set(DTYPES) - {BYTES})
SHAPES = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@st.composite
def tensors(draw: Any, datatypes: list[str] | None = None, *, finite: bool = False, text: bool = False) -> Tensor:
    datatype = draw(st.sampled_from(datatypes or sorted(DTYPES)))
    shape = draw(SHAPES)
    if datatype == BYTES:
        count = int(np.prod(shape, dtype=int))
        element = st.text(max_size=5).map(str.encode) if text else st.binary(max_size=6)
        return object_array(draw(st.lists(element, min_size=count, max_size=count))).reshape(shape)
    if datatype == BF16:
        # Beyond this, rounding to BF16 may make a finite number infinite.
        numbers = st.floats(-(2.0**127), 2.0**127, width=32) if finite else st.floats(width=32)
        return bf16_of(draw(npst.arrays("<f4", shape, elements=numbers)))
    extra = {"allow_nan": False, "allow_infinity": False} if finite and datatype.startswith("FP") else {}
    elements = npst.from_dtype(DTYPES[datatype], **extra)
    return draw(npst.arrays(DTYPES[datatype], shape, elements=elements))


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same, bit for bit as far as values go, NaN included."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype == object:
        return list(one.ravel()) == list(other.ravel())
    if one.dtype == DTYPES[BF16]:
        one, other = float32_of(one), float32_of(other)
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
