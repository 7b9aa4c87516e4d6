"""A replica of a shard: what its log says, message by message, and how it is come back to after a restart.

One writer at a time takes messages and work; any thread takes `view` and asks it. Used by whoever follows a log: `live.py`,
a restore to a moment, a copy on another machine.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ergonaut_vectors.domain.batches import DIGEST_BYTES, NO_DIGEST, Batch, Chain, Head
from ergonaut_vectors.domain.fences import Fence, Given, given_in, mark_of, taker_of, with_fence
from ergonaut_vectors.domain.payload.fields import Fields
from ergonaut_vectors.domain.placing.slots import SLOTS, SlotRange
from ergonaut_vectors.domain.repeats import Repeats
from ergonaut_vectors.domain.segments.shard import Checkpoint, Shard
from ergonaut_vectors.domain.segments.view import View
from ergonaut_vectors.domain.segments.work import Done, Policy, Work
from ergonaut_vectors.domain.space import Space

VOID_KEPT = 4096
"""Batches that counted for nothing and whose writers may still ask: as many as messages wait to be applied at most."""

DIGESTS_EVERY = 16
DIGESTS_KEPT = 64
"""Positions whose digests are remembered: replicas are compared that are a thousand messages apart at most."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A state as it is written down."""

    checkpoint: Checkpoint
    mark: bytes
    """The digest of the last message in it, slots that were given away, and the names of batches that may be repeated."""

    @property
    def head(self) -> Head:
        """The last message that is in it."""
        return Head(self.checkpoint.view.position, self.mark[:DIGEST_BYTES])

    @property
    def given(self) -> tuple[Given, ...]:
        """Slots that were given to other shards."""
        return given_in(self.mark, DIGEST_BYTES)

    def taken(self, given: Given, digest: bytes) -> "Kept":
        """The state with which the shard begins that takes these slots: the same one, whichever later state it is made of.

        It is as of the fence, behind which nothing of these slots was written; `digest` stands for the last message in it.
        """
        slots, names = given.fence.slots, self.mark[DIGEST_BYTES + len(mark_of(self.given)) :]
        view = self.checkpoint.view.without(SlotRange(0, slots.first)).without(SlotRange(slots.after, SLOTS))
        checkpoint = replace(self.checkpoint, view=replace(view, position=given.position))
        return Kept(checkpoint, digest + Repeats.read(names).written(given.position))

    @property
    def without_names(self) -> "Kept":
        """The state as another collection begins with it: batches of that are no repeats, and no split of it is under way."""
        gone = [each for each in self.given if each.fence.is_last]
        return replace(self, mark=self.mark[:DIGEST_BYTES] + mark_of(gone))


class Replica:
    """The state of a shard and the place in its log."""

    def __init__(self, space: Space, fields: Fields, policy: Policy, kept: Kept | None = None) -> None:
        if kept is None:
            self._shard = Shard(space, fields, policy)
            self._chain, self._repeats = Chain(), Repeats()
            self._given: tuple[Given, ...] = ()
        else:
            self._shard = Shard.open(space, fields, kept.checkpoint, policy)
            self._given = kept.given
            names = kept.mark[DIGEST_BYTES + len(mark_of(self._given)) :]
            self._chain, self._repeats = Chain(kept.head), Repeats.read(names)
        self._policy = policy
        self._void: OrderedDict[int, int] = OrderedDict()
        self.position = self._chain.head.sequence
        """The last message that was taken, and is seen by whoever takes the view; parts of a batch are not, before the last."""
        self.digests: Mapping[int, str] = {}
        """Of what was held at some of the last positions, the same ones for every replica, so that they can be compared."""

    @property
    def head(self) -> Head:
        """The last message that was read."""
        return self._chain.head

    @property
    def view(self) -> View:
        """The newest state; its own position is that of the last batch that was complete."""
        return self._shard.view

    def given_by(self, sequence: int) -> int | None:
        """The shard that the slots of a batch were given to, which for that counted for nothing; of those that came lately."""
        return self._void.get(sequence)

    @property
    def crowded(self) -> bool:
        """Whether so much waits to be sealed that no more should be taken before it is."""
        return self._shard.head_rows >= 4 * self._policy.head_rows_max

    def take(self, sequence: int, content: bytes) -> None:
        """Apply a message of the log. Broken where it is not whole or does not follow; nothing can be taken then."""
        batch = self._chain.take(sequence, content)
        if batch is not None:
            self._apply(batch, sequence)
        if sequence % DIGESTS_EVERY == 0:
            kept = {at: told for at, told in self.digests.items() if at > sequence - DIGESTS_EVERY * DIGESTS_KEPT}
            self.digests = kept | {sequence: str(self._shard.view.digest)}
        # Only now, for readers wait for it and take the view at once.
        self.position = self._chain.head.sequence

    def repeated(self, name: bytes) -> int | None:
        """Where a batch of this name stands already."""
        return self._repeats.first_of(name, self.position)

    def aim(self, policy: Policy) -> None:
        """Let work from now on be planned by another policy."""
        self._shard.policy = self._policy = policy

    def plan(self, *, idle: bool = False) -> list[Work]:
        """All work that is due; while nobody writes, also what makes searches faster."""
        planned: list[Work] = []
        while work := self._shard.plan_work(idle=idle):
            planned.append(work)
        return planned

    def plan_seal(self) -> Work | None:
        """Seal what is in no segment yet; None where there is nothing, or where that is under way."""
        return self._shard.plan_seal()

    def install(self, result: Done) -> None:
        """Take over what was built."""
        self._shard.install(result)

    def abandon(self, work: Work) -> None:
        """Forget work that failed; it is planned again."""
        self._shard.abandon(work)

    def kept(self) -> Kept:
        """The newest state that can be written down."""
        checkpoint = self._shard.checkpoint()
        position = checkpoint.view.position
        self._repeats.forget(position)
        mark = checkpoint.view.mark if position else NO_DIGEST
        told = mark[:DIGEST_BYTES] + mark_of(given_in(mark, DIGEST_BYTES))
        return Kept(checkpoint, told + self._repeats.written(position))

    def _apply(self, batch: Batch, sequence: int) -> None:
        write, digest = batch.write, self._chain.head.digest
        if isinstance(write, Fence):
            self._given = with_fence(self._given, write, sequence)
            mark = digest + mark_of(self._given)
            if write.is_last:
                self._shard.forget(write.slots, sequence, mark)
            else:
                self._shard.pass_over(sequence, mark)
            return
        digest += mark_of(self._given)
        taken_by = taker_of(self._given, write.ids)
        if taken_by is not None:
            self._shard.pass_over(sequence, digest)
            self._void[sequence] = taken_by
            if len(self._void) > VOID_KEPT:
                self._void.popitem(last=False)
        elif self._repeats.first_of(batch.name, sequence) is None:
            self._shard.apply(write, sequence, digest)
            self._repeats.add(batch.name, sequence)
        else:
            self._shard.pass_over(sequence, digest)
