"""Searches among some of the rows: what is found, whether answers are whole, how fast beside peers. Called by `run.py`.

Masks are drawn at random, or by how near a row is to the query: `near` allows many of its nearest rows, `far` none of the nearer
half, which is what makes a walk over a graph lose its way. Indexes are asked with the effort of everyday, not with whatever it
takes; a shard chooses its own.
"""

from pathlib import Path

import numpy as np
from contestants import Contestant, Worker, built, faiss, our_graphs, our_shards
from curves import RECALL, Wish
from sets import Array, Set, exact
from telling import bar, left_out, progress, tell

SHARES = (0.5, 0.1, 0.01, 0.001)
ASKED = 200
"""Queries: correlated masks are one a query, and hnswlib asks Python of every row that it meets."""

LIMIT = 10
CANDIDATES = 80
"""The effort of graphs."""

PEERS = (Contestant("hnswlib", "hnswlib"), faiss("hnsw", "HNSW16"))
SAME_RECALL = 0.005
"""A peer that finds less than ours by more is no measure of speed."""

Seen = dict[str, float]


def filters_part(of: Set, wish: Wish) -> None:
    """Recall and whole answers at every share of rows, whether the mask goes with the query, against it, or neither."""
    masks = _masks(of)
    contestants = [*PEERS, *our_graphs(of), *our_shards(of)]
    with built(wish.wanted(contestants), of) as workers:
        seen = {each.name: {name: _asked(each, *files) for name, files in masks.items()} for each in workers}
    for name, answers in seen.items():
        if name.startswith("ours"):
            worst, wrong = (pick(answers) for pick in (_least_recall, _wrong_answers))
            bar(f"{of.name}_{name}_filtered_recall_least", worst, RECALL)
            bar(f"{of.name}_{name}_filtered_answers_too_short", wrong, 0, least=False)
            _told_beside(name, answers, {peer.name: seen[peer.name] for peer in PEERS if peer.name in seen})


def _least_recall(answers: dict[str, Seen]) -> float:
    return min(each["recall"] for each in answers.values())


def _wrong_answers(answers: dict[str, Seen]) -> float:
    return sum(each["short_answers"] + each["wrong_rows"] for each in answers.values())


def _told_beside(name: str, answers: dict[str, Seen], peers: dict[str, dict[str, Seen]]) -> None:
    """How many times as fast as the fastest peer that finds as much."""
    for mask, mine in answers.items():
        rates = {
            peer: told[mask]["per_second"]
            for peer, told in peers.items()
            if told[mask]["recall"] >= mine["recall"] - SAME_RECALL
        }
        if rates:
            fastest = max(rates, key=rates.__getitem__)
            tell(f"  {name} {mask}: {mine['per_second'] / rates[fastest]:.2f} times {fastest}'s rate")


def _asked(each: Worker, mask: Path, truth: Path) -> Seen:
    """Recall, short or wrong answers and rate."""
    effort = CANDIDATES if each.efforts[0] else 0
    try:
        seen = each.ask("filtered", mask=str(mask), truth=str(truth), effort=effort)
    except RuntimeError as error:
        left_out(each.name, str(error))
        return {"recall": 0.0, "per_second": 0.0, "short_answers": 0, "wrong_rows": 0}
    short = seen["short_answers"] + seen["wrong_rows"]
    name = mask.stem.removeprefix("mask-")
    tell(
        f"  {each.name} {name}: recall {seen['recall']:.3f}, {seen['per_second']:,.0f} a second, {short} answers too short"
    )
    return seen


def _masks(of: Set) -> dict[str, tuple[Path, Path]]:
    """Files of masks and of the exact answers among their rows."""
    base, queries, dice = np.asarray(of.base()), of.queries()[:ASKED], np.random.default_rng(7)
    made = {}
    for share in SHARES:
        progress(f"{of.name}: exact answers among {share:.1%}")
        allowed = dice.random(of.count) < share
        made[f"{share:.1%} at random"] = _kept(
            of, f"random-{share}", allowed, exact(base, queries, LIMIT, of.metric, allowed)
        )
    order = _by_distance(of, base, queries)
    for share in SHARES:
        for way in ("near", "far"):
            allowed = np.zeros((len(queries), of.count), bool)
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
