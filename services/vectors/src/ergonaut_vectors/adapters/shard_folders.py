"""The ports `Stores` and `Store` in folders: `<root>/<uid of the collection>`, each as `segment_files.py` has it."""

import shutil
from collections.abc import Container, Sequence
from pathlib import Path

from ergonaut.errors import Broken, Unavailable
from ergonaut_vectors.adapters.segment_files import MANIFEST, SegmentFiles
from ergonaut_vectors.domain.replica import Kept
from ergonaut_vectors.domain.segments.work import Done, Work

DAMAGED = ".damaged"
"""Behind the name of a folder that was set aside; a collection keeps the last one."""


class ShardFolders:
    """The folders of all collections."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def of(self, uid: str) -> "ShardFolder":
        return ShardFolder(self._root / uid)

    def recent(self, limit: int) -> Sequence[str]:
        if not self._root.exists():
            return []
        saved = [(path.stat().st_mtime_ns, path.parent.name) for path in self._root.glob(f"*/{MANIFEST}")]
        return [uid for _, uid in sorted(saved, reverse=True)[:limit] if not uid.endswith(DAMAGED)]

    def remove(self, uid: str) -> None:
        for name in (uid, uid + DAMAGED):
            _remove(self._root / name)

    def retain(self, uids: Container[str]) -> None:
        for path in self._root.iterdir() if self._root.exists() else ():
            if path.name.removesuffix(DAMAGED) not in uids:
                _remove(path)


class ShardFolder:
    """The folder of one collection."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = SegmentFiles(folder)

    def load(self) -> Kept | None:
        try:
            self._files.sweep()
            checkpoint = self._files.load()
        except (KeyError, ValueError, TypeError) as error:
            # Whole by its checksums, and yet not what this version expects.
            raise Broken(f"{self._folder} was written by another version: {error!r}") from error
        return None if checkpoint is None else Kept(checkpoint, checkpoint.view.mark)

    def check(self, work: Work) -> None:
        self._files.check(work)

    def keep(self, result: Done) -> Done:
        return self._files.kept(result)

    def save(self, kept: Kept) -> None:
        self._files.save(kept.checkpoint, kept.mark)

    def set_aside(self) -> None:
        aside = self._folder.with_name(self._folder.name + DAMAGED)
        _remove(aside)
        try:
            self._folder.rename(aside)
        except OSError as error:
            raise Unavailable(f"{self._folder} could not be set aside: {error}") from error


def _remove(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise Unavailable(f"{path} could not be removed: {error}") from error
