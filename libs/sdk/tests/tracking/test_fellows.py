"""Notes of ranks on one host, where the first rank and another one leave at the same moment."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ergonaut.metering.processtable import ProcessStat, ProcessTable, open_process_table
from ergonaut.tracking.fellows import Announcement, Fellows
from ergonaut.tracking.ranks import Rank


class Interrupted:
    """This host's processes; something happens once, just after one of them was looked at."""

    def __init__(self, table: ProcessTable) -> None:
        self._table = table
        self.then: Callable[[], None] | None = None

    def read(self, pid: int) -> ProcessStat | None:
        found = self._table.read(pid)
        if (then := self.then) is not None:
            self.then = None
            then()
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._table, name)


@pytest.mark.parametrize("was_metered", [True, False])
def test_a_rank_that_leaves_as_the_first_one_does_leaves_no_note(tmp_path: Path, *, was_metered: bool) -> None:
    table: Any = Interrupted(open_process_table())
    own = table.read(os.getpid())
    rank = Rank(1, own, own.parent_pid, "job")
    first, other = Fellows(tmp_path, rank, table), Announcement(tmp_path, rank, table)
    first.begin()
    assert other.begin()
    if was_metered:
        assert len(first.told()) == 1
    table.then = first.close
    assert other.leave() is was_metered, "it tells whether anybody had its word"
    assert list((tmp_path / "ranks").glob("*")) == []
