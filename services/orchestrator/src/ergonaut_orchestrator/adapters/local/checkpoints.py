"""Packs what a program saved for its next attempt, and lays it out again: a plain tar, since weights hardly compress."""

import contextlib
import os
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, BinaryIO, cast

from ergonaut.errors import Refused

FILES_MAX = 10_000
"""A checkpoint is a few files a worker; whoever saves more has the wrong folder."""

LINKS_ARE_TAKEN = hasattr(tarfile, "data_filter")
"""Python 3.11 lays out links safely from 3.11.4 on; before, they are left out here, for they would be refused there."""


def pack(folder: Path, *, bytes_max: int) -> BinaryIO | None:
    """The folder as a tar, unnamed and beside it on the disk; None where it is empty.

    Raises Refused where it is too large, or holds what its program allows nobody to read: no later try would change that.
    """
    root = folder.resolve()
    try:
        found = list(_within_bounds(root, bytes_max))
        return _packed(found, root) if found else None
    except PermissionError as error:
        told = f"the checkpoint cannot be read: {error.filename}: {error.strerror}"
        raise Refused(told, field="checkpoint_folder") from error


def _packed(found: Sequence[Path], root: Path) -> BinaryIO:
    with contextlib.ExitStack() as unless_done:
        packed: IO[bytes] = unless_done.enter_context(tempfile.TemporaryFile(dir=root.parent))
        with tarfile.open(fileobj=packed, mode="w:") as tar:
            for path in found:
                _add(tar, path, root)
        packed.seek(0)
        unless_done.pop_all()
        return cast(BinaryIO, packed)


def _within_bounds(root: Path, bytes_max: int) -> Iterator[Path]:
    total_bytes = 0
    for count, path in enumerate(_files(root), start=1):
        total_bytes += path.lstat().st_size
        if count > FILES_MAX:
            raise Refused(f"the checkpoint has more than {FILES_MAX} files", field="checkpoint_folder")
        if total_bytes > bytes_max:
            raise Refused(f"the checkpoint has more than {bytes_max} bytes", field="checkpoint_folder")
        yield path


def _files(root: Path) -> Iterator[Path]:
    """Files, and links to what lies inside, in one order; a link that leads out, or nowhere but to itself, is left behind."""
    for parent, folders, names in os.walk(root, onerror=_raise):
        folders.sort()
        for name in sorted([*names, *folders]):
            path = Path(parent) / name
            if path.is_symlink():
                if LINKS_ARE_TAKEN and (target := _target(path)) and target.is_relative_to(root):
                    yield path
            elif path.is_file():
                yield path


def _raise(error: OSError) -> None:
    """A folder that cannot be listed: a checkpoint without its files would be taken for a whole one."""
    raise error


def _target(link: Path) -> Path | None:
    """Where a link leads; None for one that leads in a circle, for which Python before 3.13 raises."""
    try:
        return link.resolve()
    except RuntimeError:
        return None


def _add(tar: tarfile.TarFile, path: Path, root: Path) -> None:
    member = tarfile.TarInfo(path.relative_to(root).as_posix())
    if path.is_symlink():
        # Relative, for the next attempt's folder has another name.
        member.type, member.linkname = tarfile.SYMTYPE, os.path.relpath(path.resolve(), path.parent)
        tar.addfile(member)
        return
    # Nobody may have put a link in its place since it was found.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as content:
        status = os.fstat(content.fileno())
        member.size, member.mode, member.mtime = status.st_size, 0o600 | (status.st_mode & 0o100), status.st_mtime
        tar.addfile(member, content)
