"""How batches are written into a log and read back, and that damage never goes unnoticed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ergonaut.errors import Broken
from ergonaut_vectors.domain.batches import MESSAGE_BYTES_MAX, Chain, checksum_of, messages_of, part_of
from ergonaut_vectors.domain.schema import Batch, Deletes, Upserts


def upserts(count: int, dimension: int = 4, *, seed: int = 1) -> Upserts:
    vectors = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    return Upserts(tuple(f"é{i}" for i in range(count)), vectors, tuple({"label": str(i)} for i in range(count)))


def written(*batches: Batch) -> list[bytes]:
    """The messages of a log to which these batches were written."""
    messages: list[bytes] = []
    for batch in batches:
        messages += messages_of(batch, checksum_of(messages[-1]) if messages else 0)
    return messages


def read(messages: list[bytes]) -> list[Batch]:
    chain = Chain()
    return [batch for at, each in enumerate(messages, 1) if (batch := chain.take(at, each)) is not None]


def assert_equal(one: Batch, other: Batch) -> None:
    assert one.ids == other.ids
    if isinstance(one, Upserts):
        assert isinstance(other, Upserts)
        assert one.attributes == other.attributes
        np.testing.assert_array_equal(one.vectors, other.vectors)


def test_batches_come_back_as_they_were_written() -> None:
    batches = [upserts(3), Deletes(("é1", "unknown")), upserts(1, seed=2)]
    for before, after in zip(batches, read(written(*batches)), strict=True):
        assert_equal(before, after)


def test_a_large_batch_is_cut_into_messages_that_fit_and_applies_as_one() -> None:
    batch = upserts(1024, 2048)
    messages = written(batch)
    assert len(messages) > 5
    assert max(map(len, messages)) <= MESSAGE_BYTES_MAX
    (after,) = read(messages)
    assert_equal(batch, after)


def test_parts_that_a_dead_writer_left_behind_never_apply() -> None:
    left = messages_of(upserts(1024, 2048), 0)[:3]
    messages = [*left, *messages_of(upserts(2), checksum_of(left[-1]))]
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
