"""A model that is served and what is asked of it. Light to import, since every process of the client does."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Model:
    """A model's file, what it is asked, and the probabilities that it answers alone."""

    name: str
    path: Path
    rows: Rows
    answers: Rows


def session(path: Path) -> Any:
    """The model in process, on one thread, as every server here runs it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
