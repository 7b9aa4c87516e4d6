"""What happens to an index when half of its rows are replaced: how fast, and what is found afterwards. Called by `run.py`."""

import numpy as np
from contestants import Contestant, Worker, built, our_shards
from curves import RECALL, Wish
from sets import Array, Set, exact
from telling import bar, left_out, tell

SHARE_BEFORE = 2 / 3
"""What is built before, as `worker.py` has it; half of that goes, and the last third comes."""

LIMIT = 10
EFFORT, EFFORT_LISTS = 80, 32
"""Candidates of graphs, and lists to look into, before and after; what a shard finds by its own effort is told too."""

RECALL_LOST_MAX = 0.01

PEERS = (Contestant("hnswlib", "hnswlib"), Contestant("usearch-f16", "usearch", {"dtype": "f16"}))


def replacing_part(of: Set, wish: Wish) -> None:
    """Recall for the same effort before and after, rates of deleting and inserting, and whether what is gone is found."""
    rows, ids = int(of.count * SHARE_BEFORE), np.arange(of.count)
    before, after = (_truth(of, name, mask) for name, mask in (("before", ids < rows), ("after", ids >= rows // 2)))
    with built(wish.wanted([*PEERS, *our_shards(of)]), of, share=SHARE_BEFORE) as workers:
        for each in workers:
            try:
                _replaced(each, of, before, after)
            except RuntimeError as error:
                left_out(each.name, str(error))


def _replaced(each: Worker, of: Set, before: str, after: str) -> None:
    effort = EFFORT_LISTS if "-ivf" in each.name else EFFORT
    first = each.ask("recall_of", truth=before, effort=effort)["recall"]
    seen = each.ask("replace_half", truth=after, effort=effort)
    tell(
        f"  {each.name}: recall {first:.3f}, after half was replaced {seen['recall']:.3f}; {seen['deletes_per_second']:,.0f} "
        f"deletes and {seen['inserts_per_second']:,.0f} inserts a second, with building; {seen['deleted_found']} deleted found"
    )
    if each.name.startswith("ours"):
        bar(
            f"{of.name}_{each.name}_recall_lost_by_replacing_half", first - seen["recall"], RECALL_LOST_MAX, least=False
        )
        bar(f"{of.name}_{each.name}_deleted_rows_found", seen["deleted_found"], 0, least=False)
        own = each.ask("recall_of", truth=after, effort=0)["recall"]
        bar(f"{of.name}_{each.name}_recall_by_own_effort_when_half_was_replaced", own, RECALL)


def _truth(of: Set, name: str, allowed: Array) -> str:
    path = of.folder / f"truth-{name}.npy"
    np.save(path, exact(np.asarray(of.base()), of.queries(), LIMIT, of.metric, allowed))
    return str(path)
