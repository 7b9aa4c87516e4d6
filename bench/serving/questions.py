"""What is asked of the gateway alone: its latency at half of its peak, its manners at twice that, its start, its lone caller."""

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from calls import OK
from clients import CALLERS, Seen
from contestants import Absent, Contestant
from load import Load, Outcome, driven
from ours import OURS, Gateway
from peaks import Rounds, Row
from telling import left_out

BATCHING_OFF = {"ERGONAUT_GATEWAY_BATCH_ROWS_MAX": "1"}
SETTLING_SECONDS = 2
# More than the gateway lets wait, fewer than the connections that it takes, so that requests are refused and not connections.
CROWD = 768
LATENCY_MS_MAX, MEMORY_MB_MAX, READY_SECONDS_MAX, LONE_SLOWDOWN_MAX = 5, 100, 1, 1.05
PAIRS = 3
"""Lone callers are compared in so many pairs for each round."""

Bar = tuple[str, float | None, float]
"""A bar's name, what was seen, and the most that it may be."""


def asked(
    parts: Sequence[str], rounds: Rounds, rates: Mapping[Row, Seen], found: Sequence[Contestant], folder: Path
) -> list[Bar]:
    """Every question among `parts`; one that cannot be asked has no figure."""
    gateways = {one.model.name: one for one in found if isinstance(one, Gateway)}
    bars: list[Bar] = []
    digits = gateways.get("digits")
    if "half" in parts:
        bars.append(("http_json_mlp_latency_ms_p99_at_half_of_peak", _half(digits, rates, rounds), LATENCY_MS_MAX))
    if "same" in parts:
        bars += [
            (f"{_short(model)}_answers_changed_by_batching", _changed(one, rounds), 0)
            for model, one in gateways.items()
        ]
    if "twice" in parts:
        for model, wire in (("digits", "json"), ("cnn", "binary")):
            name = f"{_short(model)}_{wire}_unclean_answers_at_twice_peak"
            bars.append((name, _twice(gateways.get(model), wire, rates, rounds), 0))
    if "lone" in parts:
        bars.append(("lone_caller_slowdown_by_batching", _lone(digits, rounds, folder), LONE_SLOWDOWN_MAX))
    return bars


def _short(model: str) -> str:
    return "mlp" if model == "digits" else model


@contextmanager
def _at_work(gateway: Gateway) -> Iterator[None]:
    gateway.go_on()
    try:
        yield
    finally:
        gateway.stand_still()


def _peak(gateway: Gateway | None, wire: str, rates: Mapping[Row, Seen]) -> float | None:
    seen = rates.get((OURS, gateway.model.name, wire)) if gateway else None
    return seen.per_second if seen else None


def _half(gateway: Gateway | None, rates: Mapping[Row, Seen], rounds: Rounds) -> float | None:
    """The p99 in milliseconds where requests come at half of the peak rate, whatever the answers do."""
    peak = _peak(gateway, "json", rates)
    if gateway is None or peak is None:
        return None
    load = Load(gateway.doors["json"], CALLERS, rounds.seconds, peak / 2)
    with _at_work(gateway):
        outcomes = [driven(load) for _ in range(rounds.count)]
    latency = statistics.median(outcome.latency_ms(0.99) for outcome in outcomes)
    middle = statistics.median(outcome.latency_ms(0.5) for outcome in outcomes)
    sent = statistics.median(outcome.asked_per_second for outcome in outcomes)
    print(
        f"at half of the peak, {peak / 2:,.0f}/s ({sent:,.0f}/s sent): p50 {middle:.2f} ms, p99 {latency:.2f} ms",
        flush=True,
    )
    _told(outcomes)
    return latency


def _changed(gateway: Gateway, rounds: Rounds) -> float:
    """How many answers to callers who ask at the same time are not what the engine says of their row alone."""
    with _at_work(gateway):
        outcome = driven(Load(gateway.doors["json"], CALLERS, rounds.seconds, look=True))
    right = outcome.answers.get(OK, 0)
    print(f"{gateway.model.name}: {outcome.wrong} of {right:,} answers differ from the engine's own", flush=True)
    _told([outcome])
    return outcome.wrong


def _twice(gateway: Gateway | None, wire: str, rates: Mapping[Row, Seen], rounds: Rounds) -> float | None:
    """How many answers at twice the peak are neither right nor a refusal that says when to come again."""
    peak = _peak(gateway, wire, rates)
    if gateway is None or peak is None:
        return None
    with _at_work(gateway):
        outcomes = [
            driven(Load(gateway.doors[wire], CROWD, rounds.seconds, peak * 2, look=True)) for _ in range(rounds.count)
        ]
    sent = statistics.median(outcome.asked_per_second for outcome in outcomes)
    counts: dict[int, int] = {}
    for outcome in outcomes:
        for status, count in outcome.answers.items():
            counts[status] = counts.get(status, 0) + count
    unclean = sum(outcome.unclean + outcome.wrong for outcome in outcomes)
    statuses = ", ".join(f"{count:,} of {status or 'nothing'}" for status, count in sorted(counts.items()))
    print(
        f"{gateway.model.name} by {wire} at twice the peak, {peak * 2:,.0f}/s from {CROWD} callers ({sent:,.0f}/s sent): "
        f"{statuses}; {unclean} unclean or wrong",
        flush=True,
    )
    _told(outcomes)
    return unclean


def _told(outcomes: Sequence[Outcome]) -> None:
    for sentence in [sentence for outcome in outcomes for sentence in outcome.told][:3]:
        print(f"  {sentence}", flush=True)


def starts(found: Sequence[Contestant], rounds: Rounds) -> list[Bar]:
    """Every server with nothing else running, since memory that servers have in common is divided among them.

    Tells seconds from the command to the first right answer, and memory once it has settled; ours is started several times.
    """
    print("seconds from the command to the first right answer, and memory when idle", flush=True)
    seconds: list[float] = []
    memory_mb: list[float] = []
    for one in found:
        try:
            one.start()
            for _ in range(rounds.count if isinstance(one, Gateway) else 1):
                ready_seconds = one.again() if isinstance(one, Gateway) else one.ready_seconds
                time.sleep(SETTLING_SECONDS)
                idle_mb = one.idle_bytes() / 1e6
                print(f"  {one.name:11}{ready_seconds:7.2f} s{idle_mb:7.0f} MB", flush=True)
                if isinstance(one, Gateway):
                    seconds.append(ready_seconds)
                    memory_mb.append(idle_mb)
        except Absent as error:
            left_out(one.name, str(error))
        finally:
            one.stop()
    return [
        ("ready_seconds", statistics.median(seconds) if seconds else None, READY_SECONDS_MAX),
        ("idle_memory_mb", statistics.median(memory_mb) if memory_mb else None, MEMORY_MB_MAX),
    ]


def _lone(batching: Gateway | None, rounds: Rounds, folder: Path) -> float | None:
    """By what a lone caller waits longer where batching is on."""
    if batching is None:
        return None
    alone = Gateway(batching.model, folder, f"{OURS}-unbatched", BATCHING_OFF)
    latencies: dict[str, list[float]] = {OURS: [], alone.name: []}
    try:
        alone.start()
        alone.stand_still()
        for number in range(rounds.count * PAIRS):
            for gateway in (batching, alone) if number % 2 else (alone, batching):
                with _at_work(gateway):
                    outcome = driven(Load(gateway.doors["json"], 1, rounds.seconds))
                latencies[gateway.name].append(outcome.latency_ms(0.5))
    except Absent as error:
        left_out(alone.name, str(error))
        return None
    finally:
        alone.stop()
    on, off = (statistics.median(latencies[name]) for name in (OURS, alone.name))
    print(f"a lone caller waits {on:.3f} ms with batching and {off:.3f} ms without", flush=True)
    return on / off
