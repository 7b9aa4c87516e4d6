"""Machine code of kernels, kept between starts in files named by all that it was made of. Called by `machine.py`.

Numba's own way misses two things. It looks only at the file in which a kernel stands, so that one made of another in a second
file would go on as that was before it was changed. And it numbers what it keeps in an index that processes which compile at
the same time write without regard to each other: one then loads what was compiled for other types.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.runtime.nrt import rtsys


def state_of(folder: Path) -> str:
    """A name for what all sources in a folder say."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


KERNELS = state_of(Path(__file__).parent)
"""Kernels are made of what stands in this folder, and of nothing else of ours."""


class KernelFiles(IndexDataCacheFile):
    """One file for a kernel and the types of what it is called with, by a name that needs no index."""

    def load(self, key: object) -> Any:
        """What `save` was given with this key, or nothing."""
        try:
            return self._load_data(self._name(key))  # type: ignore[no-untyped-call]
        except FileNotFoundError:
            return None

    def save(self, key: object, data: object) -> None:
        """Keep it, and nothing of other states of the sources."""
        self._save_data(self._name(key), data)  # type: ignore[no-untyped-call]
        kernel = self._index_name.rpartition("-")[0]
        for path in Path(self._cache_path).glob(f"{kernel}-*.nb[ci]"):
            if f".{self._source_stamp}." not in path.name:
                path.unlink(missing_ok=True)

    def _name(self, key: object) -> str:
        types = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        return self._index_name.removesuffix("nbi") + f"{self._source_stamp}.{types}.nbc"


class KernelCache(FunctionCache):
    """What a compiled function asks before it compiles."""

    def __init__(self, function: Callable[..., Any], state: str = KERNELS) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        files = KernelFiles(self.cache_path, self._impl.filename_base, state)  # type: ignore[no-untyped-call]
        self._cache_file = files

    def load_overload(self, sig: object, target_context: Any) -> Any:
        """What is kept for these types, or nothing. Numba's own would first load all that compiling needs, which takes five times
        as long; whoever compiles has it loaded then."""
        rtsys.initialize(target_context)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)  # type: ignore[no-untyped-call]
