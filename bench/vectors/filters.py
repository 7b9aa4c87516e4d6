"""Searches among some of the rows, and after half of them were replaced. Called by `run.py`.

Masks are drawn at random, or by how near a row is to the query: `near` allows many of its nearest rows, `far` none of the nearer
half, which is what makes a walk over a graph lose its way.
"""

from pathlib import Path

import numpy as np
from contestants import Contestant, Worker, built, faiss, our_graphs, our_lists
from curves import RECALL, Wish
from sets import QUERIES, Array, Set, exact
from telling import bar, left_out, progress, tell

SHARES = (0.5, 0.1, 0.01, 0.001)
ASKED = 100
"""Queries of correlated masks, of which there is one a query."""

LIMIT = 10
EFFORTS = (40, 80, 160)
"""A filter is searched with the effort of everyday, not with whatever it takes."""

HNSWLIB = Contestant("hnswlib", "hnswlib")


def filters_part(of: Set, wish: Wish) -> None:
    """Recall and whole answers at every share of rows, whether the mask goes with the query, against it, or neither."""
    masks = _masks(of)
    contestants = [HNSWLIB, faiss("hnsw", "HNSW16"), *our_graphs(of), *our_lists()[:2]]
    with built(wish.wanted(contestants), of) as workers:
        for each in workers:
            worst, short = 1.0, 0
            for name, (mask, truth) in masks.items():
                seen = _asked(each, mask, truth)
                worst, short = min(worst, seen[0]), short + int(seen[1])
                tell(
                    f"  {each.name} {name}: recall {seen[0]:.3f}, {seen[2]:,.0f} a second, {seen[1]:.0f} answers too short"
                )
            if each.name.startswith("ours"):
                bar(f"{of.name}_{each.name}_filtered_recall_least", worst, RECALL)
                bar(f"{of.name}_{each.name}_filtered_answers_too_short", short, 0, least=False)


def _asked(each: Worker, mask: Path, truth: Path) -> tuple[float, float, float]:
    """Recall, short or wrong answers and rate at the middle effort."""
    # Efforts of graphs are candidates, of lists the lists that are probed.
    effort = EFFORTS[1] if each.efforts[0] >= LIMIT else 32
    try:
        seen = each.ask("filtered", mask=str(mask), truth=str(truth), effort=effort)
    except RuntimeError as error:
        left_out(each.name, str(error))
        return 0.0, 0.0, 0.0
    return seen["recall"], seen["short_answers"] + seen["wrong_rows"], seen["per_second"]


def _masks(of: Set) -> dict[str, tuple[Path, Path]]:
    """Files of masks and of the exact answers among their rows."""
    base, queries, dice = np.asarray(of.base()), of.queries()[:QUERIES], np.random.default_rng(7)
    made = {}
    for share in SHARES:
        progress(f"{of.name}: exact answers among {share:.1%}")
        allowed = dice.random(of.count) < share
        made[f"{share:.1%} at random"] = _kept(
            of, f"random-{share}", allowed, exact(base, queries, LIMIT, of.metric, allowed)
        )
    order = _by_distance(of, base, queries[:ASKED])
    for share in SHARES:
        for way in ("near", "far"):
            allowed = np.zeros((ASKED, of.count), bool)
            chosen = _some(order, share, way, dice)
            np.put_along_axis(allowed, chosen, values=True, axis=1)
            ranks = np.argsort(order, axis=1)
            best = np.take_along_axis(chosen, np.argsort(np.take_along_axis(ranks, chosen, 1), axis=1), 1)[:, :LIMIT]
            made[f"{share:.1%} {way}"] = _kept(of, f"{way}-{share}", allowed, best)
    return made


def _by_distance(of: Set, base: Array, queries: Array) -> Array:
    """All rows of each query, nearest first."""
    distances = -(queries @ base.T)
    if of.metric == "l2":
        distances = 2 * distances + np.square(base).sum(axis=1)
    order: Array = np.argsort(distances, axis=1, kind="stable")
    return order


def _some(order: Array, share: float, way: str, dice: np.random.Generator) -> Array:
    """The rows of each query's mask: half of the nearest, or some of the farther half."""
    queries, count = order.shape
    wanted = max(int(count * share), 1)
    among = order[:, : min(2 * wanted, count)] if way == "near" else order[:, count // 2 :]
    wanted = min(wanted, among.shape[1])
    return np.stack([among[at, dice.permutation(among.shape[1])[:wanted]] for at in range(queries)])


def _kept(of: Set, name: str, masks: Array, truth: Array) -> tuple[Path, Path]:
    paths = of.folder / f"mask-{name}.npy", of.folder / f"mask-truth-{name}.npy"
    np.save(paths[0], masks)
    np.save(paths[1], truth)
    return paths
