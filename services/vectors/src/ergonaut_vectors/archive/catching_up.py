"""Brings a saved state of a shard up to a position or a moment of its log, in a folder of its own. Used by the archive."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from ergonaut.errors import Broken, NotFound
from ergonaut_vectors.archive.ports import Past, PastMessage, Until
from ergonaut_vectors.domain.indexes.port import Kind
from ergonaut_vectors.domain.records import Key
from ergonaut_vectors.domain.replica import Kept, Replica
from ergonaut_vectors.domain.schema import IndexWish, Schema
from ergonaut_vectors.domain.segments.work import Policy, done
from ergonaut_vectors.ports import Store
from ergonaut_vectors.workers import Workers

WITHOUT_INDEX = Policy(wish=IndexWish(Kind.FLAT))
"""For what was written since a state was saved: whoever takes the state over builds the index that it should have."""


@dataclass(frozen=True, slots=True)
class Caught:
    """A state that was brought up."""

    kept: Kept
    written_at: datetime | None
    """When the last message in it was written."""


async def caught_up(key: Key, schema: Schema, store: Store, until: Until, around: tuple[Past, Workers]) -> Caught:
    """The state of a store, brought up and saved there. Broken where the log does not follow what was saved."""
    past, threads = around
    kept = await threads.run(store.load)
    replica = Replica(schema.space, schema.fields, WITHOUT_INDEX, kept)
    began_at = replica.position
    written_at = await past.written_at(key, began_at) if began_at else None
    await _check_reaches_back(past, key, began_at, until)
    async with aclosing(past.messages(key, began_at, until)) as batches:
        async for messages in batches:
            await threads.run(partial(_take, replica, messages))
            # The newest time, not the last: where a clock went back, no older moment may be taken to be in it.
            newest = max(each.written_at for each in messages)
            written_at = newest if written_at is None else max(written_at, newest)
            if replica.crowded:
                await threads.run(partial(_seal, replica, store))
    await threads.run(partial(_seal, replica, store))
    kept = replica.kept()
    if kept.checkpoint.view.position != replica.view.position:
        raise Broken(f"the state of {key} was not sealed as a whole")
    await threads.run(partial(store.save, kept))
    return Caught(kept, written_at)


async def _check_reaches_back(past: Past, key: Key, position: int, until: Until) -> None:
    """Raise NotFound where messages are not kept any more that would be needed; else an older state would pass for the newer."""
    if until.position is not None and until.position <= position:
        return
    begin = await past.begin(key)
    if begin > position + 1:
        raise NotFound(f"the log of {key} begins at message {begin}; of what came before, only {position} are kept")


def _take(replica: Replica, messages: Sequence[PastMessage]) -> None:
    for message in messages:
        replica.take(message.sequence, message.content)


def _seal(replica: Replica, store: Store) -> None:
    work = replica.plan_seal()
    if work is not None:
        replica.install(store.keep(done(work)))
