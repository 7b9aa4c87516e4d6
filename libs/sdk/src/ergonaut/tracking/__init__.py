"""Measures what a program of one's own uses: `with ergonaut.track() as run:`. Needs no server; streams when there is one.

track() ─▶ Run ─ phases, metrics ─▶ journal on disk ◀─ samples, every second ─ MeterThread ◀─ meters
                                       │
                                       ├─▶ BusStream: to NATS, when a bus is configured
                                       └─▶ recover_runs(): closes it when its process was killed
"""

from ergonaut.tracking.recovery import recover_runs
from ergonaut.tracking.run import Run
from ergonaut.tracking.stopping import BudgetExceeded
from ergonaut.tracking.summary import ComponentFootprint, RunSummary
from ergonaut.tracking.tracker import Tracking, track

__all__ = ["BudgetExceeded", "ComponentFootprint", "Run", "RunSummary", "Tracking", "recover_runs", "track"]
