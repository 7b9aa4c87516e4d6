"""Reads the rows that a training kept for judging it: x and y, as numpy's savez writes them. Called by `judging`."""

import zipfile
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ergonaut.errors import Refused

BYTES_MAX = 256 * 1024 * 1024
"""Unpacked: a quarter of what this service may hold at once, and enough for a million rows of 64 numbers."""

ROWS_MAX = 1_000_000
"""More rows say nothing that fewer do not, and each is asked of two versions."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What a model is asked, and what is true."""

    x: NDArray[Any]
    y: NDArray[Any]


def read_rows(content: BinaryIO, name: str) -> Rows:
    """The rows of a file. Raises Refused saying what is wrong with it; nothing in it is run."""
    try:
        with zipfile.ZipFile(content) as archive:
            if sum(member.file_size for member in archive.infolist()) > BYTES_MAX:
                raise Refused(f"{name} holds more than {BYTES_MAX >> 20} MiB", field="artifacts.validation")
        content.seek(0)
        with np.load(content, allow_pickle=False) as arrays:
            if missing := {"x", "y"} - set(arrays.files):
                raise Refused(
                    f"{name} has no {' and no '.join(sorted(missing))}; write it by numpy.savez({name!r}, x=..., y=...)",
                    field="artifacts.validation",
                )
            x, y = np.asarray(arrays["x"]), np.asarray(arrays["y"])
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, KeyError) as error:
        raise Refused(f"{name} is not what numpy.savez writes: {error}", field="artifacts.validation") from error
    return _checked(x, y, name)


def _checked(x: NDArray[Any], y: NDArray[Any], name: str) -> Rows:
    for array, letter in ((x, "x"), (y, "y")):
        if array.ndim == 0 or array.dtype.kind not in "biuf":
            raise Refused(f"{letter} in {name} must be an array of numbers, row by row", field="artifacts.validation")
    if len(x) != len(y):
        raise Refused(f"{name} has {len(x)} rows of x and {len(y)} of y", field="artifacts.validation")
    if not 0 < len(x) <= ROWS_MAX:
        raise Refused(f"{name} has {len(x)} rows; 1 to {ROWS_MAX} are taken", field="artifacts.validation")
    return Rows(x, y)
