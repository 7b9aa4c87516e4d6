"""Which features the tensors of a model have, and how a row of them is written: small tensors element by element, large or
ragged ones as a few figures, texts as checksums."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ergonaut_gateway.domain.drift.grids import Flags, Matrix
from ergonaut_gateway.domain.drift.sketches import FEATURES_MAX
from ergonaut_gateway.domain.models import TensorSpec
from ergonaut_gateway.domain.tensors import BF16, BYTES, DTYPES, Tensor, float32_of

ELEMENTS_MAX = 1_024
"""Elements of a row of one tensor that are watched one by one; of a larger row, such as a picture, only its figures are."""

TEXTS_MAX = 64
"""Likewise for texts, each of which costs a checksum."""

SUMMARISED_MAX = 4_096
"""Elements of a large row that its figures are made from, evenly spaced; more would cost more than they tell."""

FIGURES = ("mean", "deviation", "min", "max", "length")
"""What a large or ragged row is reduced to."""

_NARROW = frozenset({"BOOL", "INT8", "INT16", "UINT8", "UINT16", "FP16", BF16, "FP32"})
"""What a 4-byte float holds exactly."""


@dataclass(frozen=True, slots=True)
class _Part:
    """The columns of one tensor."""

    name: str
    begin: int
    end: int
    batched: bool
    summarised: bool
    text: bool


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """The columns of a row of inputs, or of outputs."""

    parts: tuple[_Part, ...]
    names: tuple[str, ...]
    categorical: Flags
    dtype: npt.DTypeLike
    """Of the rows kept until they are counted."""

    def rows_of(self, tensors: Mapping[str, Tensor]) -> int:
        """How many rows these tensors are; 0 where one that is watched is not among them, or they do not go together."""
        rows = -1
        for part in self.parts:
            tensor = tensors.get(part.name)
            if tensor is None:
                return 0
            length = (tensor.shape[0] if tensor.shape else 0) if part.batched else 1
            if rows not in (-1, length):
                return 0
            rows = length
        return max(rows, 0)

    def write(self, tensors: Mapping[str, Tensor], rows: int, target: npt.NDArray[np.floating]) -> None:
        """Write rows evenly spaced over these tensors, as many as the target has room for."""
        for part in self.parts:
            flat = tensors[part.name].reshape(rows, -1)
            if flat.dtype == DTYPES[BF16]:
                flat = float32_of(flat)
            if rows != len(target):
                flat = flat[np.arange(len(target)) * rows // len(target)]
            if part.summarised:
                target[:, part.begin : part.end] = _figures(flat, text=part.text)
            else:
                target[:, part.begin : part.end] = _checksums(flat) if part.text else flat


def features_of(side: str, specs: Sequence[TensorSpec], tensors: Mapping[str, Tensor]) -> Features:
    """The features of the first tensors that came, named `inputs.x[12]` and the like; a tensor beyond the bound is left out."""
    parts: list[_Part] = []
    names: list[str] = []
    categorical: list[bool] = []
    for spec in specs:
        tensor = tensors.get(spec.name)
        if tensor is None:
            continue
        batched = bool(spec.shape) and spec.shape[0] == -1
        inner = tensor.shape[1:] if batched else tensor.shape
        text = spec.datatype == BYTES
        elements = int(np.prod(inner, dtype=np.int64))
        ragged = -1 in (spec.shape[1:] if batched else spec.shape)
        summarised = ragged or elements > (TEXTS_MAX if text else ELEMENTS_MAX)
        columns = _column_names(f"{side}.{spec.name}", inner, summarised=summarised)
        if len(names) + len(columns) > FEATURES_MAX:
            continue
        parts.append(_Part(spec.name, len(names), len(names) + len(columns), batched, summarised, text))
        names += columns
        categorical += [not summarised and (text or spec.datatype == "BOOL")] * len(columns)
    narrow = all(spec.datatype in _NARROW for spec in specs)
    return Features(tuple(parts), tuple(names), np.array(categorical, dtype=bool), np.float32 if narrow else np.float64)


def _column_names(tensor: str, inner: Sequence[int], *, summarised: bool) -> list[str]:
    if summarised:
        return [f"{tensor}.{figure}" for figure in FIGURES]
    if not inner or all(length == 1 for length in inner):
        return [tensor]
    return [f"{tensor}[{','.join(map(str, index))}]" for index in np.ndindex(*inner)]


def _figures(flat: Tensor, *, text: bool) -> Matrix:
    """The figures of each row; of a text those of its elements' lengths. A row without elements has only a length."""
    figures = np.full((len(flat), len(FIGURES)), np.nan)
    figures[:, -1] = flat.shape[1]
    if flat.shape[1]:
        spaced = flat[:, :: -(-flat.shape[1] // SUMMARISED_MAX)]
        if text:
            spaced = np.array([[len(element) for element in row] for row in spaced])
        values = spaced.astype(np.float64)
        with np.errstate(all="ignore"):
            figures[:, 0], figures[:, 1] = values.mean(axis=1), values.std(axis=1)
            figures[:, 2], figures[:, 3] = values.min(axis=1), values.max(axis=1)
    return figures


def _checksums(flat: Tensor) -> Matrix:
    """A number for each text, the same in every process, from which it cannot be read back."""
    return np.array([[zlib.crc32(element) for element in row] for row in flat], dtype=np.float64).reshape(flat.shape)
