"""Reads the small files in which Linux tells what a device says: one number or one name each."""

import os
from pathlib import Path

# No such file is longer than a page; what is read here are numbers and names.
_BYTES_MAX = 256


def read_text(path: Path | str) -> str:
    """The file's text without its line's end. Raises OSError where it has gone or may not be read."""
    # By hand, since it is done every second and pathlib takes three times as long.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _BYTES_MAX).decode(errors="replace").strip()
    finally:
        os.close(descriptor)


def read_number(path: Path | str) -> int:
    """The file's number. Raises OSError, or ValueError where it holds something else."""
    return int(read_text(path))


def text_or_empty(path: Path | str) -> str:
    """The file's text, or nothing where there is no such file or it may not be read."""
    try:
        return read_text(path)
    except OSError:
        return ""
