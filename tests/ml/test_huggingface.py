"""The callback in a real Trainer that trains a tiny model on CPU; nothing is downloaded."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ergonaut
from ergonaut.events.runs import RunState
from ergonaut.journal import JournalEntry
from ergonaut.journal_phases import phases_of

transformers = pytest.importorskip("transformers", reason="run by make test-ml, which installs transformers")
torch = pytest.importorskip("torch", reason="run by make test-ml, which installs torch")

from ergonaut.integrations.huggingface import ErgonautCallback  # noqa: E402 - needs the library that may be missing

WORDS, LENGTH, SAMPLES, HELD_OUT, EPOCHS = 50, 16, 26, 10, 2
pytestmark = pytest.mark.filterwarnings("default")


class Sentences(torch.utils.data.Dataset):  # type: ignore[misc]
    def __init__(self, count: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self._words = torch.randint(0, WORDS, (count, LENGTH), generator=generator)

    def __len__(self) -> int:
        return len(self._words)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": self._words[index], "labels": self._words[index]}


def trainer(home: Path, callback: ErgonautCallback | None, **more: object) -> Any:
    config = transformers.GPT2Config(vocab_size=WORDS, n_positions=LENGTH, n_embd=16, n_layer=1, n_head=2)
    arguments = {
        "output_dir": str(home / "out"), "num_train_epochs": EPOCHS, "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 4, "eval_strategy": "epoch", "logging_steps": 2, "save_strategy": "no",
        "report_to": [], "use_cpu": True, "disable_tqdm": True, "include_num_input_tokens_seen": "all",
        "dataloader_pin_memory": False,
    }  # fmt: skip
    return transformers.Trainer(
        model=transformers.GPT2LMHeadModel(config),
        args=transformers.TrainingArguments(**(arguments | more)),
        train_dataset=Sentences(SAMPLES),
        eval_dataset=Sentences(HELD_OUT),
        callbacks=[callback] if callback is not None else [],
    )


def test_epochs_and_evaluations_are_phases_with_what_was_done_in_them(
    home: Path, entries: Callable[[], list[JournalEntry]]
) -> None:
    callback = ErgonautCallback(name="tiny", project="words")
    trained = trainer(home, callback)
    trained.train()
    summary = callback.summary
    assert summary is not None
    assert (summary.name, summary.project, summary.state) == ("tiny", "words", RunState.SUCCEEDED)
    assert (summary.energy_joules or 0) > 0
    assert summary.metrics == {
        "samples": SAMPLES * EPOCHS,
        "tokens": SAMPLES * EPOCHS * LENGTH,
        "predictions": HELD_OUT * EPOCHS,
    }
    spans = list(phases_of(entries()))
    assert [(span.phase, span.step) for span in spans] == [
        ("epoch", 0), ("evaluation", 4), ("epoch", 1), ("evaluation", 8),
    ]  # fmt: skip
    assert [span.metrics.get("samples") for span in spans] == [SAMPLES, None, SAMPLES, None]
    assert [span.metrics.get("predictions") for span in spans] == [None, HELD_OUT, None, HELD_OUT]


def test_the_trainers_log_tells_joules_and_grams_that_only_grow(home: Path) -> None:
    callback = ErgonautCallback(electricity_usd_per_kwh=0.3)
    trained = trainer(home, callback)
    trained.train()
    logged = [entry for entry in trained.state.log_history if "loss" in entry]
    joules = [entry["ergonaut/energy_joules"] for entry in logged]
    assert len(joules) >= 3
    assert joules == sorted(joules)
    assert joules[0] > 0
    last = logged[-1]
    assert last["ergonaut/cost_usd"] == pytest.approx(last["ergonaut/energy_joules"] / 3.6e6 * 0.3)
    assert last["ergonaut/carbon_grams_co2e"] > 0


def test_a_training_stops_at_its_budget_with_a_checkpoint(home: Path) -> None:
    callback = ErgonautCallback(budget=ergonaut.Budget(energy_joules=3.0))
    trained = trainer(home, callback, num_train_epochs=100_000, eval_strategy="no")
    trained.train()
    assert trained.state.global_step < 100_000
    assert list((home / "out").glob("checkpoint-*")), "the state is saved, so that the training can go on later"
    assert callback.summary is not None
    assert callback.summary.state is RunState.CANCELLED
    assert callback.summary.energy_joules is not None
    assert callback.summary.energy_joules >= 3.0 * 0.99


def test_an_evaluation_by_itself_is_a_run(home: Path) -> None:
    callback = ErgonautCallback()
    result = trainer(home, callback).evaluate()
    assert math.isfinite(result["eval_loss"])
    assert callback.summary is not None
    assert (callback.summary.name, callback.summary.metrics) == ("evaluation", {"predictions": HELD_OUT})


def broken(home: Path, callback: ErgonautCallback | None, **more: object) -> Any:
    failing = trainer(home, callback, **more)
    failing.compute_loss = lambda *_, **__: 1 / 0
    return failing


def test_a_training_that_fails_fails_its_run_at_once_and_whatever_is_next_is_a_run_of_its_own(home: Path) -> None:
    callback = ErgonautCallback(name="first")
    with pytest.raises(ZeroDivisionError):
        broken(home, callback).train()
    assert callback.summary is not None
    assert (callback.summary.state, callback.summary.because) == (
        RunState.FAILED,
        "ZeroDivisionError: division by zero",
    )
    with ergonaut.track(name="second"):
        pass
    trainer(home, ErgonautCallback(name="third"), num_train_epochs=1).train()
    trainer(home, callback, num_train_epochs=1).train()
    assert sorted((summary.name, summary.state) for summary in states_of(home)) == [
        ("first", RunState.FAILED),
        ("first", RunState.SUCCEEDED),
        ("second", RunState.SUCCEEDED),
        ("third", RunState.SUCCEEDED),
    ]


def test_a_callback_that_was_added_later_hears_of_the_failure_too(home: Path) -> None:
    callback = ErgonautCallback()
    failing = broken(home, None)
    failing.add_callback(callback)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            failing.train()
        assert callback.summary is not None
        assert callback.summary.state is RunState.FAILED
    assert len(states_of(home)) == 2


def test_an_evaluation_that_fails_fails_its_run(home: Path) -> None:
    callback = ErgonautCallback()
    failing = trainer(home, callback)
    failing.compute_metrics = lambda *_, **__: 1 / 0
    with pytest.raises(ZeroDivisionError):
        failing.evaluate()
    assert callback.summary is not None
    assert callback.summary.state is RunState.FAILED


def test_a_training_goes_on_when_an_evaluation_within_it_failed_and_was_forgiven(home: Path) -> None:
    class Trying(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            with pytest.raises(TypeError):
                trained.evaluate(eval_dataset=3)

    callback = ErgonautCallback()
    trained = trainer(home, callback, num_train_epochs=1, eval_strategy="no")
    trained.add_callback(Trying())
    trained.train()
    assert callback.summary is not None
    assert callback.summary.state is RunState.SUCCEEDED
    assert callback.summary.metrics["samples"] == SAMPLES


def states_of(home: Path) -> list[Any]:
    from ergonaut.journal import all_entries
    from ergonaut.tracking.summary import summary_of

    return [summary_of(all_entries(journal), journal) for journal in home.glob("home/runs/*/journal.jsonl")]
