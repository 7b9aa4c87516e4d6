"""Measures what a program of one's own uses: `with ergonaut.track() as run:`. Needs no server; streams when there is one.

track() ─▶ Run ─ phases, metrics ─▶ journal on disk ◀─ samples, every second ─ MeterThread ◀─ meters
                                       │
                                       ├─▶ BusStream: to NATS, when a bus is configured
                                       └─▶ recover_runs(): closes it when its process was killed
"""

from typing import TYPE_CHECKING

from ergonaut.lazy import lazy_names

if TYPE_CHECKING:
    from ergonaut.tracking.recovery import recover_runs
    from ergonaut.tracking.run import Run
    from ergonaut.tracking.stopping import BudgetExceeded
    from ergonaut.tracking.summary import ComponentFootprint, RunSummary
    from ergonaut.tracking.tracker import Tracking, track

# `from ergonaut import track` at the head of a program costs a hundredth of a second; what measures is loaded with a run.
_HOMES = {
    "BudgetExceeded": "ergonaut.tracking.stopping",
    "ComponentFootprint": "ergonaut.tracking.summary",
    "Run": "ergonaut.tracking.run",
    "RunSummary": "ergonaut.tracking.summary",
    "Tracking": "ergonaut.tracking.tracker",
    "recover_runs": "ergonaut.tracking.recovery",
    "track": "ergonaut.tracking.tracker",
}

__all__ = ["BudgetExceeded", "ComponentFootprint", "Run", "RunSummary", "Tracking", "recover_runs", "track"]

__getattr__ = lazy_names(__name__, _HOMES)
