"""Each test has a home of its own and an environment that tells of no run, bus or rank."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith(("ERGONAUT_", "SLURM_")) or name in ("RANK", "LOCAL_RANK"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ERGONAUT_HOME", str(tmp_path))
    monkeypatch.setenv("ERGONAUT_TRACK_INTERVAL_SECONDS", "0.2")
    return tmp_path
