"""Exports runs to Neptune, also offline: on a run that is given, or on one of its own."""

from typing import Any

from ergonaut.integrations.figures import facts_of, figures_of
from ergonaut.integrations.names import Names
from ergonaut.tracking.exporting import needed
from ergonaut.tracking.summary import RunSummary


class NeptuneExporter:
    """Writes where Neptune is set to write: NEPTUNE_MODE, NEPTUNE_PROJECT, NEPTUNE_API_TOKEN; or to the run given."""

    def __init__(self, run: Any = None) -> None:
        self._run = run
        self._is_own = run is None
        self._names = Names()

    def begin(self, summary: RunSummary) -> None:
        """Begin a run where none was given. Raises Refused without neptune."""
        if self._is_own:
            neptune = needed("neptune")
            self._run = neptune.init_run(
                name=summary.name,
                git_ref=False,
                source_files=[],
                capture_stdout=False,
                capture_stderr=False,
                capture_hardware_metrics=False,
                capture_traceback=False,
            )
        self._tell_facts(summary)

    def progress(self, summary: RunSummary) -> None:
        for name, value in self._names.of(figures_of(summary)).items():
            self._run[name].append(value, step=summary.duration_seconds)

    def finish(self, summary: RunSummary) -> None:
        try:
            self.progress(summary)
            self._tell_facts(summary)
        finally:
            if self._is_own:
                self._run.stop()
            else:
                self._run.sync()

    def _tell_facts(self, summary: RunSummary) -> None:
        for name, value in facts_of(summary).items():
            self._run[name] = value
