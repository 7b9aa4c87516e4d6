"""Memory that the C library keeps for a process, where it is glibc: less of it for threads, and none that only starting used."""

import ctypes

ARENAS_MAX = 2
"""Heaps of all threads together. The default of eight a core keeps in each what its threads once used; runs allocate little."""

_M_ARENA_MAX = -8


def spare() -> None:
    """Let threads share heaps. To be called before there are any."""
    if (set_option := _glibc("mallopt")) is not None:
        set_option(_M_ARENA_MAX, ARENAS_MAX)


def give_back() -> None:
    """Give back what is free: what was needed to load models is not needed to serve them."""
    if (trim := _glibc("malloc_trim")) is not None:
        trim(0)


def _glibc(name: str) -> "ctypes._NamedFuncPointer | None":
    return getattr(ctypes.CDLL(None), name, None)
