"""What the rounds of `make chaos-vectors` take for lost, for half written, for not deleted."""

from collections.abc import Sequence

import pytest

from .chaos.truth import Change, Drop, Points, Put, Written, Wrong, after, check_same, check_whole_or_not

BEFORE: Points = {"a1": (b"1", {"x": 1}), "b1": (b"2", {}), "a2": (b"3", {})}
BOTH = Put({"a1": (b"9", {}), "b2": (b"9", {})}, "both")


def by_letter(names: Sequence[str]) -> Sequence[int]:
    return [ord(name[0]) for name in names]


def test_points_are_as_the_last_write_left_them() -> None:
    assert after(BEFORE, Drop(["a1", "none"])) == {"b1": (b"2", {}), "a2": (b"3", {})}
    assert after(BEFORE, Change({"a1": {"y": 2}}, merged=True))["a1"] == (b"1", {"x": 1, "y": 2})
    assert after(BEFORE, Change({"a1": {"y": 2}}, merged=False))["a1"] == (b"1", {"y": 2})
    assert after(BEFORE, BOTH) == {**BEFORE, "a1": (b"9", {}), "b2": (b"9", {})}


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({name: BEFORE[name] for name in ("a1", "b1")}, "lost 1 ['a2']"),
        ({**BEFORE, "c": (b"4", {})}, "not deleted 1 ['c']"),
        ({**BEFORE, "b1": (b"2", {"z": 0})}, "another content 1"),
    ],
)
def test_whatever_is_lost_left_or_changed_is_told(found: Points, told: str) -> None:
    with pytest.raises(Wrong) as error:
        check_same(found, BEFORE, "here")
    assert told in str(error.value)


@pytest.mark.parametrize("written", [BOTH, Drop(["a1", "b1"]), Change({"a1": {}, "a2": {"x": 2}}, merged=False)])
def test_of_a_write_of_unknown_outcome_each_shard_may_have_its_part_or_nothing(written: Written) -> None:
    then = after(BEFORE, written)
    for new in ("", "a", "b", "ab"):
        found = {name: point for name, point in then.items() if name[0] in new}
        found |= {name: point for name, point in BEFORE.items() if name[0] not in new}
        check_whole_or_not(found, BEFORE, written, by_letter, "here")


def test_half_of_a_shards_part_is_told() -> None:
    written = Put({"a1": (b"9", {}), "a2": (b"9", {})}, "part")
    with pytest.raises(Wrong, match="beside a write of unknown outcome"):
        check_whole_or_not({**BEFORE, "a1": (b"9", {})}, BEFORE, written, by_letter, "here")
