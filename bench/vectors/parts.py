"""What else is compared, part by part: threads, build, single queries, inverted lists. Called by `run.py`."""

import zlib
from collections.abc import Mapping, Sequence
from statistics import mean, median
from typing import NamedTuple

import numpy as np
from ceiling import Ceiling
from contestants import Contestant, Worker, built, faiss, graph_peers, list_peers, our_graphs, our_lists, ours
from curves import RECALL, Curve, Wish, at_recall, effort_at, measured, ratio, told_table
from environments import CACHE
from sets import Set
from telling import bar, left_out, tell

THREADS = 2
THREADS_GAIN_MIN = 1.8
THREADS_ROUNDS_TIMES = 3
"""Rounds by the clock are short and go astray more than CPU time does, so there are more of them."""

BUILD_TIMES_HNSWLIB_MAX = 1.5
BUILDS_MIN = 3
EFFORT_BUILT = 40
SAME_RECALL = 0.002
"""Graphs are as good as others where their recall at the same effort is lower by no more, on average: chance makes as much."""

CANDIDATES_MORE = (150, 200, 300)
"""Candidates of graphs that are tried where as many as hnswlib looks at do not make one as good."""

LISTS_SECONDS_PER_100K_MAX = 5.0
TOLD_LISTS = (8, 16, 32, 64, 128)
SINGLE_RECALL = 0.97
SINGLE_US_P50_MAX = 100.0
NARROW = 128
"""The bar of single queries is about vectors of this dimension."""

HNSWLIB = Contestant("hnswlib", "hnswlib")


def threads_part(of: Set, wish: Wish) -> None:
    """What two threads do beyond one, by the clock, in rounds in which all take turns; and what the machine gives two at most.

    What CPU time alone would allow is told too: it does not know of other programs that had the second processor meanwhile.
    """
    contestants, ceiling = [HNSWLIB, faiss("hnsw", "HNSW16"), *our_graphs(of)], Ceiling()
    gains: dict[str, list[float]] = {}
    by_cpu: dict[str, list[float]] = {}
    with built(wish.wanted(contestants), of) as workers:
        efforts = _efforts_at(measured(workers, 1), RECALL)
        for _ in range(THREADS_ROUNDS_TIMES * wish.rounds):
            for each in workers:
                if each.name in efforts:
                    one, two = (each.ask("by_clock", effort=efforts[each.name], threads=many) for many in (1, THREADS))
                    gains.setdefault(each.name, []).append(two["per_second"] / one["per_second"])
                    spent = one["cpu_seconds_each"] / two["cpu_seconds_each"]
                    by_cpu.setdefault(each.name, []).append(THREADS * spent)
            for name, gain in ceiling.gains(THREADS).items():
                gains.setdefault(name, []).append(gain)
    for name, seen in gains.items():
        low, middle, high = np.quantile(seen, [0.25, 0.5, 0.75])
        words = f"; by CPU time {median(by_cpu[name]):.2f}" if name in by_cpu else ""
        tell(f"  {name}: {THREADS} threads do {middle:.2f} times what one does ({low:.2f} to {high:.2f}){words}")
    for name in efforts:
        if name.startswith("ours"):
            bar(f"{of.name}_{name}_two_threads_times_one", median(gains[name]), THREADS_GAIN_MIN)


def _efforts_at(curves: Mapping[str, Curve], recall: float) -> dict[str, float]:
    """The least effort of each that reaches a recall; those that do not are told and left out."""
    found = {}
    for name, curve in curves.items():
        effort = effort_at(curve, recall)
        if effort is None:
            left_out(name, f"it does not reach {recall}")
        else:
            found[name] = effort
    return found


def build_part(of: Set, wish: Wish) -> None:
    """CPU time of building a graph as good as hnswlib's, which finds as many for the same effort; and what two threads take.

    Ours looks at as many candidates as hnswlib. Where that makes a worse graph it looks at more, until it is as good.
    """
    told = _graphs([HNSWLIB, faiss("hnsw", "HNSW16"), ours("graph", "hnsw")], of, wish)
    peer, mine = told.get("hnswlib"), told.get("ours-graph")
    if peer is None or mine is None:
        return
    for candidates in CANDIDATES_MORE:
        if mine.recall >= peer.recall - SAME_RECALL:
            break
        more = ours(f"graph-{candidates}", "hnsw", candidates_build=candidates)
        mine = _graphs([more], of, wish).get(more.name, mine)
    unless = "" if mine.recall >= peer.recall - SAME_RECALL else "its recall for the same effort is lower"
    value = mine.cpu_seconds / peer.cpu_seconds
    bar(f"{of.name}_build_cpu_times_hnswlib", value, BUILD_TIMES_HNSWLIB_MAX, least=False, unless=unless)


class Graphs(NamedTuple):
    """Graphs of one engine over a set."""

    cpu_seconds: float
    """To build one, the median."""
    recall: float
    """For one effort, on average."""


def _graphs(contestants: Sequence[Contestant], of: Set, wish: Wish) -> dict[str, Graphs]:
    """Build, and tell of it. Chance decides much about a single graph's recall, so several are built, each of its own seed."""
    with built(wish.wanted(contestants), of) as workers:
        seconds = {each.name: [each.built["cpu_seconds"]] for each in workers}
        recalls = {each.name: [_recall_built(each)] for each in workers}
        for seed in range(2, max(BUILDS_MIN, wish.rounds) + 1):
            for each in workers:
                seconds[each.name].append(each.build(seed=seed)["cpu_seconds"])
                recalls[each.name].append(_recall_built(each))
        both = {each.name: each.build(threads=THREADS) for each in workers}
    for name, took in seconds.items():
        words = f"recall at effort {EFFORT_BUILT} {mean(recalls[name]):.4f} (one graph's {_ends(recalls[name])})"
        two = f"with {THREADS} threads {both[name]['cpu_seconds']:.1f} s of CPU, {both[name]['wall_seconds']:.1f} s by the clock"
        tell(f"  {name}: built in {median(took):.1f} CPU-s; {words}; {two}")
    return {name: Graphs(median(took), mean(recalls[name])) for name, took in seconds.items()}


def _recall_built(each: Worker) -> float:
    return float(each.ask("measure", effort=EFFORT_BUILT)["recall"])


def _ends(values: Sequence[float]) -> str:
    return f"{min(values):.3f} to {max(values):.3f}"


def lists_part(of: Set, wish: Wish) -> None:
    """Inverted lists of ours and of faiss, with as many bytes of codes a row: build, recall, rate, megabytes beside the rows."""
    contestants = [*list_peers(of.dimension), *our_lists(of)]
    # faiss takes minutes to train codes of 8 bits, so its indexes are kept; delete the folder to have them built anew.
    kept = CACHE / "sets" / f"{of.name}-{zlib.crc32((of.folder / 'truth.npy').read_bytes()):08x}" / "built"
    with built(wish.wanted(contestants), of, keep=str(kept)) as workers:
        curves = measured(workers, wish.rounds)
        told_table(of, workers, curves)
        tell(f"  {'engine':<24}{'MB':>9}" + "".join(f"{f'{lists} lists':>12}" for lists in TOLD_LISTS))
        for each in workers:
            size = _beside_rows_bytes(each, of)
            found = {point.effort: point.recall for point in curves[each.name]}
            tell(f"  {each.name:<24}{size / 1e6:>9.1f}" + "".join(f"{found[lists]:>12.3f}" for lists in TOLD_LISTS))
        for each in workers:
            if each.name.startswith("ours-lists"):
                per_100k = each.built["cpu_seconds"] * 100_000 / of.count
                words = f"{of.name}_{each.name}_build_cpu_seconds_per_100k"
                bar(words, per_100k, LISTS_SECONDS_PER_100K_MAX, least=False)
    for name in ("pq8-refine", "pq4-refine"):
        bar(
            f"{of.name}_ivf_{name.replace('-', '_')}_times_faiss",
            ratio(curves, f"ours-ivf-{name}", f"faiss-ivf-{name}"),
            1.0,
        )
    _told_without_refining(curves)


def _beside_rows_bytes(each: Worker, of: Set) -> int:
    """What is kept on disk beside the rows, which ours and what refines keep too."""
    kept = int(each.ask("save", to=str(of.folder / "kept" / each.name))["bytes"])
    holds_rows = each.name.startswith("ours") or each.name.endswith("refine")
    return kept - of.count * each.row_bytes if holds_rows else kept


def _told_without_refining(curves: Mapping[str, Curve]) -> None:
    """Codes alone reach no high recall: they are compared at what both reach."""
    for bits in (8, 4):
        ours_seen, faiss_seen = (curves.get(f"{who}-ivf-pq{bits}", []) for who in ("ours", "faiss"))
        if ours_seen and faiss_seen:
            both = min(max(point.recall for point in seen) for seen in (ours_seen, faiss_seen)) - SAME_RECALL
            rates = [at_recall(seen, both) or 0.0 for seen in (ours_seen, faiss_seen)]
            tell(
                f"  {bits}-bit products without refining, at recall {both:.3f}: {rates[0] / rates[1]:.2f} times faiss's rate"
            )


def single_part(of: Set, wish: Wish) -> None:
    """One query a call, in process."""
    contestants = [*graph_peers(), *our_graphs(of)]
    best: list[float] = []
    with built(wish.wanted(contestants), of) as workers:
        efforts = _efforts_at(measured(workers, 1), SINGLE_RECALL)
        for each in workers:
            if each.name not in efforts:
                continue
            seen = [each.ask("one_by_one", effort=efforts[each.name]) for _ in range(wish.rounds)]
            p50, p99 = (median(answer[f"p{part}_us"] for answer in seen) for part in (50, 99))
            tell(f"  {each.name}: p50 {p50:.0f} us, p99 {p99:.0f} us at recall {seen[0]['recall']:.3f}")
            if each.name.startswith("ours"):
                best.append(p50)
    if of.dimension == NARROW:
        bar(f"{of.name}_single_query_us_p50", min(best, default=None), SINGLE_US_P50_MAX, least=False)
