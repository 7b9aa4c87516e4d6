"""Exports each run as `RUN.json`, always whole: it tells the footprint so far while the run goes on, and then the end."""

import json
from pathlib import Path

from ergonaut.integrations.figures import export_folder, written_whole
from ergonaut.tracking.summary import RunSummary


class JsonExporter:
    """Replaces the file at every progress, in one step, so that a reader never finds half of it."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = export_folder(folder)

    def begin(self, summary: RunSummary) -> None:
        self._write(summary)

    def progress(self, summary: RunSummary) -> None:
        self._write(summary)

    def finish(self, summary: RunSummary) -> None:
        self._write(summary)

    def _write(self, summary: RunSummary) -> None:
        with written_whole(self._folder / f"{summary.run_id}.json") as draft:
            draft.write_text(json.dumps(summary.to_json(), indent=2) + "\n")
