"""What else is compared, part by part: threads, build, single queries, memory and opening, inverted lists. Called by `run.py`."""

from statistics import median

from contestants import Contestant, Worker, built, faiss, graph_peers, list_peers, our_graphs, our_lists, ours, worker
from curves import RECALL, Curve, Wish, at_recall, effort_at, measured, ratio, told_table
from sets import Set
from telling import bar, left_out, tell

THREADS = 2
THREADS_GAIN_MIN = 1.8
BUILD_TIMES_HNSWLIB_MAX = 1.5
SAME_RECALL = 0.005
"""Two graphs are as good as each other where their recall at the same effort differs by no more."""

LISTS_SECONDS_PER_100K_MAX = 5.0
SINGLE_RECALL = 0.97
SINGLE_US_P50_MAX = 100.0
MEMORY_PART_MAX = 0.45
NARROW = 128
"""The bar of single queries is about vectors of this dimension."""

HNSWLIB = Contestant("hnswlib", "hnswlib")


def threads_part(of: Set, wish: Wish) -> None:
    """What two threads do beyond one, by the clock; one alone is timed by the clock too."""
    contestants = [HNSWLIB, faiss("hnsw", "HNSW16"), *our_graphs(of)]
    with built(wish.wanted(contestants), of) as workers:
        gains = {}
        for each in workers:
            curve = measured([each], 1)[each.name]
            effort = effort_at(curve, RECALL)
            if effort is None:
                left_out(each.name, f"it does not reach {RECALL}")
                continue
            pairs = [(_by_clock(each, effort, 1), _by_clock(each, effort, THREADS)) for _ in range(2 * wish.rounds + 1)]
            gains[each.name] = median(two / one for one, two in pairs)
            tell(f"  {each.name}: {THREADS} threads answer {gains[each.name]:.2f} times as many as one")
    for name, gain in gains.items():
        if name.startswith("ours"):
            bar(f"{of.name}_{name}_two_threads_times_one", gain, THREADS_GAIN_MIN)


def _by_clock(each: Worker, effort: float, threads: int) -> float:
    return float(each.ask("by_clock", effort=effort, threads=threads)["per_second"])


def build_part(of: Set, wish: Wish) -> None:
    """CPU time of building a graph, against hnswlib's at the same recall for the same effort; and what two threads take."""
    contestants = [HNSWLIB, faiss("hnsw", "HNSW16"), ours("graph", "hnsw")]
    with built(wish.wanted(contestants), of) as workers:
        seconds: dict[str, list[float]] = {each.name: [each.built["cpu_seconds"]] for each in workers}
        for _ in range(1, wish.rounds):
            for each in workers:
                seconds[each.name].append(each.build()["cpu_seconds"])
        recalls = {each.name: each.ask("measure", effort=40)["recall"] for each in workers}
        both = {each.name: each.build(threads=THREADS) for each in workers}
    for name, told in seconds.items():
        two = both[name]
        words = f"with {THREADS} threads {two['cpu_seconds']:.1f} s of CPU, {two['wall_seconds']:.1f} s by the clock"
        tell(f"  {name}: built in {median(told):.1f} CPU-s; recall at effort 40 {recalls[name]:.3f}; {words}")
    if "hnswlib" in seconds and "ours-graph" in seconds:
        worse = recalls["hnswlib"] - recalls["ours-graph"] > SAME_RECALL
        value = median(seconds["ours-graph"]) / median(seconds["hnswlib"])
        unless = "its recall for the same effort is lower" if worse else ""
        bar(f"{of.name}_build_cpu_times_hnswlib", value, BUILD_TIMES_HNSWLIB_MAX, least=False, unless=unless)


def lists_part(of: Set, wish: Wish) -> None:
    """Inverted lists of ours and of faiss: build, recall, rate, and what they hold."""
    with built(wish.wanted([*list_peers(of.dimension), *our_lists()]), of) as workers:
        curves = measured(workers, wish.rounds)
        told_table(of, workers, curves)
        for each in workers:
            kept = each.ask("save", to=str(of.folder / "kept" / each.name))
            tell(f"  {each.name}: {kept['bytes'] / 1e6:.1f} MB kept")
            if each.name.startswith("ours-lists"):
                per_100k = each.built["cpu_seconds"] * 100_000 / of.count
                words = f"{of.name}_{each.name}_build_cpu_seconds_per_100k"
                bar(words, per_100k, LISTS_SECONDS_PER_100K_MAX, least=False)
    bar(f"{of.name}_ivf_pq8_times_faiss", ratio(curves, "ours-ivf-pq8-refine", "faiss-ivf-pq8-refine"), 1.0)
    if (times := ratio(curves, "ours-ivf-pq4-refine", "faiss-ivf-pq4-refine")) is not None:
        tell(f"  4-bit products: {times:.2f} times faiss's rate")


def single_part(of: Set, wish: Wish) -> None:
    """One query a call, in process."""
    contestants = [*graph_peers(), *our_graphs(of)]
    best: list[float] = []
    with built(wish.wanted(contestants), of) as workers:
        curves = measured(workers, 1)
        for each in workers:
            effort = effort_at(curves[each.name], SINGLE_RECALL)
            if effort is None:
                left_out(each.name, f"it does not reach {SINGLE_RECALL}")
                continue
            seen = [each.ask("one_by_one", effort=effort) for _ in range(wish.rounds)]
            p50, p99 = (median(answer[f"p{part}_us"] for answer in seen) for part in (50, 99))
            tell(f"  {each.name}: p50 {p50:.0f} us, p99 {p99:.0f} us at recall {seen[0]['recall']:.3f}")
            if each.name.startswith("ours"):
                best.append(p50)
    if of.dimension == NARROW:
        bar(f"{of.name}_single_query_us_p50", min(best, default=None), SINGLE_US_P50_MAX, least=False)


def memory_part(of: Set, wish: Wish) -> None:
    """What an index holds in memory after queries, opened from disk in a fresh process, and how soon it is open."""
    contestants = [HNSWLIB, faiss("hnsw", "HNSW16"), *our_graphs(of), *our_lists()]
    held: dict[str, tuple[float, float]] = {}
    for contestant in wish.wanted(contestants):
        with built([contestant], of) as workers:
            for each in workers:
                each.ask("save", to=str(of.folder / "kept" / each.name))
                curve = measured([each], 1)[each.name]
                held[each.name] = _opened(contestant, of, curve)
    if "hnswlib" not in held:
        return
    within = {
        name: seen[0] / held["hnswlib"][0]
        for name, seen in held.items()
        if name.startswith("ours") and seen[1] >= RECALL
    }
    bar(f"{of.name}_memory_part_of_hnswlib", min(within.values(), default=None), MEMORY_PART_MAX, least=False)


def _opened(contestant: Contestant, of: Set, curve: Curve) -> tuple[float, float]:
    """Bytes that a fresh process holds of the index, rows that stay mapped not among them, and the recall it has with them."""
    effort = effort_at(curve, RECALL) or curve[-1].effort
    with worker(contestant, of) as fresh:  # type: ignore[union-attr] # it was there a moment before
        kept = str(of.folder / "kept" / contestant.name)
        loaded = fresh.ask("load", at=kept)
        recall = fresh.ask("measure", effort=effort)["recall"]
        seen = fresh.ask("memory")
    own = seen["anonymous_bytes"] - loaded["anonymous_before_bytes"]
    index, rows = seen["mapped_index_bytes"], seen["mapped_rows_bytes"]
    tell(
        f"  {contestant.name}: {(own + index) / 1e6:.1f} MB, and {rows / 1e6:.1f} MB of rows that stay on disk, at recall "
        f"{recall:.3f}, {at_recall(curve, RECALL) or 0:,.0f} a second at {RECALL}; open after {loaded['load_ms']:.0f} ms, first "
        f"query {loaded['first_query_ms']:.1f} ms"
    )
    return own + index, recall
