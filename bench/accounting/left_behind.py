"""How much of a killed program's time is on record: reads what each tracker leaves in its folder, as its user would."""

import csv
import json
import subprocess
from datetime import datetime
from pathlib import Path

from environments import Environment


def covered_seconds(tracker: Environment, folder: Path) -> float:
    """Seconds of tracked work that the tracker's own files tell of; 0 where nothing usable is left."""
    return {
        "ergonaut": _ergonaut,
        "codecarbon": lambda _, folder: _column(folder / "emissions.csv", "duration"),
        "zeus": lambda _, folder: _column(folder / "zeus.csv", "elapsed_time"),
        "eco2ai": lambda _, folder: _column(folder / "eco2ai.csv", "duration(s)"),
        "carbontracker": _carbontracker,
    }[tracker.name](tracker, folder)


def _ergonaut(tracker: Environment, folder: Path) -> float:
    """What `ergonaut recover` tells of the runs that died, and the journal of one that had time to end."""
    command = [str(tracker.python), "-m", "ergonaut", "recover", "--json"]
    environment = {"ERGONAUT_HOME": str(folder), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    recovered = json.loads(done.stdout)
    if recovered:
        return float(recovered[0]["duration_seconds"])
    journal = next(folder.glob("runs/*/journal.jsonl"), None)
    if journal is None:
        raise FileNotFoundError(f"no journal of a run is in {folder}")
    times = [json.loads(line)["at"] for line in journal.read_text().splitlines()]
    first, last = (datetime.fromisoformat(text) for text in (times[0], times[-1]))
    return (last - first).total_seconds()


def _column(file: Path, name: str) -> float:
    if not file.exists():
        return 0.0
    rows = list(csv.DictReader(file.open()))
    return float(rows[-1][name]) if rows else 0.0


def _carbontracker(_: Environment, folder: Path) -> float:
    """Its log has energy only once an epoch has ended."""
    text = "".join(file.read_text() for file in folder.glob("*.log"))
    return float("inf") if "Energy:" in text else 0.0
