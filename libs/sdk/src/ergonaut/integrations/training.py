"""What the callbacks of trainers share: a run around a training that is told of by calls, not by a block."""

import atexit
import contextlib
import os
import time
from collections.abc import Mapping
from typing import Any

from ergonaut.integrations.figures import PREFIX
from ergonaut.tracking import Run, RunSummary, Tracking, track

# A trainer may log a hundred times a second; the meters are asked anew no more often than this.
_FOOTPRINT_SECONDS_MIN = 0.5
_LOGGED = ("energy_joules", "carbon_grams_co2e", "cost_usd")


class TrainingRun:
    """Begins and ends a run and its phases by name; ends it as failed when the process exits before the training did."""

    def __init__(self, wishes: Mapping[str, Any]) -> None:
        self._wishes = wishes
        self._tracking: Tracking | None = None
        self._phases: list[tuple[str, contextlib.AbstractContextManager[Run]]] = []
        self._asked_at = 0.0
        self._summary: RunSummary | None = None
        self.run: Run | None = None

    @property
    def summary(self) -> RunSummary | None:
        """The footprint of the last training that has ended."""
        return self._summary

    @property
    def should_stop(self) -> bool:
        """Whether the training is to save its state and end: a budget is used up, or a signal has come."""
        return self.run is not None and self.run.should_stop

    def begin(self, name: str) -> None:
        """Begin the run; one that a failed training left open ends first."""
        self.end(RuntimeError("the training did not end"))
        self._tracking = track(**({"name": name} | dict(self._wishes)))
        self.run = self._tracking.__enter__()
        atexit.register(self._end_at_exit)

    def end(self, error: BaseException | None = None) -> None:
        """End the run, if there is one."""
        run, tracking = self.run, self._tracking
        if run is None or tracking is None:
            return
        self.run = self._tracking = None
        while self._phases:
            self._phases.pop()[1].__exit__(None, None, None)
        atexit.unregister(self._end_at_exit)
        tracking.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)
        self._summary = run.summary_so_far()

    def enter(self, phase: str, step: int | None = None) -> None:
        """Enter a phase, unless the run is in it already."""
        if self.run is None or self.is_in(phase):
            return
        entered = self.run.phase(phase, step)
        entered.__enter__()
        self._phases.append((phase, entered))

    def leave(self, phase: str) -> None:
        """Leave a phase and those within it."""
        while self.is_in(phase):
            name, entered = self._phases.pop()
            entered.__exit__(None, None, None)
            if name == phase:
                return

    def is_in(self, phase: str) -> bool:
        """Whether the run is in a phase."""
        return any(name == phase for name, _ in self._phases)

    def figures(self) -> dict[str, float]:
        """Joules, grams and dollars so far, for the trainer's log; without what is not measured or not known."""
        if self.run is None:
            return {}
        now = time.monotonic()
        is_due = now - self._asked_at >= _FOOTPRINT_SECONDS_MIN
        self._asked_at = now if is_due else self._asked_at
        summary = self.run.footprint() if is_due else self.run.summary_so_far()
        figures = {f"{PREFIX}{name}": getattr(summary, name) for name in _LOGGED}
        return {name: value for name, value in figures.items() if value is not None}

    def _end_at_exit(self) -> None:
        self.end(RuntimeError("the program ended before its training did"))


def share_of_host() -> float:
    """Which part of a distributed training's work is this host's, whose energy the run counts.

    torchrun tells how many ranks there are here and in all; without it all ranks are taken to be on this host.
    """
    here, everywhere = os.environ.get("LOCAL_WORLD_SIZE", ""), os.environ.get("WORLD_SIZE", "")
    if here.isdecimal() and everywhere.isdecimal() and int(everywhere) > 0:
        return min(1.0, int(here) / int(everywhere))
    return 1.0
