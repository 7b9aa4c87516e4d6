"""The notebook's magic, in a real IPython shell."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.testing.globalipapp import start_ipython

from ergonaut.events.runs import RunState
from ergonaut.journal import EntryKind, JournalEntry, all_entries


@pytest.fixture
def shell(folder: Path) -> Iterator[object]:
    started = start_ipython() or get_running()
    started.run_line_magic("load_ext", "ergonaut")
    yield started
    started.run_line_magic("reset", "-f")
    started.extension_manager.loaded.discard("ergonaut")


def get_running() -> object:
    from IPython.core.getipython import get_ipython

    return get_ipython()


def entries_in(folder: Path) -> list[JournalEntry]:
    (journal,) = folder.parent.glob("home/runs/*/journal.jsonl")
    return list(all_entries(journal))


def test_a_cell_is_tracked_and_runs_as_it_would_have(
    shell: object, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = (
        "import ergonaut\ntotal = sum(range(2_000_000))\nwith ergonaut.track() as run:\n    run.count('cells')\ntotal"
    )
    shell.run_cell("%%track --project lab digits\n" + cell)  # type: ignore[attr-defined]
    assert shell.user_ns["total"] == sum(range(2_000_000))  # type: ignore[attr-defined]
    entries = entries_in(folder)
    assert entries[0].started is not None
    assert (entries[0].started.name, entries[0].started.project) == ("digits", "lab")
    assert [entry.counted for entry in entries if entry.kind is EntryKind.METRIC] == [1]
    assert entries[-1].state is RunState.SUCCEEDED
    printed = capsys.readouterr().out
    assert str(sum(range(2_000_000))) in printed, "the cell's last value is shown"
    assert "ergonaut" in printed or "digits (run-" in printed


def test_a_cell_that_fails_shows_its_error_once_and_fails_its_run(
    shell: object, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_cell("%%track\nraise ValueError('too hot')")  # type: ignore[attr-defined]
    last = entries_in(folder)[-1]
    assert (last.state, last.because) == (RunState.FAILED, "ValueError: too hot")
    captured = capsys.readouterr()
    assert (captured.out + captured.err).count("ValueError: too hot") == 1


@pytest.mark.parametrize("line", ["--zone", "--frequency 50", "two names", "--zone 'no such / place'"])
def test_a_line_that_is_not_understood_is_one_sentence(
    shell: object, folder: Path, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    shell.run_cell(f"%%track {line}\nran = True")  # type: ignore[attr-defined]
    captured = capsys.readouterr()
    assert "use: %%track [--project PROJECT]" in captured.out
    assert "Traceback" not in captured.out + captured.err
    assert "ran" not in shell.user_ns  # type: ignore[attr-defined]
