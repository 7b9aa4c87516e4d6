"""Trackers beside each other: what they cost a training loop, what survives a kill, whom they charge, what they guess.

`make bench-accounting`. Peers are CodeCarbon, Zeus, eco2AI and CarbonTracker, each in an environment of its own. Everything is
asked of every tracker in the same run, in turn; medians of alternated rounds are told. `make bench-accounting ARGS=--gpu` asks
what needs a GPU, and nothing else. ERGONAUT_BENCH_PAIRS sets how many pairs of 2 s chunks the slowdown rests on (default 60).
"""

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from environments import IMPORTS, Environment, environments
from left_behind import covered_seconds

SUBJECT = Path(__file__).with_name("subject.py")
PAIRS = int(os.environ.get("ERGONAUT_BENCH_PAIRS", "60"))
IMPORT_ROUNDS = 9
BEGIN_ROUNDS = 5
KILL_AFTER_SECONDS = 8.0
# The longest question is that for the slowdown, some minutes; a tracker that hangs must not cost the others' answers.
ANSWER_SECONDS_MAX = 300.0 + PAIRS * 10.0
ASLEEP_SHARE_MAX = 0.05
# Of 2,000 drawings anew, the middle 95 % tell how far the median of the pairs may be off.
DRAWINGS = 2_000


def ask(environment: Environment, question: str, *more: object) -> dict[str, Any]:
    """One question to one tracker, in a process and a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(environment.python), str(SUBJECT), question, environment.name, folder, *map(str, more)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env=_clean(), timeout=ANSWER_SECONDS_MAX
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"no answer within {ANSWER_SECONDS_MAX:g} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no reason was told"])[-1]}
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def imports(trackers: Sequence[Environment]) -> dict[str, float]:
    """Median seconds that loading each tracker adds to its own bare interpreter."""
    rounds: dict[tuple[str, str], list[float]] = {}
    for _ in range(IMPORT_ROUNDS):
        for tracker in trackers:
            for what, statement in (("bare", "pass"), ("loaded", IMPORTS[tracker.name])):
                began = time.perf_counter()
                subprocess.run([str(tracker.python), "-c", statement], check=True, capture_output=True, env=_clean())
                rounds.setdefault((tracker.name, what), []).append(time.perf_counter() - began)
    medians = {key: statistics.median(times) for key, times in rounds.items()}
    return {tracker.name: medians[tracker.name, "loaded"] - medians[tracker.name, "bare"] for tracker in trackers}


def beginnings(trackers: Sequence[Environment]) -> dict[str, float]:
    """Median seconds that each tracker takes to be loaded and begun."""
    rounds: dict[str, list[float]] = {}
    for _ in range(BEGIN_ROUNDS):
        for tracker in trackers:
            answer = ask(tracker, "beginning")
            rounds.setdefault(tracker.name, []).append(answer.get("begin_seconds", float("inf")))
    return {name: statistics.median(seconds) for name, seconds in rounds.items()}


def slowdowns(trackers: Sequence[Environment]) -> dict[str, tuple[float, float, float]]:
    """The median slowdown of each tracker as a fraction, and the range in which it lies with 95 % confidence."""
    ratios: dict[str, list[float]] = {tracker.name: [] for tracker in trackers}
    for _ in range(4):
        for tracker in trackers:
            ratios[tracker.name] += ask(tracker, "slowdown", PAIRS // 4).get("ratios", [])
    return {name: _median_with_range(values) for name, values in ratios.items() if values}


def _median_with_range(ratios: Sequence[float]) -> tuple[float, float, float]:
    numbers = random.Random(0)  # noqa: S311 - the same drawings each time
    medians = sorted(statistics.median(numbers.choices(ratios, k=len(ratios))) for _ in range(DRAWINGS))
    return statistics.median(ratios) - 1, medians[DRAWINGS // 40] - 1, medians[-DRAWINGS // 40] - 1


def kept_after(tracker: Environment, number: signal.Signals) -> float:
    """The part of its tracked time that a program's results cover after it was killed by a signal."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(tracker.python), str(SUBJECT), "killed", tracker.name, folder]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=_clean()
        ) as child:
            assert child.stdout is not None
            lines = (line for line in child.stdout if line.startswith('{"began"'))
            if next(lines, None) is None:
                print(f"  {tracker.name} could not be begun, so that nothing of it is on record", flush=True)
                return 0.0
            began = time.monotonic()
            time.sleep(KILL_AFTER_SECONDS)
            child.send_signal(number)
            worked = time.monotonic() - began
        return min(1.0, covered_seconds(tracker, Path(folder)) / worked)


def asleep_beside_neighbour(tracker: Environment) -> dict[str, Any]:
    """What a sleeping program is charged while another keeps one CPU busy."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as neighbour:
        try:
            return ask(tracker, "asleep")
        finally:
            neighbour.kill()


def _clean() -> dict[str, str]:
    """The environment without anything that a tracker could be told by, nor what makes every import compile anew."""
    told = ("ERGONAUT_", "CODECARBON_", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if not name.startswith(told)}


def bar(name: str, value: float, bound: float, *, least: bool = False) -> None:
    """One line a bar: what was promised and what was seen."""
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
    trackers = [one for one in every if not one.because]
    for left_out in (one for one in every if one.because):
        print(f"{left_out.name} is left out: {left_out.because}")
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
    _bars_of_start(loading, beginning)
    _bars(slower, idling, sleeping["ergonaut"], kept["ergonaut"])


def _bars_of_start(loading: dict[str, float], beginning: dict[str, float]) -> None:
    bar("import_seconds", loading["ergonaut"], 0.1)
    if "codecarbon" in loading:
        bar("import_times_below_codecarbon", loading["codecarbon"] / loading["ergonaut"], 4, least=True)
        bar("begin_times_below_codecarbon", beginning["codecarbon"] / beginning["ergonaut"], 4, least=True)


def _bars(
    slower: dict[str, tuple[float, float, float]],
    idling: dict[str, dict[str, Any]],
    sleeping: dict[str, Any],
    kept: dict[str, float],
) -> None:
    bar("slowdown_fraction", slower["ergonaut"][0], 0.005)
    if "codecarbon" in slower:
        bar("slowdown_over_codecarbon", slower["ergonaut"][0] - slower["codecarbon"][0], 0)
        if "failed" not in idling["codecarbon"]:
            bar("tracker_cpu_over_codecarbon", _hourly(idling, "ergonaut") / _hourly(idling, "codecarbon"), 1)
    everything = sleeping["cpu_joules"] + sleeping["others_joules"]
    bar("sleeping_share_of_dynamic_energy", sleeping["cpu_joules"] / everything, ASLEEP_SHARE_MAX)
    bar("unknown_place_grams_per_kwh", sleeping["grams_per_kwh"], 475, least=True)
    bar("kept_after_sigkill_seconds_lost", (1 - kept["SIGKILL"]) * KILL_AFTER_SECONDS, 1.0)
    bar("kept_after_sigterm_seconds_lost", (1 - kept["SIGTERM"]) * KILL_AFTER_SECONDS, 0.1)


def _hourly(idling: dict[str, dict[str, Any]], name: str) -> float:
    return float(idling[name]["cpu_seconds_per_hour"])


if __name__ == "__main__":
    main()
