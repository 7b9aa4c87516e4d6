"""What is measured: a program under one tracker, in the environment of that tracker: `python subject.py QUESTION TRACKER FOLDER`.

Each question prints one JSON object. Trackers are begun as their documentation says, sampling every second, with no network
and nothing told of the place, but where it says otherwise.
"""

import contextlib
import csv
import json
import os
import re
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

# One thread computes, so that the second CPU is free for the tracker's own and only its cost is seen.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
warnings.filterwarnings("ignore")

BATCH, INPUTS, HIDDEN, CLASSES = 64, 64, 128, 10
CHUNK_SECONDS = 2.0
IDLE_SECONDS = 60.0

End = Callable[[], dict[str, Any]]


def begin(tracker: str, folder: Path) -> End:
    """Begin to track; gives what ends it and tells joules, watts and grams per kWh as the tracker reports them."""
    return {
        "none": lambda _: dict,
        "ergonaut": _ergonaut,
        "codecarbon": _codecarbon,
        "zeus": _zeus,
        "eco2ai": _eco2ai,
        "carbontracker": _carbontracker,
    }[tracker](folder)


def _ergonaut(folder: Path) -> End:
    import ergonaut

    os.environ["ERGONAUT_HOME"] = str(folder)
    tracking = ergonaut.track(name="bench")
    run = tracking.__enter__()

    def end() -> dict[str, Any]:
        tracking.__exit__(None, None, None)
        summary = run.summary
        joules = {part.component: part.energy_joules for part in summary.components}
        return {
            "joules": summary.energy_joules,
            "cpu_joules": joules.get("cpu"),
            "gpu": "not measured" if joules.get("gpu", joules.get("gpu0")) is None else joules,
            "grams_per_kwh": summary.intensity_grams_per_kwh,
            "place": f"{summary.zone or 'unknown'} ({summary.intensity_kind})",
            "idle_joules": summary.idle_joules,
            "others_joules": summary.others_joules,
        }

    return end


def _codecarbon(folder: Path) -> End:
    from codecarbon import EmissionsTracker

    os.environ["CODECARBON_LOG_LEVEL"] = "critical"
    tracker = EmissionsTracker(
        output_dir=str(folder), measure_power_secs=1, log_level="critical", allow_multiple_runs=True
    )
    tracker.start()

    def end() -> dict[str, Any]:
        kilograms = tracker.stop()
        told = tracker.final_emissions_data
        return {
            "joules": told.energy_consumed * 3.6e6,
            "cpu_joules": told.cpu_energy * 3.6e6,
            "gpu": told.gpu_power,
            "grams_per_kwh": kilograms * 1000 / told.energy_consumed if told.energy_consumed else None,
            "place": f"{told.region or ''} {told.country_name}".strip(),
        }

    return end


def _zeus(folder: Path) -> End:
    from zeus.monitor import ZeusMonitor

    monitor = ZeusMonitor(gpu_indices=[], log_file=str(folder / "zeus.csv"))
    monitor.begin_window("bench")

    def end() -> dict[str, Any]:
        told = monitor.end_window("bench")
        joules = sum(told.cpu_energy.values()) if told.cpu_energy else None
        return {"joules": joules, "cpu_joules": joules, "gpu": told.gpu_energy, "grams_per_kwh": None, "place": "none"}

    return end


def _eco2ai(folder: Path) -> End:
    import eco2ai

    file = folder / "eco2ai.csv"
    tracker = eco2ai.Tracker(
        project_name="bench", file_name=str(file), measure_period=1, ignore_warnings=True, alpha_2_code="DE"
    )
    tracker.start()

    def end() -> dict[str, Any]:
        tracker.stop()
        row = list(csv.DictReader(file.open()))[-1]
        kwh = float(row["power_consumption(kWh)"])
        grams = float(row["CO2_emissions(kg)"]) * 1000
        return {
            "joules": kwh * 3.6e6,
            "cpu_joules": None,
            "gpu": row.get("GPU_name"),
            "grams_per_kwh": grams / kwh if kwh else None,
            "place": f"{row.get('region/country')} (was told)",
        }

    return end


def _carbontracker(folder: Path) -> End:
    from carbontracker.tracker import CarbonTracker

    tracker = CarbonTracker(epochs=1, update_interval=1, components="cpu", log_dir=str(folder), verbose=0)
    tracker.epoch_start()

    def end() -> dict[str, Any]:
        tracker.epoch_end()
        tracker.stop()
        text = "".join(file.read_text() for file in folder.glob("*output.log"))
        kwh, grams = (float(found) for found in re.findall(r"([0-9.]+) (?:kWh|g)\n", text)[:2])
        joules = kwh * 3.6e6
        return {
            "joules": joules,
            "cpu_joules": joules,
            "gpu": "left out",
            "grams_per_kwh": grams / kwh if kwh else None,
            "place": "world average",
        }

    return end


class Training:
    """A small network trained on random numbers, one step at a time: a loop that keeps one CPU busy and holds the GIL often."""

    def __init__(self) -> None:
        import numpy as np

        self._np = np
        numbers = np.random.default_rng(0)
        self._x = numbers.standard_normal((BATCH, INPUTS)).astype("f4")
        self._y = numbers.standard_normal((BATCH, CLASSES)).astype("f4")
        self._in = numbers.standard_normal((INPUTS, HIDDEN)).astype("f4") * 0.05
        self._out = numbers.standard_normal((HIDDEN, CLASSES)).astype("f4") * 0.05

    def steps(self, count: int) -> float:
        """Take so many steps; gives the seconds that they took."""
        began = time.perf_counter()
        for _ in range(count):
            hidden = self._np.maximum(self._x @ self._in, 0)
            wrong = hidden @ self._out - self._y
            back = (wrong @ self._out.T) * (hidden > 0)
            self._out -= 0.001 * (hidden.T @ wrong) / BATCH
            self._in -= 0.001 * (self._x.T @ back) / BATCH
        return time.perf_counter() - began

    def steps_in(self, seconds: float) -> int:
        """How many steps take about so long."""
        self.steps(2_000)
        return max(1, int(seconds / (self.steps(2_000) / 2_000)))


def beginning(tracker: str, folder: Path) -> dict[str, Any]:
    """Seconds from nothing loaded to a tracker that has begun; its end is not waited for."""
    began = time.perf_counter()
    begin(tracker, folder)
    return {"begin_seconds": time.perf_counter() - began}


def slowdown(tracker: str, folder: Path, pairs: int) -> dict[str, Any]:
    """Ratios of the same steps with and without the tracker, in pairs whose order alternates."""
    training = Training()
    count = training.steps_in(CHUNK_SECONDS)
    ratios = []
    for number in range(pairs):
        taken = {}
        for tracked in (number % 2 == 0, number % 2 == 1):
            end = begin(tracker if tracked else "none", folder)
            taken[tracked] = training.steps(count)
            end()
        ratios.append(taken[True] / taken[False])
    return {"ratios": ratios, "median": statistics.median(ratios)}


def idle(tracker: str, folder: Path) -> dict[str, Any]:
    """CPU-seconds an hour that a tracker uses in a program that sleeps."""
    end = begin(tracker, folder)
    time.sleep(3)
    before, began = _cpu_seconds(), time.monotonic()
    time.sleep(IDLE_SECONDS)
    used = (_cpu_seconds() - before) / (time.monotonic() - began) * 3600
    end()
    return {"cpu_seconds_per_hour": used}


def asleep(tracker: str, folder: Path) -> dict[str, Any]:
    """What a program that sleeps is charged; a neighbour is kept busy by whoever asks."""
    began = time.monotonic()
    end = begin(tracker, folder)
    time.sleep(10)
    told = end()
    return told | {"seconds": time.monotonic() - began}


def killed(tracker: str, folder: Path) -> dict[str, Any]:
    """Works until it is killed by whoever asks."""
    training = Training()
    began = time.time()
    end = begin(tracker, folder)
    print(json.dumps({"began": began}), flush=True)
    give_up_at = time.monotonic() + 60
    while time.monotonic() < give_up_at:
        training.steps(100)
    return end()


def _cpu_seconds() -> float:
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)


def main() -> None:
    """Answer one question about one tracker."""
    question, tracker, folder, *rest = sys.argv[1:]
    Path(folder).mkdir(parents=True, exist_ok=True)
    told = sys.stdout
    # Trackers talk; only the answer is for whoever asks.
    with contextlib.redirect_stdout(sys.stderr if question != "killed" else told):
        answers: dict[str, Callable[..., dict[str, Any]]] = {
            "beginning": beginning,
            "slowdown": slowdown,
            "idle": idle,
            "asleep": asleep,
            "killed": killed,
        }
        answer = answers[question](tracker, Path(folder), *[int(text) for text in rest])
    print(json.dumps(answer, default=str), file=told, flush=True)
    # Threads that a tracker has left running would keep the process.
    os._exit(0)


if __name__ == "__main__":
    main()
