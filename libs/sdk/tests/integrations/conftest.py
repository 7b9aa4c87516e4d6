"""Runs that are exported have a home of their own, a folder for what is exported, and the same meter on every machine."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import ergonaut
from ergonaut.metering.cpu_model import CpuModel
from ergonaut.metering.meters import NotMeasured
from ergonaut.tracking import RunSummary, exporting, meterthread


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith(("ERGONAUT_", "SLURM_")) or name in ("RANK", "LOCAL_RANK"):
            monkeypatch.delenv(name)
    exported = tmp_path / "exported"
    monkeypatch.setenv("ERGONAUT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ERGONAUT_EXPORT_FOLDER", str(exported))
    monkeypatch.setenv("ERGONAUT_TRACK_INTERVAL_SECONDS", "0.1")
    monkeypatch.setattr(meterthread, "discover", lambda: [CpuModel(), NotMeasured("gpu", "no driver")])
    monkeypatch.setattr(exporting, "PROGRESS_SECONDS", 0.1)
    return exported


@pytest.fixture
def worked(folder: Path) -> Callable[..., RunSummary]:
    """Do half a second of work under `track()` with these arguments, and give the summary."""

    def work(**wishes: object) -> RunSummary:
        with ergonaut.track(**{"name": "exported", **wishes}) as run:  # type: ignore[call-overload]
            until = time.thread_time() + 0.3
            while time.thread_time() < until:
                pass
            run.count("tokens", 100)
            run.metric("accuracy", 0.5)
        assert run.summary is not None
        assert run.summary.energy_joules is not None
        return run.summary  # type: ignore[no-any-return]

    return work
