"""The port `Saved` on the folders of `shard_folders.py`: a state is copied by links to its segments, which never change."""

import os
import shutil
from pathlib import Path

from ergonaut.errors import Unavailable
from ergonaut_vectors.adapters.segment_files import MANIFEST, SegmentFiles, verify_file
from ergonaut_vectors.adapters.shard_folders import ShardFolder, ShardFolders
from ergonaut_vectors.domain.segments.manifest import Manifest
from ergonaut_vectors.ports import Store

TRIES_MAX = 10
"""A segment that goes while links are made has been replaced by another, seconds of work later; so many in a row never happen."""


class SavedShards:
    """The folders under one root."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def copy(self, store: str, target: Path) -> None:
        source = self._root / store
        for _ in range(TRIES_MAX):
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            try:
                _link(source, target)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise Unavailable(f"{source} could not be copied: {error}") from error
            return
        raise Unavailable(f"{source} changed {TRIES_MAX} times while it was copied; try again later")

    def link(self, store: str, name: str, target: Path) -> bool:
        if name == MANIFEST:
            return False
        try:
            os.link(self._root / store / name, target)
        except OSError:
            return False
        return True

    def manifest(self, folder: Path) -> Manifest | None:
        return SegmentFiles(folder).manifest()

    def verify(self, path: Path) -> None:
        verify_file(path)

    def put(self, folder: Path, store: str) -> None:
        target = self._root / store
        try:
            shutil.rmtree(target, ignore_errors=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(target)
        except OSError as error:
            raise Unavailable(f"{target} could not be put in place: {error}") from error

    def remove(self, store: str) -> None:
        ShardFolders(self._root).remove(store)

    def open(self, folder: Path) -> Store:
        return ShardFolder(folder)


def _link(source: Path, target: Path) -> None:
    """Link what the manifest names. The manifest itself is copied first: it is replaced by renaming, so the copy is whole."""
    if not (source / MANIFEST).exists():
        return
    shutil.copyfile(source / MANIFEST, target / MANIFEST)
    manifest = SegmentFiles(target).manifest()
    for name in manifest.segments if manifest else ():
        os.link(SegmentFiles(source).path(name), SegmentFiles(target).path(name))
