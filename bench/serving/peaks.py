"""Peak rates of every server by every wire, and of onnxruntime in process, in rounds whose order turns."""

import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context

import numpy as np
from clients import Clients, Seen
from contestants import Absent, Contestant
from subjects import Model, session
from telling import left_out, progress

ALONE = "in-process"
WARM_SECONDS = 1

Row = tuple[str, str, str]
"""A server, a model and a wire."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """How often everything is measured, and for how many whole seconds each time."""

    count: int
    seconds: int


def peaks(
    contestants: Sequence[Contestant], models: Sequence[Model], clients: Clients, rounds: Rounds
) -> dict[Row, Seen]:
    """The medians of all rounds by row; a row that failed once is told and left out."""
    seen: dict[Row, list[Seen]] = {}
    failed: set[Row] = set()
    turns: list[Contestant | Model] = [*contestants, *models]
    for number in range(rounds.count):
        shift = number * len(turns) // rounds.count
        for turn in turns[shift:] + turns[:shift]:
            found = _alone(turn, rounds) if isinstance(turn, Model) else _served(turn, clients, rounds, failed)
            for row, one in found.items():
                seen.setdefault(row, []).append(one)
                progress(f"round {number + 1} of {rounds.count}: {' '.join(row)} {one.per_second:,.0f}/s")
    return {row: _median(each) for row, each in seen.items() if row not in failed}


def _served(contestant: Contestant, clients: Clients, rounds: Rounds, failed: set[Row]) -> dict[Row, Seen]:
    found = {}
    try:
        contestant.go_on()
        for wire, door in contestant.doors.items():
            row = (contestant.name, contestant.model.name, wire)
            if row in failed:
                continue
            try:
                clients.peak(door, WARM_SECONDS)
                before = contestant.cpu_seconds()
                seen = clients.peak(door, rounds.seconds)
                micros = (contestant.cpu_seconds() - before) * 1e6 / (seen.per_second * rounds.seconds)
                found[row] = replace(seen, cpu_microseconds=micros)
            except (ValueError, ZeroDivisionError) as error:
                failed.add(row)
                left_out(contestant.name, f"{contestant.model.name} by {wire}: {error}")
    except Absent as error:
        left_out(contestant.name, f"{contestant.model.name}: {error}")
        failed |= {(contestant.name, contestant.model.name, wire) for wire in contestant.doors}
    finally:
        contestant.stand_still()
    return found


def _alone(model: Model, rounds: Rounds) -> dict[Row, Seen]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        seen = process.submit(_runs, model, rounds.seconds).result()
    return {(ALONE, model.name, "run"): seen}


def _runs(model: Model, seconds: int) -> Seen:
    """Runs a second of single rows on one thread, with the rows in memory as onnxruntime wants them."""
    alone, rows = session(model.path), [np.ascontiguousarray(row[np.newaxis]) for row in model.rows]
    took: list[float] = []
    used, began = time.process_time(), time.perf_counter()
    last = began
    while last - began < seconds:
        for row in rows:
            alone.run(["probabilities"], {"X": row})
            now = time.perf_counter()
            took.append(now - last)
            last = now
    cpu_microseconds = (time.process_time() - used) * 1e6 / len(took)
    took.sort()
    p50, p99 = (took[int(len(took) * part)] * 1e3 for part in (0.5, 0.99))
    return Seen(len(took) / (last - began), p50, p99, 0, cpu_microseconds)


def _median(each: Sequence[Seen]) -> Seen:
    return Seen(
        statistics.median(one.per_second for one in each),
        statistics.median(one.latency_ms_p50 for one in each),
        statistics.median(one.latency_ms_p99 for one in each),
        sum(one.failed for one in each),
        statistics.median(one.cpu_microseconds for one in each),
    )
