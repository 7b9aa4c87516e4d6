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


def test_a_cell_that_fails_is_a_failed_cell_to_whoever_runs_the_notebook(shell: object, folder: Path) -> None:
    result = shell.run_cell("%%track\nbefore = 1\nraise ValueError('too hot')\nafter = 1")  # type: ignore[attr-defined]
    assert not result.success
    assert isinstance(result.error_in_exec, ValueError)
    assert "before" in shell.user_ns  # type: ignore[attr-defined]
    assert "after" not in shell.user_ns  # type: ignore[attr-defined]


AWAITING = "%%track waiting\nimport asyncio\nawait asyncio.sleep(0)\nawaited = await asyncio.sleep(0, 42)\nawaited"


def test_a_cell_may_await_in_a_terminal(shell: object, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = shell.run_cell(AWAITING)  # type: ignore[attr-defined]
    assert (result.success, result.result) == (True, 42)
    last = entries_in(folder)[-1]
    assert last.state is RunState.SUCCEEDED
    assert "waiting (run-" in capsys.readouterr().out


@pytest.mark.parametrize(("ending", "state"), [("", RunState.SUCCEEDED), ("\n1 / 0", RunState.FAILED)])
async def test_a_cell_may_await_in_a_kernel_whose_loop_runs(
    shell: object, folder: Path, ending: str, state: RunState
) -> None:
    cell = AWAITING + ending
    transformed = shell.transform_cell(cell)  # type: ignore[attr-defined]
    assert shell.should_run_async(cell, transformed_cell=transformed)  # type: ignore[attr-defined]
    result = await shell.run_cell_async(cell, transformed_cell=transformed)  # type: ignore[attr-defined]
    # As Jupyter's kernel says it.
    shell.events.trigger("post_run_cell", result)  # type: ignore[attr-defined]
    assert shell.user_ns["awaited"] == 42  # type: ignore[attr-defined]
    assert entries_in(folder)[-1].state is state


def test_a_tracked_cell_may_have_another_magic_and_run_other_cells(shell: object, folder: Path) -> None:
    shell.run_cell("%%track\n%%capture printed\nprint('within')")  # type: ignore[attr-defined]
    assert shell.user_ns["printed"].stdout == "within\n"  # type: ignore[attr-defined]
    assert entries_in(folder)[-1].state is RunState.SUCCEEDED


def test_a_cell_that_runs_another_is_tracked_to_its_own_end(shell: object, folder: Path) -> None:
    cell = "%%track\nimport ergonaut\nget_ipython().run_cell('1 / 0')\nwith ergonaut.track() as run:\n    run.count('after')"
    shell.run_cell(cell)  # type: ignore[attr-defined]
    entries = entries_in(folder)
    assert [entry.name for entry in entries if entry.kind is EntryKind.METRIC] == ["after"]
    assert entries[-1].state is RunState.SUCCEEDED


def test_a_terminal_waits_for_the_end_of_a_tracked_cell(shell: object, folder: Path) -> None:
    manager = shell.input_transformer_manager  # type: ignore[attr-defined]
    assert manager.check_complete("%%track\ntotal = 1")[0] == "incomplete"
    assert manager.check_complete("%%track\ntotal = 1\n\n")[0] == "complete"


@pytest.mark.parametrize("line", ["--zone", "--frequency 50", "two names", "--zone 'no such / place'"])
def test_a_line_that_is_not_understood_is_one_sentence(
    shell: object, folder: Path, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    shell.run_cell(f"%%track {line}\nran = True")  # type: ignore[attr-defined]
    captured = capsys.readouterr()
    assert (captured.out + captured.err).count("use: %%track [--project PROJECT]") == 1
    assert "Traceback" not in captured.out + captured.err
    assert "ran" not in shell.user_ns  # type: ignore[attr-defined]
