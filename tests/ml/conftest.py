"""Each test has a home of its own, writes nowhere else, and reaches no network."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ergonaut.journal import JournalEntry, all_entries
from ergonaut.tracking import exporting


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith(("ERGONAUT_", "WANDB_", "MLFLOW_", "NEPTUNE_")) or name in ("RANK", "LOCAL_RANK"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ERGONAUT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ERGONAUT_TRACK_INTERVAL_SECONDS", "0.2")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(exporting, "PROGRESS_SECONDS", 0.1)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def entries(home: Path) -> Callable[[], list[JournalEntry]]:
    """Read the journal of the only run there was."""

    def read() -> list[JournalEntry]:
        (journal,) = home.glob("home/runs/*/journal.jsonl")
        return list(all_entries(journal))

    return read
