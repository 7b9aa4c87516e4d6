"""The house rules as tests; run by `make tidy`, which `make check` calls."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import tidy

CHECKS = (
    tidy.too_large,
    tidy.badly_named,
    tidy.undocumented_modules,
    tidy.misshapen_services,
    tidy.ports_without_fakes,
    tidy.undocumented_settings,
    tidy.malformed_subjects,
    tidy.misplaced_proto_packages,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_house_is_in_order(check: Callable[[], Iterator[str]]) -> None:
    assert list(check()) == []


def test_no_large_file_is_tracked() -> None:
    listed = subprocess.run(
        ["/usr/bin/env", "git", "ls-files"], cwd=tidy.ROOT, capture_output=True, text=True, check=True
    )
    assert list(tidy.large_blobs(listed.stdout.splitlines())) == []


def test_a_service_may_not_hide_the_sdk() -> None:
    strays = [path for path in tidy.ROOT.glob("*/*/src/ergonaut/__init__.py") if "sdk" not in path.parts]
    assert strays == []


def test_the_size_check_sees_a_long_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidy, "ROOT", tmp_path)
    (tmp_path / "libs").mkdir()
    (tmp_path / "libs" / "long.py").write_text("def f():\n" + "    pass\n" * 61)
    assert "f has 62 lines" in next(tidy.too_large())


def test_the_subject_check_sees_a_broken_subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidy, "ROOT", tmp_path)
    (tmp_path / "libs").mkdir()
    (tmp_path / "libs" / "bad.py").write_text('SUBJECT = "ergonaut.v1.runs"\n')
    assert "breaks the grammar" in next(tidy.malformed_subjects())
