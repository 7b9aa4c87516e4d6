"""What the kernels do, in plain Python: shorter, slower, and compared with them by a test. Not used by the service."""

from ergonaut_vectors.domain.kernels import (
    ALIVE,
    EVERYBODY,
    NONE,
    POOL_SLACK,
    SQUARED_L2,
    Floats,
    Graph,
    Slots,
    View,
)

Ranked = list[tuple[float, int]]
"""(distance, slot), nearest first; equal distances by slot."""


def distance(graph: Graph, one: Floats, other: Floats) -> float:
    """How far two vectors are from each other by the graph's metric."""
    return float(((one - other) ** 2).sum() if graph.metric == SQUARED_L2 else -(one * other).sum())


def row_of(graph: Graph, slot: int, level: int) -> Slots:
    """The links of a slot at a level, as a part of the graph's own array."""
    row: Slots = graph.links[slot] if level == 0 else graph.upper[graph.upper_row[slot] + level - 1]
    return row


def lives(graph: Graph, slot: int, position: int) -> bool:
    """Whether a reader at this position of the log sees the slot."""
    return position == EVERYBODY or bool(graph.born[slot] <= position < graph.died[slot])


def walk(graph: Graph, query: Floats, start: int, bounds: tuple[int, int, int]) -> Ranked:
    """The pool when the nearest that has not been expanded lies no longer in it."""
    pool, expanded, seen = [(distance(graph, query, graph.vectors[start]), start)], set[int](), {start}
    while waiting := [slot for _, slot in pool if slot not in expanded]:
        expanded.add(waiting[0])
        for other in [int(slot) for slot in row_of(graph, waiting[0], bounds[0]) if slot != NONE]:
            if other not in seen:
                seen.add(other)
                pool = _trimmed(graph, sorted([*pool, (distance(graph, query, graph.vectors[other]), other)]), bounds)
    return pool


def _trimmed(graph: Graph, pool: Ranked, bounds: tuple[int, int, int]) -> Ranked:
    _, width, position = bounds
    living = [place for place, (_, slot) in enumerate(pool) if lives(graph, slot, position)]
    if len(living) >= width:
        pool = pool[: living[width - 1] + 1]
    return pool[: POOL_SLACK * width]


def descend(graph: Graph, query: Floats, start: int, above: int, below: int) -> int:
    """Where greedy walks through the levels above `below` end."""
    for level in range(above, below, -1):
        start = walk(graph, query, start, (level, 1, EVERYBODY))[0][1]
    return start


def choose(graph: Graph, candidates: Ranked, count_max: int) -> list[int]:
    """The candidates that are not strictly nearer to one already chosen than to the centre."""
    chosen: list[int] = []
    for far, slot in candidates:
        to_chosen = [distance(graph, graph.vectors[slot], graph.vectors[other]) for other in chosen]
        if all(near >= far for near in to_chosen):
            chosen.append(slot)
    return chosen[:count_max]


def insert_slots(graph: Graph, slots: tuple[int, int], entry: int, width: int) -> int:
    """Link the written slots of a range into the graph; gives the graph's entry from now on."""
    for slot in range(*slots):
        entry = slot if entry == NONE else _insert(graph, slot, entry, width)
    return entry


def _insert(graph: Graph, slot: int, entry: int, width: int) -> int:
    query, top, level = graph.vectors[slot], int(graph.level[entry]), int(graph.level[slot])
    start = descend(graph, query, entry, top, level)
    for at in range(min(top, level), -1, -1):
        pool = walk(graph, query, start, (at, width, EVERYBODY))
        start = pool[0][1]
        chosen = choose(graph, pool, graph.upper.shape[1])
        row_of(graph, slot, at)[: len(chosen)] = chosen
        for other in chosen:
            _link_back(graph, slot, other, at)
    return slot if level > top else entry


def _link_back(graph: Graph, slot: int, centre: int, level: int) -> None:
    row = row_of(graph, centre, level)
    linked = [*(int(other) for other in row if other != NONE), slot]
    if len(linked) > len(row):
        far = sorted((distance(graph, graph.vectors[other], graph.vectors[centre]), other) for other in linked)
        linked = choose(graph, far, len(row))
    row[:] = NONE
    row[: len(linked)] = linked


def search_graph(graph: Graph, query: Floats, view: View, width: int, limit: int) -> Ranked:
    """The nearest to one query that a walk of this width finds."""
    if view.entry == NONE:
        return []
    start = descend(graph, query, view.entry, int(graph.level[view.entry]), 0)
    pool = walk(graph, query, start, (0, width, view.position))
    return [(far, slot) for far, slot in pool if lives(graph, slot, view.position)][:limit]


def search_all(graph: Graph, query: Floats, view: View, limit: int) -> Ranked:
    """The nearest of all to one query."""
    living = [slot for slot in range(view.used) if graph.born[slot] <= view.position < min(graph.died[slot], ALIVE)]
    return sorted((distance(graph, query, graph.vectors[slot]), slot) for slot in living)[:limit]
