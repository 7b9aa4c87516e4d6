"""Exports runs to MLflow: metrics over time and tags, on the run that is active, or on one of its own."""

import time
from typing import Any

from ergonaut.events.runs import RunState
from ergonaut.integrations.figures import facts_of, figures_of
from ergonaut.integrations.names import Names
from ergonaut.tracking.exporting import needed
from ergonaut.tracking.summary import RunSummary

# MLflow refuses longer values of tags and more metrics in one request, and the whole request for one name with other characters.
_NAME_REFUSED = r"[^/\w.\- :]"
_NAME_LENGTH_MAX = 250
_VALUE_LENGTH_MAX = 5000
_BATCH_MAX = 1000
_STATUS = {RunState.SUCCEEDED: "FINISHED", RunState.FAILED: "FAILED", RunState.CANCELLED: "KILLED", None: "FINISHED"}


class MlflowExporter:
    """Writes where MLflow is set to write: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME or what the program has set."""

    def __init__(self) -> None:
        self._client: Any = None
        self._run_id = ""
        self._is_own = False
        self._names = Names(_NAME_REFUSED, _NAME_LENGTH_MAX)

    def begin(self, summary: RunSummary) -> None:
        """Find the active run, which MLflow knows for each thread, or make one. Raises Refused without mlflow."""
        mlflow = needed("mlflow")
        self._client = mlflow.MlflowClient()
        active = mlflow.active_run()
        self._is_own = active is None
        self._run_id = active.info.run_id if active is not None else self._new_run(mlflow, summary)
        try:
            self._tag(summary)
        except Exception:
            self._end("FAILED")
            raise

    def progress(self, summary: RunSummary) -> None:
        metric = needed("mlflow.entities").Metric
        now_ms, step = round(time.time() * 1000), round(summary.duration_seconds)
        metrics = [metric(name, value, now_ms, step) for name, value in self._names.of(figures_of(summary)).items()]
        for first in range(0, len(metrics), _BATCH_MAX):
            self._client.log_batch(self._run_id, metrics=metrics[first : first + _BATCH_MAX])

    def finish(self, summary: RunSummary) -> None:
        try:
            self.progress(summary)
            self._tag(summary)
        finally:
            self._end(_STATUS[summary.state])

    def _end(self, status: str) -> None:
        if self._is_own:
            self._client.set_terminated(self._run_id, status)

    def _new_run(self, mlflow: Any, summary: RunSummary) -> str:
        # What the program or the environment named; asking for the id makes no experiment and no run active.
        experiment_id = mlflow.tracking.fluent._get_experiment_id()
        run_id: str = self._client.create_run(experiment_id, run_name=summary.name).info.run_id
        return run_id

    def _tag(self, summary: RunSummary) -> None:
        tag = needed("mlflow.entities").RunTag
        facts = self._names.of(facts_of(summary)).items()
        self._client.log_batch(self._run_id, tags=[tag(name, value[:_VALUE_LENGTH_MAX]) for name, value in facts])
