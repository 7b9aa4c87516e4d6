"""Lays out a job's files, or its checkpoint, from an archive that somebody made, trusting it in nothing."""

import errno
import gzip
import io
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ergonaut.errors import Refused, Unavailable

READ_BYTES_MAX = 1024 * 1024
"""Contents are read in small pieces; only a header that claims to be huge is asked for in a large one."""


class _Frugal(gzip.GzipFile):
    """An archive that never gives more at once than a header or a piece of a file can be."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= READ_BYTES_MAX:
            raise Refused("the archive holds a header of more than 1 MiB", field="job.source")
        return super().read(size)


def unpack(archive: bytes, folder: Path, *, files_max: int, bytes_max: int) -> None:
    """Extract a gzipped tar below a folder. Raises Refused where it leaves the folder, holds devices, or is too large."""
    try:
        with _Frugal(fileobj=io.BytesIO(archive)) as packed, tarfile.open(fileobj=packed, mode="r:") as tar:
            _extract_within(tar, folder, files_max=files_max, bytes_max=bytes_max)
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise Unavailable(f"the disk of {folder} is full; make room") from error
        raise Refused(f"the job's files cannot be unpacked: {error}", field="job.source") from error


def unpack_checkpoint(packed: BinaryIO, folder: Path, *, files_max: int, bytes_max: int) -> None:
    """Extract what `checkpoints.pack` made. Raises as `unpack` does."""
    try:
        with tarfile.open(fileobj=packed, mode="r:") as tar:
            _extract_within(tar, folder, files_max=files_max, bytes_max=bytes_max)
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise Unavailable(f"the disk of {folder} is full; make room") from error
        raise Refused(f"the checkpoint cannot be laid out: {error}", field="checkpoint") from error


def _extract_within(tar: tarfile.TarFile, folder: Path, *, files_max: int, bytes_max: int) -> None:
    total_bytes = 0
    for count, member in enumerate(tar, start=1):
        total_bytes += member.size
        if count > files_max:
            raise Refused(f"the archive holds more than {files_max} files", field="job.source")
        if total_bytes > bytes_max:
            raise Refused(f"the archive unpacks to more than {bytes_max} bytes", field="job.source")
        _lay_out(tar, member, folder)


def _lay_out(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Write one member below the folder."""
    if hasattr(tarfile, "data_filter"):
        # It refuses absolute paths, ways out of the folder by name or by link, and devices; it drops owners and setuid.
        tar.extract(member, folder, filter="data")
        return
    # Python 3.11 has filters from 3.11.4 on; before, only what can do no harm is taken.
    if not (member.isreg() or member.isdir()):
        raise Refused(
            f"{member.name!r} is a link or device; this Python takes only files and folders", field="job.source"
        )
    if member.name.startswith("/") or ".." in PurePosixPath(member.name).parts:
        raise Refused(f"{member.name!r} is outside the job's folder", field="job.source")
    member.mode &= 0o755
    tar.extract(member, folder, set_attrs=member.isreg())
