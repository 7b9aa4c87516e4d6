"""Asks every shard of a collection at once: of its replicas one, another beside it where that is late, and those left in turn.

What a caller is told is whole, or, where he allows it, says which shards are missing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from prometheus_client import Counter

from ergonaut.errors import Broken, ErgonautError, Unavailable
from ergonaut_common.clock import Clock
from ergonaut_vectors.cluster.nodes import KnownNode, Nodes
from ergonaut_vectors.cluster.ports import NodeLink
from ergonaut_vectors.domain.placing.shard_map import ReplicaStage, ShardPlace

HEDGES_FRACTION = 0.1
"""Of all that is asked at most this part is asked twice because an answer is late: where all is slow that would not help."""

HEDGES_SAVED_MAX = 16.0
"""So many may come at once after a quiet time."""

T = TypeVar("T")
Ask = Callable[[NodeLink, int], Awaitable[T]]
"""Asks a node for one shard."""

_asked = Counter("ergonaut_vectors_shards_asked_total", "Shards asked, by why.", ["why"])


@dataclass(frozen=True, slots=True)
class Gathered(Generic[T]):
    """What came."""

    answers: Mapping[int, T]
    missing: Mapping[int, ErgonautError] = field(default_factory=dict)
    """Shards that did not answer, and why."""


class Gathering:
    """Asks shards. One for all requests of a process, so that nodes are known by all that was asked of them."""

    def __init__(self, nodes: Nodes, clock: Clock) -> None:
        self._nodes = nodes
        self._clock = clock
        self._hedges = HEDGES_SAVED_MAX

    async def gather(
        self,
        shards: Iterable[ShardPlace],
        ask: Ask[T],
        *,
        within_seconds: float,
        partial: bool = False,
        hedged: bool = True,
    ) -> Gathered[T]:
        """The answer of each shard. Raises the first error unless a partial answer will do and there is one at least.

        Conflict, Refused and NotFound are answers about the request, and are raised in any case. What must not be done once more
        after its caller was answered is asked without being `hedged`: of another replica only when one has failed.
        """
        tasks = {shard.number: asyncio.ensure_future(self._answer(shard, ask, hedged=hedged)) for shard in shards}
        limit = asyncio.ensure_future(self._clock.sleep(within_seconds))
        try:
            pending: set[asyncio.Future[Any]] = set(tasks.values())
            while pending and not limit.done():
                done = await _first_of(*pending, limit)
                pending -= done
                if any(_is_final(task, partial=partial) for task in done if task is not limit):
                    break
        finally:
            for task in (*tasks.values(), limit):
                task.cancel()
            await asyncio.gather(*tasks.values(), limit, return_exceptions=True)
        return _gathered(tasks, within_seconds, partial=partial)

    async def _answer(self, shard: ShardPlace, ask: Ask[T], *, hedged: bool) -> T:
        """The first answer of any replica."""
        tried: list[str] = []
        asked: dict[asyncio.Future[T], KnownNode] = {}
        late: asyncio.Future[Any] | None = None
        why, another, last = "first", True, _nobody(shard)
        try:
            while True:
                node = self._next(shard, tried, draining=why != "late") if another else None
                if node is not None:
                    tried.append(node.name)
                    _asked.labels(why).inc()
                    asked[asyncio.ensure_future(self._asked(node, shard.number, ask))] = node
                    late = late or asyncio.ensure_future(self._clock.sleep(node.health.late_seconds()))
                elif not asked:
                    raise last
                another = False
                done = await _first_of(*asked, *([late] if late else []))
                for task in [each for each in asked if each in done]:
                    del asked[task]
                    error = task.exception()
                    if error is None:
                        return task.result()
                    if not isinstance(error, Unavailable | Broken):
                        raise error
                    last, why, another = error, "failed", True
                if late in done:
                    late = None
                    if hedged and not another and self._may_hedge():
                        why, another = "late", True
        finally:
            _given_up(*asked, *([late] if late else []))

    def _may_hedge(self) -> bool:
        """Whether another may be asked beside one that is late; where all is slow that would make it slower."""
        if self._hedges < 1.0:
            return False
        self._hedges -= 1.0
        return True

    def _next(self, shard: ShardPlace, tried: list[str], *, draining: bool) -> KnownNode | None:
        """Whom to ask next. One that drains is asked where none that is ready answers, not beside one that is late: of some calls
        a second there is always a late one, and it would never be drained."""
        for stage in (ReplicaStage.READY, ReplicaStage.DRAINING) if draining else (ReplicaStage.READY,):
            nodes = self._nodes.askable(shard.nodes(stage), tried)
            if nodes:
                return nodes[0]
        return None

    async def _asked(self, node: KnownNode, shard: int, ask: Ask[T]) -> T:
        health, started = node.health, self._clock.monotonic()
        self._hedges = min(self._hedges + HEDGES_FRACTION, HEDGES_SAVED_MAX)
        health.begun(started)
        try:
            answer = await ask(node.link, shard)
        except asyncio.CancelledError:
            health.given_up()
            raise
        except (Unavailable, Broken):
            health.failed(self._clock.monotonic())
            raise
        except ErgonautError:
            health.answered(self._clock.monotonic() - started)
            raise
        except BaseException:
            health.given_up()
            raise
        health.answered(self._clock.monotonic() - started)
        return answer


async def _first_of(*waited: "asyncio.Future[Any]") -> "set[asyncio.Future[Any]]":
    done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    return done


def _given_up(*futures: "asyncio.Future[Any]") -> None:
    for each in futures:
        if not each.cancel() and not each.cancelled():
            # It failed at the same moment, which is of no interest any more, and would be logged unless it was looked at.
            each.exception()


def _is_final(task: "asyncio.Future[Any]", *, partial: bool) -> bool:
    """Whether nothing that others say changes what the caller is told."""
    error = task.exception()
    return error is not None and not (partial and isinstance(error, Unavailable | Broken))


def _gathered(tasks: Mapping[int, "asyncio.Future[T]"], within_seconds: float, *, partial: bool) -> Gathered[T]:
    answers: dict[int, T] = {}
    missing: dict[int, ErgonautError] = {}
    unforeseen: BaseException | None = None
    for number, task in tasks.items():
        error = None if task.cancelled() else task.exception()
        if task.cancelled():
            missing[number] = Unavailable(f"shard {number} did not answer within {within_seconds:g} s; try again later")
        elif error is None:
            answers[number] = task.result()
        elif isinstance(error, ErgonautError):
            missing[number] = error
        else:
            unforeseen = error
    if unforeseen is not None:
        raise unforeseen
    certain = [error for error in missing.values() if not isinstance(error, Unavailable | Broken)]
    if certain:
        raise certain[0]
    # Of those that were not waited for any more because another failed, the failure is what the caller needs to know.
    failed = [error for number, error in missing.items() if not tasks[number].cancelled()]
    if missing and not (partial and answers):
        raise (failed or list(missing.values()))[0]
    return Gathered(answers, missing)


def _nobody(shard: ShardPlace) -> ErgonautError:
    return Unavailable(f"no node that is there holds shard {shard.number}; try again later")
