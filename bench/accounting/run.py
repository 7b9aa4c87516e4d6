"""Trackers beside each other: what they cost a training loop, what survives a kill, whom they charge, what they guess.

`make bench-accounting`. Peers are CodeCarbon, Zeus, eco2AI and CarbonTracker, each in an environment of its own. Everything is
asked of every tracker in the same run, in turn; medians of alternated rounds are told. What a tracker fails at is told and left
out; where it is ours, the exit code is 1. `make bench-accounting ARGS=--gpu` asks what needs a GPU, and nothing else.
ERGONAUT_BENCH_PAIRS sets how many pairs of 2 s chunks the slowdown rests on (default 60).
"""

import argparse
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asking import PATIENCE_SECONDS, SUBJECT, ask, clean, failed, failures, last_line
from environments import IMPORTS, Environment, environments
from left_behind import covered_seconds

OURS = "ergonaut"
PAIRS = int(os.environ.get("ERGONAUT_BENCH_PAIRS", "60"))
IMPORT_ROUNDS = 9
BEGIN_ROUNDS = 5
KILL_AFTER_SECONDS = 8.0
ASLEEP_SHARE_MAX = 0.05
# Of 2,000 drawings anew, the middle 95 % tell how far the median of the pairs may be off.
DRAWINGS = 2_000


def imports(trackers: Sequence[Environment]) -> dict[str, float]:
    """Median seconds that loading each tracker adds to its own bare interpreter."""
    rounds: dict[str, list[tuple[float, float]]] = {tracker.name: [] for tracker in trackers}
    left = list(trackers)
    for _ in range(IMPORT_ROUNDS):
        for tracker in tuple(left):
            try:
                rounds[tracker.name].append((_runs(tracker, "pass"), _runs(tracker, IMPORTS[tracker.name])))
            except subprocess.CalledProcessError as error:
                left.remove(tracker)
                failed(tracker, "import", last_line(error.stderr))
            except subprocess.TimeoutExpired:
                left.remove(tracker)
                failed(tracker, "import", f"not loaded within {PATIENCE_SECONDS:g} s")
    return {
        tracker.name: statistics.median(loaded for _, loaded in rounds[tracker.name])
        - statistics.median(bare for bare, _ in rounds[tracker.name])
        for tracker in left
    }


def _runs(tracker: Environment, statement: str) -> float:
    began = time.perf_counter()
    command = [str(tracker.python), "-c", statement]
    subprocess.run(command, check=True, capture_output=True, text=True, env=clean(), timeout=PATIENCE_SECONDS)
    return time.perf_counter() - began


def beginnings(trackers: Sequence[Environment]) -> dict[str, float]:
    """Median seconds that each tracker takes to be loaded and begun; one that failed once is not asked again."""
    rounds: dict[str, list[float]] = {tracker.name: [] for tracker in trackers}
    left = list(trackers)
    for _ in range(BEGIN_ROUNDS):
        for tracker in tuple(left):
            answer = ask(tracker, "beginning")
            if "failed" in answer:
                left.remove(tracker)
            else:
                rounds[tracker.name].append(answer["begin_seconds"])
    return {tracker.name: statistics.median(rounds[tracker.name]) for tracker in left}


def slowdowns(trackers: Sequence[Environment]) -> dict[str, tuple[float, float, float]]:
    """The median slowdown of each tracker as a fraction, and the range in which it lies with 95 % confidence."""
    ratios: dict[str, list[float]] = {tracker.name: [] for tracker in trackers}
    left = list(trackers)
    for _ in range(4):
        for tracker in tuple(left):
            answer = ask(tracker, "slowdown", max(1, PAIRS // 4))
            if "failed" in answer:
                left.remove(tracker)
            else:
                ratios[tracker.name] += answer["ratios"]
    return {tracker.name: _median_with_range(ratios[tracker.name]) for tracker in left}


def _median_with_range(ratios: Sequence[float]) -> tuple[float, float, float]:
    numbers = random.Random(0)  # noqa: S311 - the same drawings each time
    medians = sorted(statistics.median(numbers.choices(ratios, k=len(ratios))) for _ in range(DRAWINGS))
    return statistics.median(ratios) - 1, medians[DRAWINGS // 40] - 1, medians[-DRAWINGS // 40] - 1


def kept_after(tracker: Environment, number: signal.Signals) -> float:
    """The part of its tracked time that a program's results cover after it was killed by a signal; 0 where it failed."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as text:
        folder = Path(text) / "kept"
        try:
            worked_seconds = _killed(tracker, number, folder)
            return min(1.0, covered_seconds(tracker, folder) / worked_seconds)
        except subprocess.CalledProcessError as error:
            failed(tracker, f"killed by {number.name}", last_line(error.stderr or ""))
        except (OSError, ValueError, LookupError, subprocess.TimeoutExpired) as error:
            failed(tracker, f"killed by {number.name}", f"{type(error).__name__}: {error}")
    return 0.0


def _killed(tracker: Environment, number: signal.Signals, folder: Path) -> float:
    """Seconds that a tracked program had worked when it was sent the signal. Raises where it did not begin, or go on."""
    command = [str(tracker.python), str(SUBJECT), "killed", tracker.name, str(folder)]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=clean()) as child,
    ):
        assert child.stdout is not None
        # Once it is killed, a read of what it says ends.
        patience = threading.Timer(PATIENCE_SECONDS, child.kill)
        patience.start()
        try:
            lines = (line for line in child.stdout if line.startswith('{"began"'))
            began = time.monotonic() if next(lines, None) else None
            patience.cancel()
            if began is not None:
                time.sleep(KILL_AFTER_SECONDS)
            if began is None or child.poll() is not None:
                code = child.wait(PATIENCE_SECONDS)
                errors.seek(0)
                because = errors.read() or f"it ended with exit code {code}, or had not begun in {PATIENCE_SECONDS:g} s"
                raise subprocess.CalledProcessError(code, command, stderr=because)
            child.send_signal(number)
            worked_seconds = time.monotonic() - began
            child.wait(PATIENCE_SECONDS)
        finally:
            patience.cancel()
            child.kill()
    return worked_seconds


def asleep_beside_neighbour(tracker: Environment) -> dict[str, Any]:
    """What a sleeping program is charged while another keeps one CPU busy."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as neighbour:
        try:
            return ask(tracker, "asleep")
        finally:
            neighbour.kill()


def bar(name: str, value: float | None, bound: float, *, least: bool = False) -> None:
    """One line a bar: what was promised and what was seen; or that it is left out."""
    if value is None:
        print(f"{name} is left out: an answer that it rests on is missing above", flush=True)
        return
    kept = value >= bound if least else value <= bound
    print(f"BAR {name} {value:.4f} {bound:g} {'ok' if kept else 'short'}", flush=True)


def told(tracker: str, answer: dict[str, Any]) -> None:
    """One tracker's answer on one line."""
    figures = ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in answer.items()
    )
    print(f"  {tracker:14} {figures}", flush=True)


def main() -> None:
    """Ask everything, and tell the bars at the end."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--gpu", action="store_true", help="ask what needs a GPU, and nothing else")
    uv = shutil.which("uv") or str(Path(__file__).resolve().parents[2] / ".tools" / "bin" / "uv")
    if options.parse_args().gpu:
        from on_gpu import main as on_gpu

        on_gpu(bar, uv)
        return
    every = environments(uv)
    for left_out in (one for one in every if one.because):
        failed(left_out, "installation", left_out.because)
    compare([one for one in every if not one.because])
    ours = [line for name, line in failures if name == OURS]
    if ours:
        sys.exit("\n".join(ours))


def compare(trackers: Sequence[Environment]) -> None:
    """Every question to every tracker that there is, then the bars."""
    print("imports, seconds over a bare interpreter")
    loading = imports(trackers)
    told("", loading)
    print("seconds until tracking has begun, loading included")
    beginning = beginnings(trackers)
    told("", beginning)
    print("slowdown of a CPU-bound training loop, sampled every second: median and its 95 % range")
    slower = slowdowns(trackers)
    for name, (median, low, high) in slower.items():
        print(f"  {name:14} {median:+.4%}  ({low:+.4%} to {high:+.4%})", flush=True)
    print("CPU-seconds an hour of the tracker itself, in a program that sleeps")
    idling = {one.name: ask(one, "idle") for one in trackers}
    print("a program that sleeps for 10 s beside a busy neighbour; nothing is told of the place")
    sleeping = {one.name: asleep_beside_neighbour(one) for one in trackers}
    for answers in (idling, sleeping):
        for name, answer in answers.items():
            told(name, answer)
    print("part of 8 s of tracked work that is on record after a kill")
    kept = {
        one.name: {number.name: kept_after(one, number) for number in (signal.SIGKILL, signal.SIGTERM)}
        for one in trackers
    }
    for name, answer in kept.items():
        told(name, answer)
    _bars_of_cost(
        loading, beginning, slower, {name: answer.get("cpu_seconds_per_hour") for name, answer in idling.items()}
    )
    _bars_of_answers(sleeping.get(OURS, {}), kept.get(OURS, {}))


def _bars_of_cost(
    loading: dict[str, float],
    beginning: dict[str, float],
    slower: dict[str, tuple[float, float, float]],
    hourly: dict[str, float | None],
) -> None:
    ours, theirs = (slower.get(name, (None,))[0] for name in (OURS, "codecarbon"))
    bar("import_seconds", loading.get(OURS), 0.1)
    bar("import_times_below_codecarbon", _ratio(loading.get("codecarbon"), loading.get(OURS)), 4, least=True)
    bar("begin_times_below_codecarbon", _ratio(beginning.get("codecarbon"), beginning.get(OURS)), 4, least=True)
    bar("slowdown_fraction", ours, 0.005)
    bar("slowdown_over_codecarbon", None if ours is None or theirs is None else ours - theirs, 0)
    bar("tracker_cpu_over_codecarbon", _ratio(hourly.get(OURS), hourly.get("codecarbon")), 1)


def _bars_of_answers(sleeping: dict[str, Any], kept: dict[str, float]) -> None:
    mine, others = sleeping.get("cpu_joules"), sleeping.get("others_joules")
    everything = None if mine is None or others is None else mine + others
    bar("sleeping_share_of_dynamic_energy", _ratio(mine, everything), ASLEEP_SHARE_MAX)
    bar("unknown_place_grams_per_kwh", sleeping.get("grams_per_kwh"), 475, least=True)
    for name, lost_seconds_max in (("SIGKILL", 1.0), ("SIGTERM", 0.1)):
        lost_seconds = (1 - kept[name]) * KILL_AFTER_SECONDS if name in kept else None
        bar(f"kept_after_{name.lower()}_seconds_lost", lost_seconds, lost_seconds_max)


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


if __name__ == "__main__":
    main()
