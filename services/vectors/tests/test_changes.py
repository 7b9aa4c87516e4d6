"""What was written is told now and then, added up, and again where the bus was away."""

import numpy as np

from ergonaut.errors import Unavailable
from ergonaut_vectors.catalogue import Kept
from ergonaut_vectors.changes import Change, Changes
from ergonaut_vectors.domain.records import Key
from ergonaut_vectors.domain.segments.writes import Changes as PayloadChanges
from ergonaut_vectors.domain.segments.writes import Deletes, Upserts

PAGES, NOTES = Key("acme", "pages"), Key("acme", "notes")


class Listening:
    """Hears what is told, unless it is away."""

    def __init__(self) -> None:
        self.heard: list[tuple[Key, Change]] = []
        self.away = False

    async def changed(self, key: Key, change: Change) -> None:
        if self.away:
            raise Unavailable("the bus is away")
        self.heard.append((key, change))

    async def kept(self, tenant: str, kept: Kept) -> None:
        raise Unavailable("the bus is away")


def upserts(count: int) -> Upserts:
    return Upserts([str(number) for number in range(count)], np.zeros((count, 2), np.float32))


async def test_what_happened_is_added_up_by_collection() -> None:
    listening = Listening()
    changes = Changes(listening)
    changes.note(PAGES, upserts(3), {0: 5})
    changes.note(PAGES, Deletes(["a"]), {1: 7})
    changes.note(NOTES, PayloadChanges(["a", "b"], [{}, {}]), {0: 1})
    await changes.tell()
    await changes.tell()
    assert listening.heard == [(PAGES, Change({0: 5, 1: 7}, 3, 1, 0)), (NOTES, Change({0: 1}, 0, 0, 2))]


async def test_what_could_not_be_told_is_told_with_what_follows() -> None:
    listening = Listening()
    changes = Changes(listening)
    listening.away = True
    changes.note(PAGES, upserts(3), {0: 5})
    await changes.tell()
    listening.away = False
    changes.note(PAGES, upserts(2), {0: 6})
    await changes.tell()
    assert listening.heard == [(PAGES, Change({0: 6}, 5, 0, 0))]


async def test_where_a_log_ends_that_is_opened_is_told_for_the_process_before_may_have_died_untold() -> None:
    listening = Listening()
    changes = Changes(listening)
    changes.note_end(PAGES.of_shard(1), 9)
    changes.note_end(PAGES, 4)
    changes.note_end(NOTES, 0)
    changes.note(PAGES, upserts(2), {0: 5})
    await changes.tell()
    assert listening.heard == [(PAGES, Change({0: 5, 1: 9}, 2, 0, 0))]


async def test_what_is_left_at_the_end_is_told() -> None:
    listening = Listening()
    changes = Changes(listening)
    async with changes.running():
        changes.note(PAGES, upserts(1), {0: 1})
    assert listening.heard == [(PAGES, Change({0: 1}, 1, 0, 0))]
