"""Exports runs to Weights & Biases, also offline: on the program's run, or on one of its own."""

import os
import sys
from typing import Any

from ergonaut.events.runs import RunState
from ergonaut.integrations.figures import facts_of, figures_of
from ergonaut.tracking.exporting import needed
from ergonaut.tracking.summary import RunSummary

# The curves have an axis of their own, so that they never disturb the steps of the program's.
_AXIS = "ergonaut/duration_seconds"
# The program waits for its beginning; W&B's own 90 s would be felt where its server is away.
_INIT_SECONDS_MAX = 10.0
# Almost three hours at one in ten seconds; of longer runs the older half is thinned out again and again.
_KEPT_MAX = 1000


class WandbExporter:
    """Writes where W&B is set to write: WANDB_MODE, WANDB_PROJECT and so on, or what the program has set.

    The program may open its run at any time. W&B would give it a run of ours instead, with our project and our steps, so ours
    is opened only at the end, for a program that had none; at once by `ergonaut track`, which is another process.
    """

    def __init__(self) -> None:
        self._run: Any = None
        self._is_own = False
        self._has_joined = False
        self._kept: list[dict[str, float]] = []

    def begin(self, summary: RunSummary) -> None:
        """Find the program's run. Raises Refused without wandb."""
        # A function that is measured has one exporter for all its runs.
        self._run, self._is_own, self._has_joined, self._kept = None, False, False, []
        self._join(summary)
        if self._run is None and "ergonaut.cli" in sys.modules:
            self._open(summary)

    def progress(self, summary: RunSummary) -> None:
        self._join(summary)
        figures = dict(figures_of(summary))
        if self._run is not None:
            # On the program's run they wait for its next row; a row of ours would use up a step, and W&B then throws away
            # what the program logs under that step.
            self._run.log(figures, commit=self._is_own)
        elif not self._has_joined:
            self._keep(figures)

    def finish(self, summary: RunSummary) -> None:
        self.progress(summary)
        if self._run is None and not self._has_joined:
            self._open(summary)
        if self._run is None:
            # The program has ended its run already, with the figures of its last row.
            return
        try:
            self._run.summary.update(dict(facts_of(summary)))
        finally:
            if self._is_own:
                self._run.finish(exit_code=int(summary.state is not RunState.SUCCEEDED))

    def _join(self, summary: RunSummary) -> None:
        """Find the program's run, which may be another one by now, or none any more."""
        current = needed("wandb").run
        if self._is_own or current is self._run:
            return
        self._run = current
        if current is not None:
            self._has_joined = True
            self._introduce(summary)

    def _open(self, summary: RunSummary) -> None:
        wandb = needed("wandb")
        settings = wandb.Settings(silent=True, init_timeout=_INIT_SECONDS_MAX)
        project = os.environ.get("WANDB_PROJECT", "") or summary.project or "ergonaut"
        self._run = wandb.init(project=project, name=summary.name, id=summary.run_id, settings=settings)
        # A program may have one that W&B tells nobody of, but gives to whoever asks for one.
        self._is_own = self._run.id == summary.run_id
        self._introduce(summary)
        for figures in self._kept:
            self._run.log(figures, commit=self._is_own)

    def _introduce(self, summary: RunSummary) -> None:
        self._run.define_metric(_AXIS)
        self._run.define_metric("ergonaut/*", step_metric=_AXIS)
        self._run.config.update(dict(facts_of(summary)), allow_val_change=True)

    def _keep(self, figures: dict[str, float]) -> None:
        self._kept.append(figures)
        if len(self._kept) > _KEPT_MAX:
            del self._kept[: _KEPT_MAX // 2 : 2]
