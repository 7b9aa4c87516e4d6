"""Chosen rows and ids, copied by kernels as NumPy would."""

import numpy as np

from ergonaut_vectors.domain.compute.cpu.gathering import copy_rows, copy_texts


def test_chosen_rows_are_copied_as_numpy_does() -> None:
    random = np.random.default_rng(1)
    rows, chosen = random.integers(0, 256, (50, 13)).astype(np.uint8), random.integers(0, 50, 80)
    copied = np.empty((80, 13), np.uint8)
    copy_rows(rows, chosen, copied)
    np.testing.assert_array_equal(copied, rows[chosen])


def test_chosen_texts_are_copied_one_behind_the_other() -> None:
    texts = [b"a", b"", b"longer", b"\xc3\xa9"]
    blob, offsets = np.frombuffer(bytearray(b"".join(texts)), np.uint8), np.array([0, 1, 1, 7, 9])
    chosen, copied_offsets = np.array([3, 2, 1, 2]), np.array([0, 2, 8, 8, 14])
    copied = np.zeros(14, np.uint8)
    copy_texts(blob, offsets, chosen, copied, copied_offsets)
    assert copied.tobytes() == b"".join(texts[each] for each in chosen)
