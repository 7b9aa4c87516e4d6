"""How batches are written into a log and read back, and that damage never goes unnoticed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ergonaut.errors import Broken
from ergonaut_vectors.domain.batches import (
    ENTRIES_MAX,
    MESSAGE_BYTES_MAX,
    NO_DIGEST,
    Batch,
    Chain,
    Head,
    digest_of,
    messages_of,
    name_of,
    part_of,
)
from ergonaut_vectors.domain.segments.writes import Changes, Deletes, Upserts, Write


def upserts(count: int, dimension: int = 4, *, seed: int = 1) -> Upserts:
    rows = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    return Upserts([f"é{i}" for i in range(count)], rows, [{"label": [i, None]} for i in range(count)])


def written(*writes: Write) -> list[bytes]:
    """The messages of a log to which these were written."""
    messages: list[bytes] = []
    for write in writes:
        messages += messages_of(Batch(write), digest_of(messages[-1]) if messages else NO_DIGEST)
    return messages


def read(messages: list[bytes]) -> list[Write]:
    chain = Chain()
    return [batch.write for at, each in enumerate(messages, 1) if (batch := chain.take(at, each)) is not None]


def assert_equal(one: Write, other: Write) -> None:
    assert type(one) is type(other)
    assert list(one.ids) == list(other.ids)
    if isinstance(one, Upserts) and isinstance(other, Upserts):
        assert list(one.payloads) == list(other.payloads)
        assert one.rows.dtype == other.rows.dtype
        np.testing.assert_array_equal(one.rows, other.rows)
    if isinstance(one, Changes) and isinstance(other, Changes):
        assert (list(one.payloads), one.merged) == (list(other.payloads), other.merged)


def test_batches_come_back_as_they_were_written() -> None:
    changes = [Changes(("a", "b"), ({"x": {"y": [1.5]}}, {}), merged) for merged in (False, True)]
    batches = [upserts(3), Deletes(("é1", "unknown")), upserts(1, seed=2), *changes, Changes(("a",), ({},))]
    for before, after in zip(batches, read(written(*batches)), strict=True):
        assert_equal(before, after)


@pytest.mark.parametrize("number", [np.float32, np.float16, np.uint8, np.int8])
@pytest.mark.parametrize("count", [1, ENTRIES_MAX, ENTRIES_MAX + 1])
def test_each_kind_of_number_comes_back_with_and_without_payloads(number: type, count: int) -> None:
    rows = (np.arange(count * 5) % 100).reshape(count, 5).astype(number)
    for payloads in ((), [{}] * (count - 1) + [{"last": True}]):
        before = Upserts([str(at) for at in range(count)], rows, payloads)
        messages = written(before)
        assert len(messages) == -(-count // ENTRIES_MAX)
        assert_equal(before, read(messages)[0])


def test_a_batch_keeps_its_name_in_each_of_its_parts() -> None:
    messages = messages_of(Batch(upserts(200), name_of("mine")), NO_DIGEST)
    assert {part_of(each).batch.name for each in messages} == {name_of("mine")}
    assert name_of("") == NO_DIGEST


FIRST_VERSION = (
    "45564c310101000100020000000200000020000000000000005b5b22c3a930222c7b226c6162656c223a2241227d5d2c5b2278222c7b7d5d5d"
    "0000803f0000004000004040000090405ceeabf5",
    "45564c3102010001000100000000000000070000005ceeabf55b22c3a930225d37a99ae8",
)
"""As the first version wrote them: two vectors, and the removal of one."""


def test_a_log_of_the_first_version_is_read_and_goes_on_in_this_one() -> None:
    old = [bytes.fromhex(each) for each in FIRST_VERSION]
    messages = [*old, *messages_of(Batch(upserts(1)), digest_of(old[-1]))]
    first, removal, new = read(messages)
    assert_equal(first, Upserts(["é0", "x"], np.array([[1, 2], [3, 4.5]], np.float32), [{"label": "A"}, {}]))
    assert_equal(removal, Deletes(["é0"]))
    assert_equal(new, upserts(1))
    del messages[1]
    with pytest.raises(Broken, match="hole"):
        read(messages)


def test_a_log_is_read_on_from_a_head_and_another_history_is_found_out() -> None:
    messages = written(upserts(1), upserts(2), upserts(3))
    chain = Chain(Head(2, digest_of(messages[1])))
    assert chain.take(2, messages[1]) is None
    batch = chain.take(3, messages[2])
    assert batch is not None
    assert_equal(batch.write, upserts(3))
    with pytest.raises(Broken, match="another history"):
        Chain(Head(2, digest_of(messages[0]))).take(3, messages[2])


def test_a_large_batch_is_cut_into_messages_that_fit_and_applies_as_one() -> None:
    batch = upserts(1024, 2048)
    messages = written(batch)
    assert len(messages) > 5
    assert max(map(len, messages)) <= MESSAGE_BYTES_MAX
    (after,) = read(messages)
    assert_equal(batch, after)


def test_parts_that_a_dead_writer_left_behind_never_apply() -> None:
    left = written(upserts(1024, 2048))[:3]
    messages = [*left, *messages_of(Batch(upserts(2)), digest_of(left[-1]))]
    (after,) = read(messages)
    assert_equal(after, upserts(2))


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_missing_message_is_found_out(missing: int) -> None:
    messages = written(upserts(1), upserts(2), upserts(3), upserts(4))
    del messages[missing]
    with pytest.raises(Broken, match="hole"):
        read(messages)


def test_a_jump_of_the_position_is_found_out() -> None:
    first, second = written(upserts(1), upserts(2))
    chain = Chain()
    chain.take(1, first)
    with pytest.raises(Broken, match="message 3 does not follow message 1"):
        chain.take(3, second)


def test_a_message_that_was_taken_is_not_taken_again() -> None:
    first, second = written(upserts(1), upserts(2))
    chain = Chain()
    chain.take(1, first)
    chain.take(2, second)
    assert chain.take(1, first) is None
    assert chain.take(2, second) is None


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
@settings(max_examples=200, deadline=None)
def test_any_flipped_bit_is_found_out(at: int, bit: int) -> None:
    message = bytearray(written(upserts(3))[0])
    message[at % len(message)] ^= 1 << bit
    with pytest.raises(Broken):
        part_of(bytes(message))


@given(length=st.integers(0, 200))
def test_a_message_that_was_cut_short_is_found_out(length: int) -> None:
    message = written(upserts(20))[0]
    with pytest.raises(Broken):
        Chain().take(1, message[:length])
