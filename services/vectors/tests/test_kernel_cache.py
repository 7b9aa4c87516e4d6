"""Where compiled kernels are kept, and that none is taken for another."""

import ast
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numba
import pytest
from numba.core.compiler import CompileResult

from ergonaut_vectors.adapters.kernel_cache import place_kernel_cache
from ergonaut_vectors.domain.compute import cpu
from ergonaut_vectors.domain.compute.cpu.kept_code import KernelCache, state_of
from ergonaut_vectors.domain.warming import warm_up

STARTED = """
import sys
from ergonaut_vectors.domain.warming import warm_up
warm_up()
assert "numba.np.arraymath" not in sys.modules
"""


def doubled(number: float) -> float:
    return number + number


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    return tmp_path


def compiled(*kinds: numba.types.Type) -> list[CompileResult]:
    kernel = numba.njit(doubled)
    for kind in kinds:
        kernel.compile((kind,))
    return [kernel.overloads[(kind,)] for kind in kinds]


def loaded(cache: KernelCache, kind: numba.types.Type) -> CompileResult | None:
    return cache.load_overload((kind,), numba.njit(doubled).targetctx)


def test_kernels_are_kept_in_the_data_folder_where_the_code_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "unset")
    kept = place_kernel_cache(Path("/proc/sys/kernel/random"), tmp_path / "kernels")
    assert kept == tmp_path / "kernels"
    assert os.environ["NUMBA_CACHE_DIR"] == str(kept)
    assert place_kernel_cache(tmp_path, tmp_path / "kernels") is None


def test_a_change_of_any_source_of_kernels_is_another_state_of_all(tmp_path: Path) -> None:
    kernel, called = tmp_path / "kernel.py", tmp_path / "called.py"
    kernel.write_text("one")
    called.write_text("one")
    first = state_of(tmp_path)
    called.write_text("two")
    assert state_of(tmp_path) != first
    called.write_text("one")
    assert state_of(tmp_path) == first


def test_kernels_take_no_numbers_from_elsewhere_whose_change_would_go_unseen() -> None:
    (folder,) = cpu.__path__
    for path in Path(folder).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ergonaut"):
                if node.module.startswith(cpu.__name__):
                    continue
                found = [getattr(import_module(node.module), each.name) for each in node.names]
                assert not [each for each in found if isinstance(each, int | float)], path


def test_a_kernel_of_another_state_is_not_loaded_and_goes_when_the_new_one_is_kept(folder: Path) -> None:
    (kept,) = compiled(numba.types.float32)
    KernelCache(doubled, "before").save_overload((numba.types.float32,), kept)
    after = KernelCache(doubled, "after")
    assert loaded(KernelCache(doubled, "before"), numba.types.float32) is not None
    assert loaded(after, numba.types.float32) is None
    after.save_overload((numba.types.float32,), kept)
    assert loaded(after, numba.types.float32) is not None
    assert [path.name.split(".")[-3] for path in folder.rglob("*.nbc")] == ["after"]


def test_processes_that_compile_at_the_same_time_take_nothing_of_each_other_for_theirs(folder: Path) -> None:
    kinds = (numba.types.float32, numba.types.int64)
    of_floats, of_numbers = compiled(*kinds)
    one, other = KernelCache(doubled), KernelCache(doubled)
    assert loaded(one, kinds[0]) is loaded(other, kinds[1]) is None
    one.save_overload((kinds[0],), of_floats)
    other.save_overload((kinds[1],), of_numbers)
    for kind in kinds:
        found = loaded(KernelCache(doubled), kind)
        assert found is not None
        assert found.signature.args == (kind,)


def test_a_process_that_finds_all_its_kernels_loads_nothing_of_what_compiles_them() -> None:
    warm_up()
    subprocess.run([sys.executable, "-c", STARTED], check=True)
