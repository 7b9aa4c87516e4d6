"""One run of the benchmark from the words of its command to its bars; `run.py` tells what it is about."""

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import questions
from clients import Clients, Seen
from contestants import WIRES, Absent, Contestant, Peer
from environments import environment
from ours import ECHO, OURS, Echo, Gateway
from peaks import ALONE, Rounds, Row, peaks
from subjects import Model
from telling import bar, failures, left_out, progress
from wires import checked

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("peak", "half", "same", "twice", "start", "lone")
IN_FULL, QUICKLY = Rounds(count=5, seconds=3), Rounds(count=2, seconds=1)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the words behind the command ask for."""

    peers: tuple[str, ...] = tuple(WIRES)
    parts: tuple[str, ...] = PARTS
    quick: bool = False
    our_client: bool = False

    @property
    def rounds(self) -> Rounds:
        """How often and how long."""
        return QUICKLY if self.quick else IN_FULL


def made_models(folder: Path) -> dict[str, Model]:
    """As `models` makes them; loaded late, so that this process need not."""
    import models

    return models.made_models(folder)


def wanted(words: Sequence[str]) -> Wanted:
    """Understand the words. Ends the program with one sentence where it does not."""
    peers, parts = tuple(WIRES), PARTS
    for word in words:
        key, _, listed = word.partition("=")
        names = tuple(listed.split(","))
        if key == "only" and set(names) <= {"ours", *WIRES}:
            peers = tuple(name for name in names if name != "ours")
        elif key == "parts" and set(names) <= set(PARTS):
            parts = names
        elif word not in ("quick", "client=ours"):
            known = f"quick, client=ours, only=ours,{','.join(WIRES)} and parts={','.join(PARTS)}"
            sys.exit(f"{word!r} is not understood; known are {known}")
    return Wanted(peers, parts, "quick" in words, "client=ours" in words)


def started(contestants: Sequence[Contestant], stack: ExitStack) -> list[Contestant]:
    """Those that start and answer every row rightly, standing still; of each, the wires by which they do."""
    found = []
    for contestant in contestants:
        stack.callback(contestant.stop)
        progress(f"starting {contestant.name} with {contestant.model.name}")
        try:
            contestant.start()
        except Absent as error:
            left_out(contestant.name, f"{contestant.model.name}: {error}")
            contestant.stop()
            continue
        for wire, door in tuple(contestant.doors.items()):
            if contestant.name != ECHO and (because := checked(door)):
                left_out(contestant.name, f"{contestant.model.name} by {wire}: {because}")
                del contestant.doors[wire]
        contestant.stand_still()
        found.append(contestant)
    return found


def contestants_of(wish: Wanted, models: dict[str, Model], folder: Path) -> list[Contestant]:
    """Ours, the echo, and the peers that can be installed."""
    found: list[Contestant] = [*(Gateway(model, folder) for model in models.values()), Echo(models["digits"], folder)]
    uv = shutil.which("uv") or str(ROOT / ".tools" / "bin" / "uv")
    for name in wish.peers:
        progress(f"environment of {name}")
        made = environment(uv, name)
        if made.because:
            left_out(name, f"not installed: {made.because}")
        else:
            found += [Peer(made, model, folder) for model in models.values()]
    return found


def tell(rates: dict[Row, Seen]) -> None:
    """One line a row, the fastest of each model and wire first."""
    print(
        "requests a second, single rows; latency in ms at that rate; CPU time of the server in microseconds a request"
    )
    for (name, model, wire), seen in sorted(
        rates.items(), key=lambda item: (item[0][1], item[0][2], -item[1].per_second)
    ):
        failed = f", {seen.failed} FAILED" if seen.failed else ""
        latency = f"p50 {seen.latency_ms_p50:.2f}, p99 {seen.latency_ms_p99:.2f}, cpu {seen.cpu_microseconds:,.0f}"
        print(f"  {model:7}{wire:8}{name:11}{seen.per_second:10,.0f}  {latency}{failed}", flush=True)


def bars_of_rates(rates: dict[Row, Seen]) -> None:
    """Ours against the best peer, the echo, and the engine alone."""

    def ours(model: str, wire: str) -> float | None:
        seen = rates.get((OURS, model, wire))
        return seen.per_second if seen else None

    def over_best(model: str, *wires: str) -> float | None:
        rivals = [
            seen.per_second for (name, of, by), seen in rates.items() if name in WIRES and of == model and by in wires
        ]
        return _ratio(ours(model, wires[0]), max(rivals, default=None))

    def over(model: str, wire: str, other: Row) -> float | None:
        seen = rates.get(other)
        return _ratio(ours(model, wire), seen.per_second if seen else None)

    bar("http_json_mlp_times_best_peer", over_best("digits", "json", "plain"), 10, least=True)
    bar("http_json_mlp_part_of_echo", over("digits", "json", (ECHO, "digits", "json")), 0.6, least=True)
    bar("grpc_mlp_times_best_peer", over_best("digits", "grpc"), 1.5, least=True)
    bar("http_binary_cnn_times_best_peer", over_best("cnn", "binary"), 2, least=True)
    bar("http_binary_cnn_part_of_in_process", over("cnn", "binary", (ALONE, "cnn", "run")), 0.85, least=True)


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def main(words: Sequence[str]) -> None:
    """Start everything, ask everything, and tell the bars at the end."""
    wish = wanted(words)
    clients = Clients(ours=wish.our_client)
    load = ", ".join(f"{number:.2f}" for number in os.getloadavg())
    print(f"{clients.told()}; {os.cpu_count()} CPUs, the machine's load before: {load}", flush=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart:
            # Whoever loads an engine here shares its memory with the servers, which would seem smaller.
            models = apart.submit(made_models, folder).result()
        contestants = contestants_of(wish, models, folder)
        answers: list[questions.Bar] = []
        if "start" in wish.parts:
            answers += questions.starts([one for one in contestants if one.model.name == "digits"], wish.rounds)
        rates: dict[Row, Seen] = {}
        if set(wish.parts) - {"start"}:
            everyone = "peak" in wish.parts
            found = started([one for one in contestants if everyone or isinstance(one, Gateway)], stack)
            if {"peak", "half", "twice"} & set(wish.parts):
                rates = peaks(found, list(models.values()) if everyone else [], clients, wish.rounds)
                tell(rates)
            answers += questions.asked(wish.parts, wish.rounds, rates, found, folder)
    print(f"the machine's load after: {os.getloadavg()[0]:.2f}")
    if "peak" in wish.parts:
        bars_of_rates(rates)
    for name, value, bound in answers:
        bar(name, value, bound)
    if failures:
        sys.exit("\n".join(failures))
