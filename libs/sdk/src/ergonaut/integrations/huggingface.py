"""A callback for the Hugging Face Trainer: `Trainer(..., callbacks=[ErgonautCallback()])`. Needs `transformers`.

Epochs and evaluations are phases; samples, tokens and predictions are counted; joules, grams and dollars stand in the log. When
the run should stop, by its budget or by a signal with `stops_itself=True`, the Trainer saves a checkpoint and ends.
"""

import functools
from collections.abc import Callable
from typing import Any, Unpack

from ergonaut.integrations.training import TrainingRun, share_of_host
from ergonaut.tracking import RunSummary
from ergonaut.tracking.exporting import needed
from ergonaut.tracking.wishes import Wishes

_base: Any = needed("transformers").TrainerCallback

EPOCH = "epoch"
EVALUATION = "evaluation"


class ErgonautCallback(_base):  # type: ignore[misc]  # known only when transformers is there
    """Takes the same arguments as `ergonaut.track()`."""

    def __init__(self, **wishes: Unpack[Wishes]) -> None:
        self._training = TrainingRun(wishes)
        self._is_training = False
        self._samples_in_epoch = 0
        self._predictions = 0
        self._tokens_seen = 0
        _let_trainers_tell_of_errors()

    @property
    def summary(self) -> RunSummary | None:
        """The footprint of the last training that has ended."""
        return self._training.summary

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self._training.begin("training")
        self._is_training = True
        self._tokens_seen = _tokens(state)

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self._is_training = False
        self._training.end()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self._samples_in_epoch = 0
        if not self._stop_if_asked(control):
            self._training.enter(EPOCH, round(state.epoch or 0))

    def on_epoch_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self._training.leave(EPOCH)

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        run = self._training.run
        if run is None or self._stop_if_asked(control):
            return
        batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        samples = min(
            batch, _length(more.get("train_dataloader"), batch + self._samples_in_epoch) - self._samples_in_epoch
        )
        self._samples_in_epoch += samples
        run.count("samples", max(0, samples) * share_of_host())
        tokens, self._tokens_seen = _tokens(state) - self._tokens_seen, _tokens(state)
        if tokens > 0:
            run.count("tokens", tokens * share_of_host())

    def on_prediction_step(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if self._training.run is None:
            self._training.begin(EVALUATION)
        if not self._training.is_in(EVALUATION):
            self._predictions = 0
            if not self._training.should_stop:
                self._training.enter(EVALUATION, state.global_step)
        batch = args.eval_batch_size * args.world_size
        predictions = min(batch, _length(more.get("eval_dataloader"), batch + self._predictions) - self._predictions)
        self._predictions += predictions
        if self._training.run is not None and not self._training.should_stop:
            self._training.run.count("predictions", max(0, predictions) * share_of_host())

    def on_evaluate(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self._leave_evaluation()

    def on_predict(self, args: Any, state: Any, control: Any, metrics: Any, **more: Any) -> None:
        self._leave_evaluation()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
        figures = self._training.figures()
        if logs is not None:
            logs.update(figures)
        # The Trainer copied the entry into its history before it called.
        if state.log_history:
            state.log_history[-1].update(figures)

    def on_exception(self, error: BaseException, *, ends_training: bool) -> None:
        """A training, evaluation or prediction failed; one within a training may be forgiven, and the training go on."""
        self._training.leave(EVALUATION)
        if ends_training or not self._is_training:
            self._is_training = False
            self._training.end(error)

    def _leave_evaluation(self) -> None:
        self._training.leave(EVALUATION)
        if not self._is_training:
            self._training.end()

    def _stop_if_asked(self, control: Any) -> bool:
        if not self._training.should_stop:
            return False
        control.should_training_stop = control.should_save = True
        return True


@functools.cache
def _let_trainers_tell_of_errors() -> None:
    """Have every Trainer tell its ErgonautCallbacks of errors; the library tells no callback, and the run would go on."""
    trainer_class = needed("transformers").Trainer
    for name in ("train", "evaluate", "predict"):
        setattr(trainer_class, name, _telling_of_errors(getattr(trainer_class, name), ends_training=name == "train"))


def _telling_of_errors(method: Callable[..., Any], *, ends_training: bool) -> Callable[..., Any]:
    @functools.wraps(method)
    def told(trainer: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return method(trainer, *arguments, **options)
        except BaseException as error:
            for callback in trainer.callback_handler.callbacks:
                if isinstance(callback, ErgonautCallback):
                    callback.on_exception(error, ends_training=ends_training)
            raise

    return told


def _length(loader: Any, otherwise: int) -> int:
    """How many samples an epoch has; data that only stream do not say."""
    try:
        return len(loader.dataset)
    except (AttributeError, TypeError, NotImplementedError):
        return otherwise


def _tokens(state: Any) -> int:
    # The Trainer counts them when include_num_input_tokens_seen is set.
    return int(state.num_input_tokens_seen or 0)
