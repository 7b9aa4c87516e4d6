"""How many queries a second at which recall: measured in alternated rounds, told as a table, drawn, held to the bars."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
from charts import drawn_curves
from contestants import Contestant, Worker, built, graph_peers, list_peers, our_graphs, our_lists, slow_peers
from environments import CACHE
from sets import Set
from telling import bar, progress, tell

RECALL = 0.95
"""What the bars are about."""

TOLD_RECALLS = (0.90, 0.95, 0.98)
WIDE = 256
"""From so many dimensions on, the bars of wide vectors hold."""

NARROW_TIMES_HNSWLIB, BYTES_TIMES_HNSWLIB = 1.3, 1.9
WIDE_TIMES_HNSWLIB, WIDE_TIMES_FAISS = 2.0, 1.3
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Point:
    """One effort of one engine."""

    effort: float
    recall: float
    per_second: float


Curve = Sequence[Point]


@dataclass(frozen=True, slots=True)
class Wish:
    """How a run was asked for."""

    rounds: int
    pictures: Path
    only: frozenset[str] = frozenset()
    """Names, or beginnings of names, of those that take part; all for none."""

    def wanted(self, contestants: Sequence[Contestant]) -> list[Contestant]:
        """Those that take part."""
        return [each for each in contestants if not self.only or any(each.name.startswith(name) for name in self.only)]


def at_recall(curve: Curve, recall: float) -> float | None:
    """Queries a second at a recall, interpolated on a logarithmic scale; None where the curve does not reach it."""
    best: float | None = None
    for low, high in pairwise(curve):
        if low.recall < recall <= high.recall:
            share = (recall - low.recall) / (high.recall - low.recall)
            rate = float(np.exp((1 - share) * np.log(low.per_second) + share * np.log(high.per_second)))
            best = rate if best is None else max(best, rate)
    if best is None and curve and curve[0].recall >= recall:
        return max(point.per_second for point in curve if point.recall >= recall)
    return best


def effort_at(curve: Curve, recall: float) -> float | None:
    """The least effort that reaches a recall."""
    return next((point.effort for point in curve if point.recall >= recall), None)


def measured(workers: Sequence[Worker], rounds: int, threads: int = 1) -> dict[str, list[Point]]:
    """The curve of each, medians of rounds in which they take turns."""
    seen: dict[tuple[str, float], list[tuple[float, float]]] = {}
    steps = max((len(each.efforts) for each in workers), default=0)
    for turn in range(rounds):
        progress(f"round {turn + 1} of {rounds}")
        for step in range(steps):
            for each in workers:
                if step < len(each.efforts):
                    answer = each.ask("measure", effort=each.efforts[step], threads=threads)
                    found = seen.setdefault((each.name, each.efforts[step]), [])
                    found.append((answer["recall"], answer["per_second"]))
    curves: dict[str, list[Point]] = {each.name: [] for each in workers}
    for (name, effort), found in seen.items():
        curves[name].append(Point(effort, found[-1][0], median(rate for _, rate in found)))
    return curves


def curves_part(of: Set, wish: Wish, *, slow: bool) -> None:
    """All engines on a set: build, size, curve, bars and picture."""
    contestants = [*graph_peers(), *list_peers(of.dimension), *our_graphs(of), *our_lists(of)]
    contestants += slow_peers() if slow else []
    with built(wish.wanted(contestants), of) as workers:
        curves = measured(workers, wish.rounds)
        told_table(of, workers, curves)
    picture = wish.pictures / f"recall-{of.name}.svg"
    wish.pictures.mkdir(parents=True, exist_ok=True)
    drawn_curves(picture, f"{of.name}: queries a second by recall@10, one thread", _places(curves))
    tell(f"  drawn: {picture}")
    curve_bars(of, curves)


def million_part(of: Set, wish: Wish) -> None:
    """A graph over a million rows beside hnswlib's and faiss's."""
    names = ("hnswlib", "faiss-hnsw", "ours-graph")
    chosen = [each for each in (*graph_peers(), *our_graphs(of)) if each.name in names]
    # Peers take minutes to build, so theirs are kept with the set; delete the folder to have them built anew.
    with built(wish.wanted(chosen), of, keep=str(CACHE / "sets" / of.name / "built")) as workers:
        curves = measured(workers, wish.rounds)
        told_table(of, workers, curves)
    bar(f"{of.name}_times_hnswlib", ratio(curves, ours_best(curves), "hnswlib"), 1.0)


def told_table(of: Set, workers: Sequence[Worker], curves: Mapping[str, Curve]) -> None:
    """What was seen, a line an engine."""
    tell(f"{of.name}: {of.count:,} x {of.dimension} {of.element}, {of.metric}; one thread, CPU time")
    heads = "".join(f"{f'@{recall:.2f}':>10}" for recall in TOLD_RECALLS)
    tell(f"  {'engine':<24}{'build s':>9}{heads}{'most':>8}")
    for each in workers:
        rates = (at_recall(curves[each.name], recall) for recall in TOLD_RECALLS)
        words = "".join(f"{f'{rate:,.0f}' if rate else '-':>10}" for rate in rates)
        most = max(point.recall for point in curves[each.name])
        tell(f"  {each.name:<24}{each.built['cpu_seconds']:>9.1f}{words}{most:>8.3f}")


def ratio(curves: Mapping[str, Curve], own: str | None, peer: str, recall: float = RECALL) -> float | None:
    """How many times a peer's rate ours is at a recall; None where either was not seen there."""
    rates = [at_recall(curves[name], recall) if name in curves else None for name in (own, peer)]
    return rates[0] / rates[1] if rates[0] and rates[1] else None


def ours_best(curves: Mapping[str, Curve], prefix: str = "ours-graph", *, apart: str = "uint8") -> str | None:
    """The fastest of ours whose name begins so, at the recall of the bars."""
    rates = {
        name: at_recall(curve, RECALL) or 0.0
        for name, curve in curves.items()
        if name.startswith(prefix) and not (apart and apart in name)
    }
    return max(rates, key=rates.__getitem__, default=None)


def curve_bars(of: Set, curves: Mapping[str, Curve]) -> None:
    """The bars that a set of this form is held to."""
    graph, name = ours_best(curves), of.name
    if of.dimension >= WIDE:
        bar(f"{name}_graph_times_hnswlib", ratio(curves, graph, "hnswlib"), WIDE_TIMES_HNSWLIB)
        bar(f"{name}_graph_times_faiss_hnsw", ratio(curves, graph, "faiss-hnsw"), WIDE_TIMES_FAISS)
    else:
        bar(f"{name}_float32_graph_times_hnswlib", ratio(curves, graph, "hnswlib"), NARROW_TIMES_HNSWLIB)
    if of.element == "uint8":
        bar(f"{name}_uint8_graph_times_hnswlib", ratio(curves, "ours-graph-uint8", "hnswlib"), BYTES_TIMES_HNSWLIB)
    bar(f"{name}_ivf_pq8_times_faiss", ratio(curves, "ours-ivf-pq8-refine", "faiss-ivf-pq8-refine"), 1.0)


def _places(curves: Mapping[str, Curve]) -> dict[str, list[tuple[float, float]]]:
    return {name: [(point.recall, point.per_second) for point in curve] for name, curve in curves.items()}
