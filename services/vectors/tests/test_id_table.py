"""The table of ids: it agrees with a dictionary, and its kernels with what they say in Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ergonaut_vectors.domain.compute.cpu.id_table import NONE, IdTable
from ergonaut_vectors.domain.payload import bits
from ergonaut_vectors.domain.segments import ids

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)


def hash_of(name: str) -> int:
    """FNV-1a with the last steps of splitmix64, as stands in files."""
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
    return value ^ value >> 31


@given(st.lists(NAMES, max_size=20))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_hashes_are_the_same_on_every_machine(names: list[str]) -> None:
    asked = ids.asked(names)
    assert asked.hashes.tolist() == [hash_of(name) for name in names]
    assert [ids.id_at(asked.table, row) for row in range(len(names))] == names


@pytest.mark.parametrize("count", [1, ids.TABLE_MIN - 1, ids.TABLE_MIN, 3000])
@pytest.mark.parametrize("growing", [False, True])
def test_a_living_row_is_found_by_its_id_and_no_other(count: int, growing: bool) -> None:
    names = [f"name-{i % (count - count // 3)}" for i in range(count)]  # a third of the ids were written twice
    rows = {name: row for row, name in enumerate(names)}
    live = bits.of_rows(np.array(list(rows.values())), count)
    table = _grown(names) if growing else ids.table_of(ids.asked(names))
    looked_for = [*rows, "nobody", "name-", ""]
    found = ids.rows_with(table, live, ids.asked(looked_for))
    assert found.tolist() == [rows.get(name, NONE) for name in looked_for]


def test_a_view_of_a_growing_table_finds_what_it_had() -> None:
    table = ids.GrowingIds()
    table.append(ids.asked([f"name-{i}" for i in range(200)]))
    before = table.table
    table.append(ids.asked(["name-7", *(f"more-{i}" for i in range(500))]))
    found = ids.rows_with(before, bits.all_of(200), ids.asked(["name-7", "more-3"]))
    assert found.tolist() == [7, NONE]


def test_ids_with_one_hash_are_told_apart() -> None:
    names = ids.asked([f"name-{i}" for i in range(200)])
    same = names._replace(hashes=np.full(200, 5, np.uint64))
    found = np.array([ids.rows_with(ids.table_of(same), bits.all_of(200), same)])
    assert found.tolist() == [list(range(200))]


def test_gathered_ids_come_in_the_order_asked_for() -> None:
    one, other = ids.asked(["a", "bb", "ccc"]).table, ids.asked(["dddd", "é"]).table
    gathered = ids.gathered([(one, np.array([2, 0])), (other, np.array([1])), (one, np.empty(0, np.int64))])
    assert [ids.id_at(gathered.table, row) for row in range(3)] == ["ccc", "a", "é"]
    assert gathered.hashes.tolist() == [hash_of(name) for name in ("ccc", "a", "é")]


@given(st.lists(st.tuples(NAMES, st.integers(1, 2**60)), min_size=1, max_size=8, unique=True), st.randoms())
@settings(max_examples=50, deadline=None, derandomize=True)
def test_a_digest_is_of_the_pairs_whatever_their_order_and_what_came_between(pairs: list, random) -> None:
    shuffled = random.sample(pairs, len(pairs))
    digest = _digest(_digest(ids.Digest(), shuffled, 1), [("gone", 3)], 1)
    assert _digest(digest, [("gone", 3)], -1) == _digest(ids.Digest(), pairs, 1)
    assert _digest(digest, [("gone", 4)], -1) != _digest(ids.Digest(), pairs, 1)


def _digest(digest: ids.Digest, pairs: list[tuple[str, int]], times: int) -> ids.Digest:
    for name, sequence in pairs:
        digest = digest.changed(ids.asked([name]).hashes, np.array([sequence], np.int64), times)
    return digest


def _grown(names: list[str]) -> IdTable:
    table = ids.GrowingIds()
    for first in range(0, len(names), 7):
        table.append(ids.asked(names[first : first + 7]))
    return table.table
