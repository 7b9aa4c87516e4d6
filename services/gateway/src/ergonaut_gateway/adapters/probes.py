"""What is tried out when a model is loaded, with generated inputs: whether its rows are independent, and how long runs take.

The same runs warm the model up, so that the first request is not slow. A model that cannot compute generated inputs, which may be
meaningless to it, is served all the same; its requests then never run together.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.batching import may_join, unit_elements
from ergonaut_gateway.domain.drawing import Drawing, drawings
from ergonaut_gateway.domain.models import Signature
from ergonaut_gateway.domain.tensors import Tensor

SECONDS_MAX = 0.5
"""After this the probing ends, with what it has found by then; loading should take less than a second."""

ROWS = (1, 2, 3)
"""Rows that run apart and together; different numbers, so that a mix-up shows."""

COST_ROWS = 16
"""How many rows are run together to learn what a row costs: enough to stand out from the fixed part."""

COST_RUNS = 4
"""Runs of each size that are timed; the fastest counts."""

TOLERANCE = 1e-5
"""How much an answer may differ, relatively, when computed in a batch; rounding alone gives some 1e-7."""

UNSTEADY = (b"Loop", b"Scan", b"Range", b"ConstantOfShape")
"""Operators whose work may depend on values and not on shapes alone."""

GROWING = (*UNSTEADY, b"Expand", b"Tile", b"Pad", b"Resize", b"Upsample", b"OneHot")
"""Operators that may take as much memory as values say, whatever the size of what comes."""

REASON_CHARACTERS_MAX = 300
"""Of a reason in the log."""

log = get_logger(__name__)
Compute = Callable[[Mapping[str, Tensor], Sequence[str]], dict[str, Tensor]]


class Probe:
    """Tries a model out. `expire` ends whatever runs, after which all that was not found out is answered with no."""

    def __init__(self, signature: Signature, compute: Compute, expire: Callable[[], None], *, rows_agree: bool) -> None:
        self._signature = signature
        self._compute = compute
        self._outputs = [spec.name for spec in signature.outputs]
        self._timer = threading.Timer(SECONDS_MAX, expire)
        self._timer.daemon = True
        self.runs: list[tuple[int, float]] = []
        self.joinable = False
        self._reason = ""
        """Why the last input that was generated could not be computed."""
        self._may_join = rows_agree and may_join(signature)

    def run(self) -> "Probe":
        """Find out all there is to find out."""
        self._timer.start()
        try:
            draw = self._drawing()
            if draw is not None:
                self.joinable = self._may_join and all(self._agrees(draw, seed) for seed in (1, 2))
                self._time(draw)
            else:
                log.info("model not tried out: no generated input can be computed", reason=self._reason)
        except Exception as error:
            # Whatever it is, a request will show it to somebody who knows what the inputs mean.
            self.joinable = False
            log.warning("model not tried out to the end; its requests run one by one", reason=_in_words(error))
        finally:
            self._timer.cancel()
        return self

    def _drawing(self) -> Drawing | None:
        """How to make inputs that the model can compute."""
        return next((draw for draw in drawings(self._signature) if self._computes(draw(1))), None)

    def _computes(self, inputs: Mapping[str, Tensor]) -> bool:
        try:
            self._compute(inputs, self._outputs)
        except Exception as error:
            self._reason = _in_words(error)
            return False
        return True

    def _agrees(self, draw: Drawing, seed: int) -> bool:
        """Whether rows give the same apart, together, and together in another order."""
        drawn = draw(sum(ROWS) * seed)
        ends = np.cumsum([rows * seed for rows in ROWS])
        parts = [
            {name: tensor[end - rows * seed : end] for name, tensor in drawn.items()}
            for rows, end in zip(ROWS, ends, strict=True)
        ]
        apart = [self._compute(part, self._outputs) for part in parts]
        for order in ([0, 1, 2], [2, 0, 1]):
            inputs = {name: np.concatenate([parts[index][name] for index in order]) for name in drawn}
            together = self._compute(inputs, self._outputs)
            expected = {name: [apart[index][name] for index in order] for name in self._outputs}
            if not all(_same(together[name], expected[name]) for name in self._outputs):
                return False
        return True

    def _time(self, draw: Drawing) -> None:
        unit = unit_elements(self._signature)
        for rows in (1, COST_ROWS) if self.joinable else (1,):
            inputs = draw(rows)
            units = max(1, next(iter(inputs.values())).size // unit) if inputs else 1
            for _ in range(COST_RUNS):
                begun = time.perf_counter()
                self._compute(inputs, self._outputs)
                self.runs.append((units, time.perf_counter() - begun))


def _in_words(error: Exception) -> str:
    """An error by its first line: engines add their innards below."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:REASON_CHARACTERS_MAX]


def is_steady(path: Path) -> bool:
    """Whether nothing in a model's file names an operator that works for as long as its inputs say."""
    return not names_one_of(UNSTEADY, path)


def names_one_of(operators: Sequence[bytes], path: Path) -> bool:
    """Whether a model's file names one of these operators. Read as bytes, since names stand in the file as they are; one too many
    found costs a little speed, none too few is missed."""
    longest = max(len(name) for name in operators)
    with path.open("rb") as file:
        tail = b""
        while chunk := file.read(1 << 20):
            window = tail + chunk
            if any(name in window for name in operators):
                return True
            tail = window[-longest:]
    return False


def _same(together: Tensor, parts: Sequence[Tensor]) -> bool:
    expected: Any = np.concatenate(parts) if all(part.ndim for part in parts) else None
    if expected is None or together.shape != expected.shape or together.dtype != expected.dtype:
        return False
    if together.dtype.kind == "f":
        scale = float(np.max(np.abs(expected[np.isfinite(expected)]), initial=0.0))
        return bool(np.allclose(together, expected, rtol=TOLERANCE, atol=TOLERANCE * scale, equal_nan=True))
    return bool(np.array_equal(together, expected))
