"""Memory that a process holds and has no use of: heaps of threads, and what starting needed and serving does not.

On Linux with glibc; elsewhere nothing is done.
"""

import asyncio
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
