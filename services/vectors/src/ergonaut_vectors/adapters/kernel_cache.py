"""Where compiled kernels are kept between starts. Must be called before anything imports numba."""

import hashlib
import os
from pathlib import Path


def place_kernel_cache(source: Path, folder: Path) -> Path | None:
    """Keep compiled kernels in `folder` where they cannot be kept beside their source; gives the folder if it is used.

    Numba finds out by its time when a kernel's own file has changed, but not when one of which it is made has: each state of
    all sources has a folder of its own.
    """
    if os.access(source, os.W_OK):
        return None
    kept = folder / state_of(source)
    kept.mkdir(parents=True, exist_ok=True)
    os.environ["NUMBA_CACHE_DIR"] = str(kept)
    return kept


def state_of(source: Path) -> str:
    """A name for what all sources below a folder say."""
    digest = hashlib.sha256()
    for path in sorted(source.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
