"""The callback in a real Lightning Trainer that trains a tiny model on CPU."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ergonaut
from ergonaut.events.runs import RunState
from ergonaut.journal import JournalEntry
from ergonaut.journal_phases import phases_of

lightning = pytest.importorskip("lightning.pytorch", reason="run by make test-ml, which installs lightning")
torch = pytest.importorskip("torch", reason="run by make test-ml, which installs torch")

from lightning.pytorch.loggers import CSVLogger  # noqa: E402 - needs the library that may be missing

from ergonaut.integrations.lightning import ErgonautCallback, size_of  # noqa: E402 - likewise

SAMPLES, HELD_OUT, EPOCHS = 50, 12, 2
pytestmark = pytest.mark.filterwarnings("default")


class Line(lightning.LightningModule):  # type: ignore[misc, name-defined]
    def __init__(self, *, fails: bool = False) -> None:
        super().__init__()
        self._layer = torch.nn.Linear(4, 1)
        self._fails = fails

    def training_step(self, batch: Any, _index: int) -> Any:
        if self._fails:
            raise ZeroDivisionError("no gradient")
        inputs, targets = batch
        return torch.nn.functional.mse_loss(self._layer(inputs), targets)

    def validation_step(self, batch: Any, index: int) -> None:
        self.training_step(batch, index)

    def test_step(self, batch: Any, index: int) -> None:
        self.training_step(batch, index)

    def predict_step(self, batch: Any, _index: int) -> Any:
        return self._layer(batch[0])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def loader(count: int) -> Any:
    inputs = torch.randn(count, 4, generator=torch.Generator().manual_seed(0))
    return torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(inputs, inputs.sum(1, keepdim=True)), batch_size=8
    )


def trainer(home: Path, callback: ErgonautCallback, **more: Any) -> Any:
    settings = {"max_epochs": EPOCHS, "logger": CSVLogger(str(home / "logs")), "enable_checkpointing": False}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}
    return lightning.Trainer(accelerator="cpu", devices=1, callbacks=[callback], **(settings | quiet | more))


def test_epochs_and_validations_are_phases_with_what_was_done_in_them(
    home: Path, entries: Callable[[], list[JournalEntry]]
) -> None:
    callback = ErgonautCallback(name="line", electricity_usd_per_kwh=0.3)
    trainer(home, callback, num_sanity_val_steps=1).fit(Line(), loader(SAMPLES), loader(HELD_OUT))
    summary = callback.summary
    assert summary is not None
    assert (summary.name, summary.state) == ("line", RunState.SUCCEEDED)
    assert (summary.energy_joules or 0) > 0
    assert summary.metrics == {"samples": SAMPLES * EPOCHS, "predictions": HELD_OUT * EPOCHS + 8}
    spans = [(span.phase, span.step, dict(span.metrics)) for span in phases_of(entries())]
    assert spans == [
        ("sanity check", 0, {"predictions": 8}),
        ("epoch/validation", 7, {"predictions": HELD_OUT}),
        ("epoch", 0, {"samples": SAMPLES, "predictions": HELD_OUT}),
        ("epoch/validation", 14, {"predictions": HELD_OUT}),
        ("epoch", 1, {"samples": SAMPLES, "predictions": HELD_OUT}),
    ]


def test_joules_grams_and_dollars_are_in_lightnings_log(home: Path) -> None:
    callback = ErgonautCallback(electricity_usd_per_kwh=0.3)
    fitting = trainer(home, callback)
    fitting.fit(Line(), loader(SAMPLES))
    logged = fitting.logged_metrics
    assert logged["ergonaut/energy_joules"] > 0
    assert float(logged["ergonaut/cost_usd"]) == pytest.approx(float(logged["ergonaut/energy_joules"]) / 3.6e6 * 0.3)
    fitting.logger.save()
    (file,) = home.glob("logs/**/metrics.csv")
    assert "ergonaut/carbon_grams_co2e" in file.read_text().splitlines()[0]


def test_tests_and_predictions_are_runs_of_their_own(home: Path) -> None:
    callback = ErgonautCallback()
    fitted = trainer(home, callback)
    fitted.test(Line(), loader(HELD_OUT))
    assert callback.summary is not None
    assert (callback.summary.name, callback.summary.metrics) == ("test", {"predictions": HELD_OUT})
    fitted.predict(Line(), loader(SAMPLES))
    assert (callback.summary.name, callback.summary.metrics) == ("predict", {"predictions": SAMPLES})


def test_a_training_stops_at_its_budget(home: Path) -> None:
    callback = ErgonautCallback(budget=ergonaut.Budget(energy_joules=3.0))
    fitting = trainer(home, callback, max_epochs=100_000, logger=False)
    fitting.fit(Line(), loader(SAMPLES))
    assert fitting.current_epoch < 100_000
    assert callback.summary is not None
    assert callback.summary.state is RunState.CANCELLED


def test_a_training_that_fails_fails_its_run(home: Path) -> None:
    callback = ErgonautCallback()
    with pytest.raises(ZeroDivisionError):
        trainer(home, callback).fit(Line(fails=True), loader(SAMPLES))
    assert callback.summary is not None
    assert callback.summary.state is RunState.FAILED
    assert callback.summary.because == "ZeroDivisionError: no gradient"
    with ergonaut.track(name="next") as run:
        assert (run.name, run.summary) == ("next", None), "what is next is a run of its own"


def test_a_training_that_is_interrupted_fails_its_run(home: Path) -> None:
    class Interrupting(Line):
        def training_step(self, batch: Any, _index: int) -> Any:
            raise KeyboardInterrupt

    callback = ErgonautCallback()
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit):
            trainer(home, callback).fit(Interrupting(), loader(SAMPLES))
    finally:
        # Lightning leaves it ignored.
        signal.signal(signal.SIGINT, before)
    assert callback.summary is not None
    assert (callback.summary.state, callback.summary.because) == (RunState.FAILED, "interrupted")


def test_the_size_of_any_batch_is_found() -> None:
    tensor = torch.zeros(7, 3)
    assert [size_of(batch) for batch in (tensor, [tensor, 1], {"x": {"y": (tensor,)}}, "words", [], None)] == [
        7, 7, 7, 0, 0, 0,
    ]  # fmt: skip
