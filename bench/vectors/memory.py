"""What an index holds in memory after queries, opened from disk in a fresh process, and how soon it is open. Called by `run.py`.

Everything is counted that a thousand queries made resident: what the process allocated since before it opened the index, and
mapped pages, those of the rows as touched (the kernel maps some beside them, which count too), those of the index as if all
were. What the program itself takes, compiled kernels above all, is there before the count begins, for a small index was asked.
"""

from contestants import Contestant, built, faiss, our_graphs, our_lists, ours, worker
from curves import RECALL, Curve, Wish, at_recall, effort_at, measured
from sets import Set
from telling import bar, tell

MEMORY_PART_MAX = 0.45
SMALL = ours("graph-small", "hnsw", rows_compared=False)
"""The graph of a collection whose rows stay on disk."""


def memory_part(of: Set, wish: Wish) -> None:
    """Bytes, recall and rate of each, and the least of ours that finds enough beside hnswlib's."""
    peers = [Contestant("hnswlib", "hnswlib"), faiss("hnsw", "HNSW16")]
    held: dict[str, tuple[float, float]] = {}
    for contestant in wish.wanted([*peers, *our_graphs(of), SMALL, *our_lists(of)]):
        with built([contestant], of) as workers:
            for each in workers:
                each.ask("save", to=str(of.folder / "kept" / each.name))
                held[each.name] = _opened(contestant, of, measured([each], 1)[each.name])
    if "hnswlib" not in held:
        return
    enough = {name: size for name, (size, recall) in held.items() if name.startswith("ours") and recall >= RECALL}
    least = min(enough, key=enough.__getitem__, default=None)
    if least is not None:
        tell(f"  the least of ours that finds {RECALL}: {least}")
    part = enough[least] / held["hnswlib"][0] if least is not None else None
    bar(f"{of.name}_memory_part_of_hnswlib", part, MEMORY_PART_MAX, least=False)


def _opened(contestant: Contestant, of: Set, curve: Curve) -> tuple[float, float]:
    """Bytes that an index holds in a fresh process after queries, and the recall it has with them."""
    effort = effort_at(curve, RECALL) or curve[-1].effort
    kept = str(of.folder / "kept" / contestant.name)
    with worker(contestant, of) as fresh:  # type: ignore[union-attr] # it was there a moment before
        soon = fresh.ask("load", at=kept)
    with worker(contestant, of) as fresh:  # type: ignore[union-attr]
        fresh.ask("warm")
        loaded = fresh.ask("load", at=kept)
        recall = fresh.ask("measure", effort=effort)["recall"]
        seen = fresh.ask("memory")
    own = seen["anonymous_bytes"] - loaded["anonymous_before_bytes"]
    index, rows = seen["mapped_index_bytes"], seen["mapped_rows_bytes"]
    tell(
        f"  {contestant.name}: {(own + index + rows) / 1e6:.1f} MB, of them {rows / 1e6:.1f} MB mapped rows, at recall "
        f"{recall:.3f}, {at_recall(curve, RECALL) or 0:,.0f} a second at {RECALL}; open after {soon['load_ms']:.0f} ms, first "
        f"query {soon['first_query_ms']:.1f} ms"
    )
    return own + index + rows, recall
