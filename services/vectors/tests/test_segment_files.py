"""Files of segments: what is read is what was written, and whatever is cut off or flipped is told, never passed on."""

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ergonaut.errors import Broken, Unavailable
from ergonaut_vectors.adapters.segment_files import MANIFEST, READ_BYTES_MAX, SegmentFiles
from ergonaut_vectors.domain.segments import layout
from ergonaut_vectors.domain.segments.shard import Shard
from ergonaut_vectors.domain.segments.view import Question
from ergonaut_vectors.domain.segments.work import done
from ergonaut_vectors.domain.segments.writes import Deletes, Upserts
from ergonaut_vectors.domain.space import Space

SPACE = Space(8)


def sealed(shard: Shard, files: SegmentFiles) -> None:
    work = shard.plan_seal()
    assert work is None or shard.install(files.kept(done(work)))


def filled(files: SegmentFiles) -> Shard:
    """Two segments in files, a death in one of them, and rows in a head."""
    shard = Shard(SPACE)
    random = np.random.default_rng(1)
    for position in range(1, 4):
        names = [f"{position}-{i}" for i in range(20)]
        rows = random.normal(size=(20, 8)).astype(np.float32)
        shard.apply(Upserts(names, rows, [{"position": position}] * 20), position)
        if position < 3:
            sealed(shard, files)
    shard.apply(Deletes(("1-3",)), 4)
    sealed(shard, files)
    files.save(shard.checkpoint(), b"mark")
    return shard


def test_a_shard_comes_back_from_its_files(tmp_path: Path) -> None:
    shard = filled(SegmentFiles(tmp_path))
    checkpoint = SegmentFiles(tmp_path).load()
    assert checkpoint is not None
    again = Shard.open(SPACE, None, checkpoint)
    queries = np.random.default_rng(2).normal(size=(5, 8)).astype(np.float32)
    assert again.view.search(queries, Question(59)) == shard.view.search(queries, Question(59))
    assert (again.position, again.view.mark, again.view.digest) == (4, b"mark", shard.view.digest)
    assert again.view.get(["1-3"]) == [None]
    stored = again.view.get(["2-7"])[0]
    assert stored is not None
    assert again.view.payload(stored.place) == {"position": 2}


def test_what_cannot_be_written_leaves_nothing_behind_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = SegmentFiles(tmp_path)
    shard = filled(files)
    before = sorted(path.name for path in tmp_path.iterdir())

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(Unavailable, match=r"manifest could not be written: .*No space left on device"):
        files.save(shard.checkpoint(), b"mark")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_new_folder_has_no_state_and_sweeping_leaves_what_counts(tmp_path: Path) -> None:
    files = SegmentFiles(tmp_path / "new")
    assert files.load() is None
    filled(files)
    stray = tmp_path / "new" / "99999999.segment"
    stray.write_bytes(b"of a process that died")
    files.sweep()
    assert not stray.exists()
    assert files.load() is not None


def test_what_a_new_state_does_not_need_is_removed_once_nobody_holds_it(tmp_path: Path) -> None:
    files = SegmentFiles(tmp_path)
    shard = filled(files)
    with files.held() as manifest:
        assert manifest is not None
        shard.apply(Deletes([f"1-{i}" for i in range(20)]), 5)
        sealed(shard, files)
        work = shard.plan_work()
        assert work is not None
        assert shard.install(files.kept(done(work)))
        sealed(shard, files)
        saved = files.save(shard.checkpoint(), b"later")
        assert set(saved.segments) < set(manifest.segments)
        assert all(files.path(name).exists() for name in manifest.segments)
    assert {path.stem for path in tmp_path.iterdir()} == {MANIFEST, *saved.segments}


def test_a_process_that_dies_before_its_manifest_leaves_the_state_before(tmp_path: Path) -> None:
    files = SegmentFiles(tmp_path)
    shard = filled(files)
    before = {path.name for path in tmp_path.iterdir()}
    shard.apply(Upserts(["new"], np.ones((1, 8), np.float32)), 5)
    sealed(shard, files)
    (tmp_path / f"{MANIFEST}.unfinished").write_bytes(b"half of a manifest")
    again = SegmentFiles(tmp_path)
    again.sweep()
    checkpoint = again.load()
    assert checkpoint is not None
    assert checkpoint.view.position == 4
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_large_segment_is_mapped_and_found_as_a_small_one(tmp_path: Path) -> None:
    shard, files = Shard(SPACE), SegmentFiles(tmp_path)
    rows = np.random.default_rng(5).normal(size=(40_000, 8)).astype(np.float32)
    shard.apply(Upserts([str(i) for i in range(len(rows))], rows), 1)
    sealed(shard, files)
    files.save(shard.checkpoint(), b"")
    assert files.path("00000000").stat().st_size > READ_BYTES_MAX
    checkpoint = SegmentFiles(tmp_path).load()
    assert checkpoint is not None
    assert [hits[0].id for hits in checkpoint.view.search(rows[[7, 39_999]], Question(1))] == ["7", "39999"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("segments")
    filled(SegmentFiles(path))
    return path


@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), at=st.integers(0, 3))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_a_flipped_bit_anywhere_is_told_with_its_file(folder: Path, share: float, bit: int, at: int) -> None:
    path = sorted(folder.iterdir())[at]
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[int(share * len(whole))] ^= 1 << bit
    _is_told(folder, path, bytes(damaged), whole)


@given(share=st.floats(0, 1, exclude_max=True), at=st.integers(0, 3))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_file_that_was_cut_off_is_told(folder: Path, share: float, at: int) -> None:
    path = sorted(folder.iterdir())[at]
    whole = path.read_bytes()
    _is_told(folder, path, whole[: int(share * len(whole))], whole)


def _is_told(folder: Path, path: Path, damaged: bytes, whole: bytes) -> None:
    path.write_bytes(damaged)
    try:
        with pytest.raises(Broken, match=path.name):
            SegmentFiles(folder).load()
    finally:
        path.write_bytes(whole)


def test_damage_is_told_with_its_block_and_found_later_when_it_is_not_looked_for(tmp_path: Path) -> None:
    arrays = {"first": np.arange(200_000, dtype=np.float32), "none": np.empty((0, 3), np.int8)}
    damaged = bytearray(b"".join(layout.pieces({"a": "ü"}, arrays)))
    assert layout.opened(memoryview(damaged), "file").about == {"a": "ü"}
    damaged[700_000] ^= 4
    contents = layout.opened(memoryview(damaged), "file", verified=False)
    assert contents.arrays["none"].shape == (0, 3)
    for look in (layout.opened, layout.verify):
        with pytest.raises(Broken, match="file is damaged in block 2 of 4"):
            look(memoryview(damaged), "file")


def test_a_segment_that_is_missing_is_told(tmp_path: Path) -> None:
    filled(SegmentFiles(tmp_path))
    next(path for path in tmp_path.iterdir() if path.name != MANIFEST).unlink()
    with pytest.raises(Broken, match="is missing"):
        SegmentFiles(tmp_path).load()


def test_a_segment_of_another_state_under_the_same_name_is_told(tmp_path: Path) -> None:
    filled(SegmentFiles(tmp_path / "one"))
    shard = Shard(SPACE)
    shard.apply(Upserts([f"{i}" for i in range(20)], np.ones((20, 8), np.float32)), 1)
    sealed(shard, SegmentFiles(tmp_path / "other"))
    shutil.copy(tmp_path / "other" / "00000000.segment", tmp_path / "one" / "00000000.segment")
    with pytest.raises(Broken, match="not those of the manifest"):
        SegmentFiles(tmp_path / "one").load()


def test_arrays_lie_at_multiples_of_a_cache_line(tmp_path: Path) -> None:
    shard = filled(SegmentFiles(tmp_path))
    for part in shard.view.parts:
        for array in part.store.arrays.values():
            assert array.ctypes.data % 64 == 0 or not array.size
