"""Exports runs to Weights & Biases, also offline: on the program's run, or on one of its own."""

import os
from typing import Any

from ergonaut.events.runs import RunState
from ergonaut.integrations.figures import facts_of, figures_of
from ergonaut.tracking.exporting import needed
from ergonaut.tracking.summary import RunSummary

# The curves have an axis of their own, so that they never disturb the steps of the program's.
_AXIS = "ergonaut/duration_seconds"
# The program waits for its beginning; W&B's own 90 s would be felt where its server is away.
_INIT_SECONDS_MAX = 10.0


class WandbExporter:
    """Writes where W&B is set to write: WANDB_MODE, WANDB_PROJECT and so on, or what the program has set."""

    def __init__(self) -> None:
        self._run: Any = None
        self._is_own = False

    def begin(self, summary: RunSummary) -> None:
        """Find the program's run or begin one. Raises Refused without wandb."""
        wandb = needed("wandb")
        self._is_own = wandb.run is None
        settings = wandb.Settings(silent=True, init_timeout=_INIT_SECONDS_MAX)
        project = os.environ.get("WANDB_PROJECT", "") or summary.project or "ergonaut"
        self._run = wandb.run or wandb.init(project=project, name=summary.name, id=summary.run_id, settings=settings)
        self._run.define_metric(_AXIS)
        self._run.define_metric("ergonaut/*", step_metric=_AXIS)
        self._run.config.update(dict(facts_of(summary)), allow_val_change=True)

    def progress(self, summary: RunSummary) -> None:
        # On the program's run they wait for its next row; a row of ours would use up a step, and W&B then throws away what the
        # program logs under that step.
        self._run.log(dict(figures_of(summary)), commit=self._is_own)

    def finish(self, summary: RunSummary) -> None:
        try:
            self.progress(summary)
            self._run.summary.update(dict(facts_of(summary)))
        finally:
            if self._is_own:
                self._run.finish(exit_code=int(summary.state is not RunState.SUCCEEDED))
