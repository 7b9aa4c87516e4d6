"""The files of one shard in a folder: segments, and the manifest that names those which count. Used by whoever runs the shard.

A segment is written whole before a manifest names it; a manifest takes the place of the one before in one step. So whatever
moment a process dies at, the folder holds one state that is whole, and perhaps files that nobody needs, which `sweep` removes.
"""

import contextlib
import mmap
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ergonaut.errors import Broken, Unavailable
from ergonaut_vectors.domain.segments.layout import ALIGNMENT, Contents, opened, pieces, verify
from ergonaut_vectors.domain.segments.manifest import Manifest
from ergonaut_vectors.domain.segments.segment import Segment
from ergonaut_vectors.domain.segments.shard import Checkpoint
from ergonaut_vectors.domain.segments.work import Done, Job, Work
from ergonaut_vectors.domain.space import Space

MANIFEST = "manifest"
READ_BYTES_MAX = 1024 * 1024
"""Files up to this size are read, not mapped: a mapped one costs an open file and a page table, and tenants are many."""

_SEGMENT, _UNFINISHED = ".segment", ".unfinished"


class SegmentFiles:
    """Writes and maps. `verified` says whether every block is checked when a file is opened, or only what opening needs."""

    def __init__(self, folder: Path, *, verified: bool = True) -> None:
        self._folder = folder
        self._verified = verified
        self._lock = threading.Lock()
        self._holders = 0
        self._outdated: set[str] = set()

    def check(self, work: Work) -> None:
        """Check every block of the segments that become another; Broken naming the first that is damaged.

        What is mapped is what is on disk, so that damage that came since they were opened would be given good checksums.
        """
        for part in work.parts:
            if work.job is Job.MERGE and isinstance(part.store, Segment):
                verify_file(self.path(part.store.name))

    def kept(self, result: Done) -> Done:
        """The result with its segment on disk and mapped from there. Blocks; for the thread that did the work."""
        if result.segment is None:
            return result
        return replace(result, segment=self.keep(result.segment, result.work.space))

    def keep(self, segment: Segment, space: Space) -> Segment:
        """Write a segment and give it back mapped."""
        self._write(segment.name + _SEGMENT, segment.about, segment.arrays)
        return self._segment(segment.name, space, verified=False)

    def save(self, checkpoint: Checkpoint, mark: bytes) -> Manifest:
        """Let this be what the next start comes back to; it is on disk when this returns. What it replaces is removed."""
        before = self.manifest()
        manifest = Manifest.of(checkpoint, mark)
        self._write(MANIFEST, manifest.about, manifest.arrays)
        with self._lock:
            self._outdated |= set(before.segments if before else ()) - set(manifest.segments)
            self._remove_outdated()
        return manifest

    @contextlib.contextmanager
    def held(self) -> Iterator[Manifest | None]:
        """What was saved last; none of its files is removed while the block runs, as a copy to elsewhere needs it."""
        with self._lock:
            self._holders += 1
        try:
            yield self.manifest()
        finally:
            with self._lock:
                self._holders -= 1
                self._remove_outdated()

    def manifest(self) -> Manifest | None:
        """What was saved last; None in a new folder. Broken where it cannot be read."""
        path = self._folder / MANIFEST
        return Manifest.read(_mapped(path, verified=True)) if path.exists() else None

    def load(self) -> Checkpoint | None:
        """The state that was saved last, its mark as bytes; None in a new folder. Broken naming the file that is not whole."""
        manifest = self.manifest()
        if manifest is None:
            return None
        return manifest.checkpoint(lambda name: self._segment(name, manifest.space, verified=self._verified))

    def verify(self) -> None:
        """Check every block of every file that counts; Broken naming the first that is damaged."""
        manifest = self.manifest()
        for name in manifest.segments if manifest else ():
            verify_file(self.path(name))

    def sweep(self) -> None:
        """Remove what a process left behind that died; for a start, before there is any work that writes."""
        manifest = self.manifest()
        wanted = {name + _SEGMENT for name in (manifest.segments if manifest else ())} | {MANIFEST}
        if self._folder.exists():
            for path in self._folder.iterdir():
                if path.name not in wanted:
                    path.unlink(missing_ok=True)

    def path(self, name: str) -> Path:
        """Where a segment's file is."""
        return self._folder / (name + _SEGMENT)

    def _remove_outdated(self) -> None:
        """Unless somebody holds them. Readers that have them mapped are not disturbed."""
        if not self._holders:
            for name in self._outdated:
                self.path(name).unlink(missing_ok=True)
            self._outdated.clear()

    def _segment(self, name: str, space: Space, *, verified: bool) -> Segment:
        contents = _mapped(self.path(name), verified=verified)
        return Segment.open(name, space, contents.arrays, contents.about)

    def _write(self, name: str, about: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        path, unfinished = self._folder / name, self._folder / (name + _UNFINISHED)
        try:
            if not self._folder.exists():
                self._folder.mkdir(parents=True, exist_ok=True)
                sync_folder(self._folder.parent)
            with unfinished.open("wb") as file:
                for piece in pieces(about, arrays):
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
            sync_folder(self._folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                # On a full disk this is the room that the next attempt needs.
                unfinished.unlink(missing_ok=True)
            raise Unavailable(f"{path} could not be written: {error}") from error


def verify_file(path: Path) -> None:
    """Check every block of a file; Broken naming the first that is damaged."""
    verify(_map(path), str(path))


def _mapped(path: Path, *, verified: bool) -> Contents:
    return opened(_map(path), str(path), verified=verified)


def _map(path: Path) -> memoryview:
    """The file in memory: private pages, so that arrays over it are of the type that kernels are compiled for."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise Broken(f"{path} is empty and was cut off")
            if size <= READ_BYTES_MAX:
                return _read(file, size)
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    except FileNotFoundError as error:
        raise Broken(f"{path} is missing, though it was written") from error
    except OSError as error:
        raise Unavailable(f"{path} could not be read: {error}") from error


def _read(file: BufferedReader, size: int) -> memoryview:
    """The bytes of a file, beginning at a cache line as a mapped one does."""
    room = np.empty(size + ALIGNMENT, np.uint8)
    first = -room.ctypes.data % ALIGNMENT
    place = memoryview(room)[first : first + size]  # type: ignore[arg-type]
    taken = file.readinto(place)
    return place[:taken]


def sync_folder(folder: Path) -> None:
    """Make a renaming last through a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
