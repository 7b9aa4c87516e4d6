"""Figures of processes that are gone are added up in one place, so that restarts do not let the book grow without end. Done by
one process of each gateway; several at once change nothing.

Who is gone is judged by this process's own clock alone: one whose figures it has seen unchanged for long. Living ones tell theirs
again and again. What was folded is dropped a round later, so that whoever reads meanwhile finds either the one or the other, and
by the sum's own list never both.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ergonaut.errors import Conflict, ErgonautError
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.endpoints.figures import GONE, FiguresEntry, with_folded
from ergonaut_gateway.ports import FiguresBook

ROUND_SECONDS = 60.0
"""How often it is looked; longer than any reader takes."""

BEAT_SECONDS = 300.0
"""How often a living process tells its figures though nothing changed."""

SILENT_SECONDS = 1_200.0
"""Unchanged for so long, a process is gone: it would have told four times."""

Key = tuple[str, str]
Present = Callable[[str, str], int | None]
"""The revision that an endpoint has now; None where there is no such endpoint."""

log = get_logger(__name__)


@dataclass(slots=True)
class _Seen:
    revision: int
    since_seconds: float


class Folding:
    """Looks after the book."""

    def __init__(self, book: FiguresBook, clock: Clock, present: Present) -> None:
        self._book = book
        self._clock = clock
        self._present = present
        self._seen: dict[tuple[str, str, str], _Seen] = {}
        self._folded_before: set[tuple[str, str, str]] = set()

    async def keep_folding(self) -> None:
        """Look again and again, for ever."""
        while True:
            await self._clock.sleep(ROUND_SECONDS)
            try:
                await self.fold()
            except ErgonautError as error:
                log.warning("figures of processes that are gone not folded yet", error=str(error))

    async def fold(self) -> None:
        """One round. Raises Unavailable."""
        entries = await self._book.entries()
        silent = self._silent(entries)
        by_endpoint: dict[Key, list[FiguresEntry]] = defaultdict(list)
        for entry in entries:
            by_endpoint[entry.tenant, entry.name].append(entry)
        folded: set[tuple[str, str, str]] = set()
        for key, told in by_endpoint.items():
            try:
                folded |= await self._fold(key, told, silent)
            except Conflict:
                # Another gateway folds the same; the next round finds what it left.
                continue
        self._folded_before = folded

    async def _fold(
        self, key: Key, told: Sequence[FiguresEntry], silent: set[tuple[str, str, str]]
    ) -> set[tuple[str, str, str]]:
        """Fold one endpoint's figures; gives those that are in its sum and still there."""
        present = self._present(*key)
        for entry in [each for each in told if _identity(each) in silent]:
            # Revisions count on, so nothing of an earlier one is ever asked for again.
            if present is None or entry.figures.revision < present:
                await self._book.forget(*key, entry.figures.process)
        current = [each for each in told if each.figures.revision == present]
        gone = next((each for each in current if each.figures.process == GONE), None)
        processes = [each for each in current if each is not gone]
        known = gone.figures.folded if gone is not None else {}
        for entry in [each for each in processes if each.figures.process in known]:
            if _identity(entry) in self._folded_before:
                await self._book.forget(*key, entry.figures.process)
        dead = [each.figures for each in processes if _identity(each) in silent and each.figures.process not in known]
        if present is not None and dead:
            there = {each.figures.process for each in processes}
            sums = with_folded(gone.figures if gone is not None else None, dead, present, there=there)
            known = sums.folded
            # Also where the sum that is there is of an earlier revision of the endpoint.
            replaced = next((each.revision for each in told if each.figures.process == GONE), 0)
            await self._book.put(*key, sums, revision=replaced)
            log.info("figures of processes that are gone folded", tenant=key[0], endpoint=key[1], processes=len(dead))
        return {_identity(each) for each in processes if each.figures.process in known}

    def _silent(self, entries: Sequence[FiguresEntry]) -> set[tuple[str, str, str]]:
        """Whose figures have not changed for long, in the eyes of this process."""
        now, seen = self._clock.monotonic(), self._seen
        self._seen = {}
        for entry in entries:
            before = seen.get(_identity(entry))
            is_same = before is not None and before.revision == entry.revision
            self._seen[_identity(entry)] = before if is_same and before else _Seen(entry.revision, now)
        return {key for key, each in self._seen.items() if now - each.since_seconds >= SILENT_SECONDS}


def _identity(entry: FiguresEntry) -> tuple[str, str, str]:
    return entry.tenant, entry.name, entry.figures.process
