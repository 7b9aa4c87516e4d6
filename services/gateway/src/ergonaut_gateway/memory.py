"""Memory that a process holds and has no use of: heaps of threads, and what starting needed and serving does not.

On Linux with glibc; elsewhere nothing is done.
"""

import asyncio
import contextlib
import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path

ARENAS_MAX = 2
"""Heaps of all threads together. The default of eight a core keeps in each what its threads once used; runs allocate little."""

SETTLED_SECONDS = 1.0
"""How long after the first caller could come memory is given back: what the first requests need again is then asked for once."""

_M_ARENA_MAX = -8
_MADV_DONTNEED = 4


def spare() -> None:
    """Let threads share heaps. To be called before there are any."""
    if libc := _glibc():
        libc.mallopt(_M_ARENA_MAX, ARENAS_MAX)


def give_back_later() -> None:
    """Give memory back once the first callers were answered; it takes the event loop some milliseconds."""
    asyncio.get_running_loop().call_later(SETTLED_SECONDS, give_back)


def give_back() -> None:
    """Give the system back what is free in heaps, and the code of libraries, which is read again from the system's cache where
    it is used: starting runs through much that serving never does."""
    if libc := _glibc():
        libc.malloc_trim(0)
        for begin, end in code_of(Path("/proc/self/maps").read_text()):
            libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _MADV_DONTNEED)


def available_bytes() -> int | None:
    """How much this process may still take before the machine, or the group that it is confined to, has none left; None where
    the system does not say."""
    told = []
    with contextlib.suppress(OSError, ValueError, LookupError):
        told.append(1024 * _numbers(Path("/proc/meminfo").read_text())["MemAvailable"])
    with contextlib.suppress(OSError, ValueError, LookupError):
        group = Path("/sys/fs/cgroup")
        held = (
            int((group / "memory.current").read_text()) - _numbers((group / "memory.stat").read_text())["inactive_file"]
        )
        told.append(max(0, int((group / "memory.max").read_text()) - held))
    return min(told, default=None)


def _numbers(text: str) -> dict[str, int]:
    """Names and numbers, a line each, as the kernel tells them."""
    lines = (line.replace(":", " ").split() for line in text.splitlines())
    return {line[0]: int(line[1]) for line in lines if len(line) > 1 and line[1].isdigit()}


def code_of(maps: str) -> Iterator[tuple[int, int]]:
    """Where the code of libraries is, by what the kernel says of a process's memory. Code only, which is as in its file; what
    may be written, or could be while the library was loaded, is not.

    >>> list(code_of("1000-2000 r-xp 00001000 08:01 7 /lib/a.so\\n2000-3000 r--p 00002000 08:01 7 /lib/a.so"))
    [(4096, 8192)]
    """
    for line in maps.splitlines():
        addresses, rights, _, _, inode, *path = line.split(maxsplit=5)
        if rights == "r-xp" and inode != "0" and path and not path[0].endswith("(deleted)"):
            begin, _, end = addresses.partition("-")
            yield int(begin, 16), int(end, 16)


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
