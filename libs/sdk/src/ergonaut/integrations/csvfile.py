"""Exports each run as one row of `ergonaut-runs.csv`, to which many programs may append."""

import csv
import errno
import io
import json
import os
from pathlib import Path

from ergonaut.integrations.figures import export_folder
from ergonaut.tracking.summary import RunSummary

FILE = "ergonaut-runs.csv"
COLUMNS = (
    "run_id", "name", "project", "state", "because", "exit_code", "started_at", "ended_at", "duration_seconds",
    "energy_joules", "range_fraction", "carbon_grams_co2e", "cost_usd", "zone", "intensity_grams_per_kwh", "intensity_kind",
    "intensity_source", "idle_joules", "others_joules", "metered_by", "components", "metrics",
)  # fmt: skip
"""The columns never change, so that one file holds runs of any kind; what was not measured is an empty cell."""

_AS_JSON = ("components", "metrics")


class CsvExporter:
    """Appends a row when a run ends. Components and metrics are JSON in their cells."""

    def __init__(self, folder: Path | None = None) -> None:
        self._file = export_folder(folder) / FILE

    def begin(self, summary: RunSummary) -> None:
        """Find out early whether the file can be written. Raises OSError."""
        with self._file.open("ab"):
            pass

    def progress(self, summary: RunSummary) -> None:
        """A row is written once, at the end."""

    def finish(self, summary: RunSummary) -> None:
        values = summary.to_json()
        row = {name: json.dumps(values[name]) if name in _AS_JSON else values[name] for name in COLUMNS}
        handle = os.open(self._file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            _lock(handle)
            size_bytes = os.fstat(handle).st_size
            text = _text(row, with_header=size_bytes == 0).encode()
            if os.write(handle, text) != len(text):
                # A disk that fills takes what still fits; the next run's row would be added to half of this one.
                os.ftruncate(handle, size_bytes)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(handle)


def _text(row: dict[str, object], *, with_header: bool) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    if with_header:
        writer.writeheader()
    writer.writerow(row)
    return text.getvalue()


def _lock(handle: int) -> None:
    # The lock is on the file itself and goes with its process; without it two first writers would both write the headings.
    if os.name == "posix":
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX)
