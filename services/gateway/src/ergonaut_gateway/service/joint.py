"""Requests that came within one turn of the loop and are alike in all but their rows, run at once: where the engine would join
them and run them on this turn anyway, none of them needs a ticket. All others wait their turn as tickets do."""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from ergonaut_gateway.domain.batching import parted
from ergonaut_gateway.domain.inference import InferenceRequest
from ergonaut_gateway.domain.tensors import Tensor
from ergonaut_gateway.service.lanes import Lane

Watch = Callable[[InferenceRequest, Mapping[str, Tensor], float], None]
"""Sees each request that was answered, and how many seconds that took; never raises."""


class Joint(msgspec.Struct):
    """Several requests of one model, each for a row of the same input."""

    input: str
    rows: Tensor
    """One for each request."""
    came_seconds: float
    """When the first of them came, on the loop's clock."""

    @property
    def inputs(self) -> Mapping[str, Tensor]:
        """All of them as if one had asked."""
        return {self.input: self.rows}


class Ran(msgspec.Struct):
    """What came of it."""

    version: int
    outputs: dict[str, Tensor]
    """A row for each request."""
    seconds: float
    """What each of them took, waiting included."""
    watch: Watch | None

    def watched(self, joint: Joint, ids: Sequence[bytes]) -> None:
        """Show each request to who watches, after it was answered."""
        if self.watch is None:
            return
        pieces = parted(self.outputs, [1] * len(ids))
        assert pieces is not None, "there is a row for each request"
        for at, (name, outputs) in enumerate(zip(ids, pieces, strict=True)):
            request = InferenceRequest(name.decode(), {joint.input: joint.rows[at : at + 1]})
            self.watch(request, outputs, self.seconds)


def run_at_once(
    lane: Lane, joint: Joint, wanted: Sequence[str], monotonic: Callable[[], float], seconds_left: float
) -> dict[str, Tensor] | None:
    """The outputs. None where the requests have to wait, or where one of them is at fault; which one shows when each runs by
    itself."""
    rows, runs, begun = joint.rows, lane.runs, monotonic()
    count = len(rows)
    if not lane.fits_at_once(rows, seconds_left):
        return None
    cpu_begun = lane.cpu_clock()
    try:
        outputs = lane.runner.compute(joint.inputs, wanted, None)
    except Exception:
        # As in `lanes`: one of them is at fault, and which one shows when each runs by itself and is told its own error.
        return None
    seconds = monotonic() - begun
    if not all(tensor.ndim and len(tensor) == count for tensor in outputs.values()):
        lane.joinable = False
        return None
    runs.cpu_seconds += lane.cpu_clock() - cpu_begun
    runs.ran += count
    runs.ran_seconds += count * seconds
    runs.waited_seconds += count * (begun - joint.came_seconds)
    lane.learn_at_once(rows, seconds)
    return outputs
