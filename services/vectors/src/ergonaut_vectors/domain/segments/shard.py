"""A shard: what its log says up to a position, held as immutable segments and a head, searched by any thread, written by one.

Whoever follows the log is the writer, and calls these, one at a time:

    shard = Shard(space, fields)            # or Shard.open(space, fields, checkpoint), see adapters/segment_files.py
    shard.apply(write, position, mark)      # all of a message or nothing is seen; False where it was applied before
    shard.pass_over(position, mark)         # a message that changes nothing
    work = shard.plan_work(idle=False)      # None, or work that is due; ask again until None, each kind is under way once
    shard.install(result)                   # short; or shard.abandon(work), after which it is planned again
    shard.checkpoint()                      # the newest state that is in segments alone, ready to be written down

Between plan and install, in a worker's thread, however long it takes: `result = done(work)` (work.py), and with files
`result = files.kept(result)`, which writes the segment and gives it back mapped. A failure there is answered by `abandon`.

Any thread takes `shard.view` once a request and asks that: search, counted, get, scroll, payload, vectors (view.py). A view
never changes, and holds all of the log up to `view.position`: a reader that needs a sequence waits until it is there.

What is written down is always an exact state: that of the last position at which a head ended, with everything that lived
then. A restart opens it and applies the log from `view.position` on; `view.mark` is what was given with that message.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.compute.cpu.id_table import NONE, take_out
from ergonaut_vectors.domain.indexes.port import Kind, Plan
from ergonaut_vectors.domain.payload import bits
from ergonaut_vectors.domain.payload.documents import encoded
from ergonaut_vectors.domain.payload.fields import Fields, Payload
from ergonaut_vectors.domain.placing.slots import SlotRange
from ergonaut_vectors.domain.segments import ids, planning
from ergonaut_vectors.domain.segments.head import Head
from ergonaut_vectors.domain.segments.segment import Segment
from ergonaut_vectors.domain.segments.view import Part, Place, View
from ergonaut_vectors.domain.segments.work import Done, Job, Policy, Work
from ergonaut_vectors.domain.segments.writes import Changes, Deletes, Upserts, Write, prepared
from ergonaut_vectors.domain.space import Rows, Space

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """What has to be written down to come back to a state."""

    view: View
    """All parts are segments."""
    serial: int
    """The number of the next segment's name."""


@dataclass(slots=True)
class Counts:
    """What the messages did, since the shard was opened."""

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    removed: int = 0


@dataclass(frozen=True, slots=True)
class _Found:
    """Where the ids of a batch live now: part and row of each, NONE where there is none."""

    part: Numbers
    row: Numbers


class Shard:
    """Vectors by id, searched by nearness. Applying what has been applied changes nothing."""

    __slots__ = ("_durable", "_frozen", "_head", "_serial", "_under_way", "counts", "fields", "policy", "space", "view")

    def __init__(self, space: Space, fields: Fields | None = None, policy: Policy | None = None) -> None:
        self.space = space
        self.fields: Fields = fields or {}
        self.policy = policy or Policy()
        self.counts = Counts()
        self.view = View(space, 0, None, (), ids.Digest())
        """The newest state; take it once, and ask it all that belongs together."""
        self._durable = self.view
        self._frozen: View | None = None
        self._head = Head(space, self.fields)
        self._serial = 0
        self._under_way: dict[Job, Work] = {}

    @classmethod
    def open(cls, space: Space, fields: Fields | None, checkpoint: Checkpoint, policy: Policy | None = None) -> "Shard":
        """The shard as it was when the checkpoint was made; the log from its position on has to be applied."""
        shard = cls(space, fields, policy)
        shard.view = shard._durable = checkpoint.view
        shard._serial = checkpoint.serial
        return shard

    @property
    def position(self) -> int:
        """The position of the log up to which searches see it."""
        return self.view.position

    @property
    def head_rows(self) -> int:
        """Rows in no segment yet; where they grow far beyond the policy, writes have to wait for work."""
        return sum(part.store.count for part in self.view.parts if not isinstance(part.store, Segment))

    def apply(self, write: Write, position: int, mark: Any = None) -> bool:
        """Make a batch visible, all at once; False when it was applied already. For the one writer."""
        if position <= self.view.position:
            return False
        if isinstance(write, Deletes):
            self._delete(ids.asked(list(dict.fromkeys(write.ids))), position, mark)
        elif isinstance(write, Changes):
            self._change(write, position, mark)
        else:
            self._upsert(write, position, mark)
        return True

    def pass_over(self, position: int, mark: Any = None) -> None:
        """Take note that the log up to this position changes nothing further. For the one writer."""
        if position > self.view.position:
            self.view = replace(self.view, position=position, mark=mark)

    def forget(self, slots: SlotRange, position: int, mark: Any = None) -> None:
        """Remove all whose ids fall into these slots. For the one writer."""
        if position <= self.view.position:
            return
        view = self.view.without(slots)
        self.counts.removed += self.view.count - view.count
        self.view = replace(view, position=position, mark=mark)

    def checkpoint(self) -> Checkpoint:
        """The newest state that is in segments alone."""
        return Checkpoint(self._durable, self._serial)

    def plan_work(self, *, idle: bool = False) -> Work | None:
        """Work that is due and not under way; none of a kind of which some is under way already. For the one writer.

        With `idle`, told where nothing was written for a while, also what makes searches faster: a head of some size is sealed,
        and segments that need not be apart become one.
        """
        if Job.SEAL not in self._under_way and planning.seal_due(self.policy, self.view, self._durable):
            work = self.plan_seal()
            if work is not None:
                return work
        if Job.MERGE not in self._under_way:
            work = self._plan_tidying() if idle and Job.SEAL not in self._under_way else None
            work = work or self._plan_merge()
            if work is not None:
                return work
        part = planning.part_to_check(self.policy, self._durable) if Job.CHECK not in self._under_way else None
        return self._planned(Job.CHECK, [part]) if part else None

    def plan_seal(self) -> Work | None:
        """Seal the head now, as before a snapshot or an end; None where one is under way or nothing has to be built."""
        if Job.SEAL in self._under_way:
            return None
        if not self._head.count:
            self._durable = self.view
            return None
        self._frozen, self._head = self.view, Head(self.space, self.fields)
        return self._planned(Job.SEAL, self.view.parts[-1:])

    def install(self, result: Done) -> bool:
        """Put work's segment in place of what it was made of; deaths meanwhile are carried over. False if it was abandoned."""
        work = result.work
        if self._under_way.get(work.job) is not work:
            return False
        del self._under_way[work.job]
        if work.job is Job.CHECK:
            self.view, self._durable = _seen(self.view, result), _seen(self._durable, result)
            self._frozen = _seen(self._frozen, result) if self._frozen else None
            return True
        self.view = _with(self.view, result)
        if self._frozen is not None:
            self._frozen = _with(self._frozen, result)
        if work.job is Job.SEAL:
            assert self._frozen is not None, "a seal was planned on a frozen state"
            self._durable, self._frozen = self._frozen, None
        else:
            self._durable = _with(self._durable, result)
        return True

    def abandon(self, work: Work) -> None:
        """Forget work that failed; what it was to be made of stays as it is, and is planned again."""
        if self._under_way.get(work.job) is not work:
            return
        del self._under_way[work.job]
        if work.job is Job.SEAL:
            self._unfreeze()

    def _plan_merge(self) -> Work | None:
        parts = planning.parts_to_merge(self.policy, self._durable)
        if not parts and self._durable.position < self.view.position:
            # Deaths since the last seal are not in the state that is merged; sealing brings them there.
            if not planning.parts_to_merge(self.policy, self.view):
                return None
            work = self.plan_seal()
            if work is not None:
                return work
            parts = planning.parts_to_merge(self.policy, self._durable)
        return self._planned(Job.MERGE, parts) if parts else None

    def _plan_tidying(self) -> Work | None:
        if self._head.count >= self.policy.tidied_head_rows_min:
            return self.plan_seal()
        parts = planning.parts_to_tidy(self.policy, self._durable)
        return self._planned(Job.MERGE, parts) if parts else None

    def _planned(self, job: Job, parts: Sequence[Part]) -> Work:
        rows = sum(part.count for part in parts)
        sample = planning.sample_of(parts) if job is Job.MERGE else None
        plan = planning.plan_for(self.policy, self.space, rows, sample)
        planned = plan.kind
        if job is Job.SEAL:
            # Writes wait where heads are not sealed as fast as they come; what takes long is left to a merge.
            plan = Plan(Kind.FLAT)
        name, wanted = f"{self._serial:08d}", self.policy.wish.recall
        work = Work(job, name, self.space, self.fields, tuple(parts), plan, planned, wanted)
        self._serial += 1
        self._under_way[job] = work
        return work

    def _unfreeze(self) -> None:
        """Put the rows of a frozen head and of the one that grew since into one head again, so that one seal takes both."""
        self._frozen = None
        head, lives = Head(self.space, self.fields), 0
        unsealed = [part for part in self.view.parts if not isinstance(part.store, Segment)]
        for part in unsealed:
            store, rows = part.store, bits.rows_of(part.live, part.store.count)
            for sequence in np.unique(store.sequences[rows]).tolist():
                chosen = rows[store.sequences[rows] == sequence]
                payloads = [store.columns.payload(row) for row in chosen.tolist()]
                head.append(ids.gathered([(store.table, chosen)]), store.rows[chosen], payloads, sequence)
            lives += len(rows)
        self._head = head
        sealed = tuple(part for part in self.view.parts if isinstance(part.store, Segment))
        self.view = replace(self.view, parts=sealed + self._head_part(bits.all_of(lives), lives))

    def _head_part(self, live: Any, count: int) -> tuple[Part, ...]:
        return (Part(self._head.taken(), live, count),) if self._head.count else ()

    def _delete(self, names: ids.Asked, position: int, mark: Any) -> None:
        found = self._find(names)
        there = np.flatnonzero(found.part != NONE)
        digest = self._digest_without(names, found, there)
        self.view = View(self.space, position, mark, self._parts_without(found, there), digest)
        self.counts.removed += len(there)

    def _upsert(self, write: Upserts, position: int, mark: Any) -> None:
        chosen = list({name: at for at, name in enumerate(write.ids)}.values())
        payloads: Sequence[Payload] = write.payloads or ({},) * len(write.ids)
        rows = prepared(self.space, write.rows if len(chosen) == len(write.ids) else write.rows[chosen])
        names = ids.asked([write.ids[at] for at in chosen])
        self._write(names, rows, [payloads[at] for at in chosen], (position, mark))

    def _change(self, write: Changes, position: int, mark: Any) -> None:
        payloads = dict(zip(write.ids, write.payloads, strict=True))
        names = ids.asked(list(payloads))
        found = self._find(names)
        there = np.flatnonzero(found.part != NONE)
        places = [Place(int(found.part[at]), int(found.row[at])) for at in there]
        given = list(payloads.values())
        new = [
            (self.view.payload(place) if write.merged else {}) | dict(given[at])
            for at, place in zip(there.tolist(), places, strict=True)
        ]
        self._write(names.only(there), self.view.vectors(places), new, (position, mark))

    def _write(self, names: ids.Asked, rows: Rows, payloads: Sequence[Payload], at: tuple[int, Any]) -> None:
        """Let these be what their ids stand for; what is so already is left alone, so that no dead row stays behind."""
        position, mark = at
        found = self._find(names)
        new = np.flatnonzero(~self._unchanged(found, rows, payloads))
        gone = new[found.part[new] != NONE]
        digest = self._digest_without(names, found, gone)
        parts = self._parts_without(found, gone)
        self.counts.unchanged += len(rows) - len(new)
        self.counts.replaced += len(gone)
        self.counts.added += len(new) - len(gone)
        if len(new):
            fresh = names if len(new) == len(rows) else names.only(new)
            parts = self._with_rows(parts, fresh, rows[new], [payloads[row] for row in new.tolist()], position)
            digest = digest.changed(fresh.hashes, np.full(len(new), position, np.int64), 1)
        self.view = View(self.space, position, mark, parts, digest)

    def _with_rows(
        self, parts: tuple[Part, ...], names: ids.Asked, rows: Rows, payloads: Sequence[Payload], position: int
    ) -> tuple[Part, ...]:
        """The parts, of which the last is the head with these rows more."""
        first = self._head.count
        live, count, others = bits.none_of(0), 0, parts
        if first:
            live, count, others = parts[-1].live, parts[-1].count, parts[:-1]
        self._head.append(names, rows, payloads, position)
        after = first + len(rows)
        words = bits.all_of(after)
        # All rows from the first new one on live; those before as they did.
        words[: first // 64] = live[: first // 64]
        if first % 64:
            below = np.uint64((1 << (first % 64)) - 1)
            words[first // 64] = (words[first // 64] & ~below) | (live[first // 64] & below)
        return others + self._head_part(words, count + len(rows))

    def _find(self, names: ids.Asked) -> _Found:
        found = _Found(np.full(len(names.hashes), NONE, np.int64), np.full(len(names.hashes), NONE, np.int64))
        for at, part in enumerate(self.view.parts):
            rows = part.find(names)
            there = rows != NONE
            found.part[there] = at
            found.row[there] = rows[there]
        return found

    def _unchanged(self, found: _Found, rows: Rows, payloads: Sequence[Payload]) -> npt.NDArray[np.bool_]:
        same = np.zeros(len(rows), np.bool_)
        for at in np.flatnonzero(found.part != NONE).tolist():
            store, row = self.view.parts[found.part[at]].store, int(found.row[at])
            if store.rows[row].tobytes() == rows[at].tobytes():
                same[at] = store.columns.document(row) == encoded(payloads[at])
        return same

    def _parts_without(self, found: _Found, gone: Numbers) -> tuple[Part, ...]:
        """The parts of the view, in which the rows of these ids have died."""
        parts = list(self.view.parts)
        for at in np.unique(found.part[gone]).tolist():
            rows = found.row[gone[found.part[gone] == at]]
            live = parts[at].live.copy()
            take_out(live, rows)
            parts[at] = replace(parts[at], live=live, count=parts[at].count - len(rows))
        return tuple(parts)

    def _digest_without(self, names: ids.Asked, found: _Found, gone: Numbers) -> ids.Digest:
        if not len(gone):
            return self.view.digest
        sequences = [
            int(self.view.parts[part].store.sequences[row])
            for part, row in zip(found.part[gone].tolist(), found.row[gone].tolist(), strict=True)
        ]
        return self.view.digest.changed(names.hashes[gone], np.array(sequences, np.int64), -1)


def _with(view: View, result: Done) -> View:
    """The view with a segment in place of what it was made of."""
    sources = {id(part.store): at for at, part in enumerate(result.work.parts)}
    mine = sorted((part for part in view.parts if id(part.store) in sources), key=lambda part: sources[id(part.store)])
    first = next(at for at, part in enumerate(view.parts) if id(part.store) in sources)
    others = [part for part in view.parts if id(part.store) not in sources]
    made = result.part_in(tuple(mine))
    return replace(view, parts=(*others[:first], *([made] if made else []), *others[first:]))


def _seen(view: View, result: Done) -> View:
    """The view with what a check found, where the segment is still in it."""
    store = result.work.parts[0].store
    return replace(
        view, parts=tuple(replace(part, tuned=result.tuned) if part.store is store else part for part in view.parts)
    )
