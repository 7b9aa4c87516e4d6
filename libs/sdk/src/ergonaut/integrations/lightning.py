"""A callback for Lightning: `Trainer(..., callbacks=[ErgonautCallback()])`. Needs `lightning`.

Epochs, validations, tests and predictions are phases; samples and predictions are counted; joules, grams and dollars are logged
at the end of each epoch. When the run should stop, by its budget or by a signal with `stops_itself=True`, the Trainer ends.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from ergonaut.integrations.training import TrainingRun
from ergonaut.tracking import RunSummary
from ergonaut.tracking.exporting import needed
from ergonaut.tracking.wishes import Wishes

_base: Any = needed("lightning.pytorch").Callback

EPOCH = "epoch"
# A batch may be a list of dictionaries of tuples; deeper than this nobody's is.
_DEPTH_MAX = 4


class ErgonautCallback(_base):  # type: ignore[misc]  # known only when Lightning is there
    """Takes the same arguments as `ergonaut.track()`."""

    def __init__(self, **wishes: Unpack[Wishes]) -> None:
        self._training = TrainingRun(wishes)

    @property
    def summary(self) -> RunSummary | None:
        """The footprint of the last training, test or prediction that has ended."""
        return self._training.summary

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self._training.begin("training" if stage == "fit" else stage)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self._training.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._training.end(exception)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if not self._stop_if_asked(trainer):
            self._training.enter(EPOCH, trainer.current_epoch)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        pl_module.log_dict(self._training.figures(), rank_zero_only=True)
        self._training.leave(EPOCH)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not self._stop_if_asked(trainer):
            self._count(trainer, "samples", batch)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self._enter(trainer, "sanity check" if trainer.sanity_checking else "validation")

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *which: Any, **more: Any
    ) -> None:
        self._count(trainer, "predictions", batch)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self._training.leave("sanity check" if trainer.sanity_checking else "validation")

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        self._enter(trainer, "test")

    def on_test_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *which: Any, **more: Any
    ) -> None:
        self._count(trainer, "predictions", batch)

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        self._training.leave("test")

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        self._enter(trainer, "predict")

    def on_predict_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *which: Any, **more: Any
    ) -> None:
        self._count(trainer, "predictions", batch)

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        self._training.leave("predict")

    def _enter(self, trainer: Any, phase: str) -> None:
        if not self._training.should_stop:
            self._training.enter(phase, trainer.global_step)

    def _count(self, trainer: Any, name: str, batch: Any) -> None:
        # The run is all ranks of this host, and each has had a batch of its own.
        here = max(1, trainer.world_size // max(1, trainer.num_nodes))
        if self._training.run is not None and not self._training.should_stop:
            self._training.run.count(name, size_of(batch) * here)

    def _stop_if_asked(self, trainer: Any) -> bool:
        if self._training.should_stop:
            trainer.should_stop = True
        return self._training.should_stop


def size_of(batch: Any, depth: int = 0) -> int:
    """How many samples a batch has: the first dimension of the first tensor in it; 0 where there is none."""
    shape = getattr(batch, "shape", None)
    if shape is not None:
        return int(shape[0]) if len(shape) else 1
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, Sequence) else ()
    if depth >= _DEPTH_MAX or isinstance(batch, str):
        return 0
    return next((size for part in parts if (size := size_of(part, depth + 1))), 0)
