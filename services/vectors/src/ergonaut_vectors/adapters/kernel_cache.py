"""Where compiled kernels are kept between starts. Must be called before anything imports numba."""

import os
from pathlib import Path


def place_kernel_cache(source: Path, folder: Path) -> Path | None:
    """Keep compiled kernels in `folder` where they cannot be kept beside their source; gives the folder if it is used."""
    if os.access(source, os.W_OK):
        return None
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    return folder
