"""Runs each kernel that a small shard needs, so that it is compiled, or loaded from its cache, before a request needs it."""

import numpy as np

from ergonaut_vectors.domain.indexes import graph
from ergonaut_vectors.domain.indexes.codes import CODE_ROWS_MIN
from ergonaut_vectors.domain.payload.filters import OneOf
from ergonaut_vectors.domain.segments.shard import Shard
from ergonaut_vectors.domain.segments.view import Question
from ergonaut_vectors.domain.segments.work import done
from ergonaut_vectors.domain.segments.writes import Deletes, Upserts
from ergonaut_vectors.domain.space import Element, Metric, Space

BATCH = CODE_ROWS_MIN
"""Rows of one write: with the first one a head has codes, with the second one its table grows."""


def warm_up() -> None:
    """Write, search and seal in each of the usual spaces. Takes a second where kernels are kept, many where they are not."""
    for metric in (Metric.L2, Metric.COSINE, Metric.INNER_PRODUCT):
        _warm_up(Space(16, metric, Element.FLOAT32))
    graph.warm_up(Space(16))


def _warm_up(space: Space) -> None:
    rows = np.random.default_rng(1).normal(size=(BATCH, space.dimension)).astype(space.dtype)
    payloads = [{"even": row % 2 == 0} for row in range(BATCH)]
    shard = Shard(space)
    for position in (1, 2):
        shard.apply(Upserts([f"{position}-{row}" for row in range(BATCH)], rows, payloads), position)
    shard.apply(Deletes(["1-3"]), 3)
    for _ in range(2):
        for wanted in (None, OneOf("even", (True,))):
            for exact in (False, True):
                shard.view.search(rows[:2], Question(4, exact=exact, filter=wanted))
        work = shard.plan_seal()
        if work is not None:
            shard.install(done(work))
