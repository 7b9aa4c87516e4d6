"""Where compiled kernels are kept."""

import os
from pathlib import Path

import pytest

from ergonaut_vectors.adapters.kernel_cache import place_kernel_cache, state_of


def test_kernels_are_kept_in_the_data_folder_where_the_code_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "unset")
    kept = place_kernel_cache(Path("/proc/sys/kernel/random"), tmp_path / "kernels")
    assert kept is not None
    assert kept.parent == tmp_path / "kernels"
    assert os.environ["NUMBA_CACHE_DIR"] == str(kept)
    assert place_kernel_cache(tmp_path, tmp_path / "kernels") is None


def test_each_state_of_the_sources_has_kernels_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "compute").mkdir()
    kernel = tmp_path / "compute" / "kernel.py"
    kernel.write_text("one")
    first = state_of(tmp_path)
    kernel.write_text("two")
    assert state_of(tmp_path) != first
    kernel.write_text("one")
    assert state_of(tmp_path) == first
