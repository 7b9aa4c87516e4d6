"""The command line as people and scripts meet it: help with examples, JSON, exit codes, one clear sentence for errors."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from ergonaut.cli import app, create, jobs, models, output, platform, reports, track
from ergonaut.cli.output import print_table, telling_errors
from ergonaut.errors import Broken, Conflict, ErgonautError, NotAllowed, NotFound, Refused, Unavailable
from ergonaut_common.testing_commands import ergonaut_command

for group in (platform, jobs, models, create, reports, track):
    group.register(app)
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ERGONAUT_HOME", str(tmp_path))
    return tmp_path


def ergonaut(*arguments: str) -> tuple[int, str, str]:
    done = ergonaut_command(*arguments)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_and_speaks_json(name: str) -> None:
    command = COMMANDS[name]
    assert f"ergonaut {name}" in command.help.partition("Example: ")[2]
    assert any("--json" in parameter.opts for parameter in command.params)
    assert CliRunner().invoke(app, [name, "--help"]).exit_code == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotAllowed("x"), 77),
        (Refused("x"), 65),
        (NotFound("x"), 66),
        (Conflict("x"), 73),
        (Unavailable("x"), 69),
        (Broken("x"), 70),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error: BaseException, code: int) -> None:
    with pytest.raises(typer.Exit) as ended, telling_errors():
        raise error
    assert ended.value.exit_code == code


def test_an_error_is_one_sentence_on_stderr_and_stdout_stays_empty() -> None:
    code, told, error = ergonaut("jobs", "--json")
    assert (code, told) == (66, "")
    assert error.startswith("error: ")
    assert "run `ergonaut up`" in error
    assert "Traceback" not in error


def test_a_wrong_job_file_names_the_field_and_its_line(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("name: digits\ncommand: [true]\nduration_seconds_expected: 5\nbugdet: 3\n")
    code, _, error = ergonaut("plan", str(tmp_path))
    assert code == 65
    assert "bugdet" in error


def test_a_system_that_does_not_answer_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERGONAUT_API_KEY", "ergo_abc_hunter2")
    monkeypatch.setenv("ERGONAUT_SCHEDULER_ADDRESS", "127.0.0.1:1")
    code, _, error = ergonaut("jobs")
    assert code == 69
    assert "ergonaut status" in error
    assert "hunter2" not in error


@pytest.mark.parametrize("command", ["up", "down", "status", "runs"])
def test_a_home_that_is_a_file_is_told_in_one_sentence(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERGONAUT_HOME", str(tmp_path / "file"))
    (tmp_path / "file").touch()
    code, stdout, stderr = ergonaut(command)
    assert (code, stdout) == (65, "")
    assert stderr.startswith("error: ERGONAUT_HOME: ")
    assert stderr.count("\n") == 1


def test_a_shell_can_be_taught_to_complete() -> None:
    environment = os.environ | {"_ERGONAUT_COMPLETE": "source_bash"}
    command = [str(Path(sys.executable).parent / "ergonaut")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert "complete -o default -F _ergonaut_completion ergonaut" in done.stdout


def test_the_end_of_a_log_is_told_also_as_json(home: Path) -> None:
    (home / "logs").mkdir()
    (home / "logs" / "scheduler.log").write_text("one\ntwo\nthree\n")
    assert ergonaut("logs", "scheduler", "-n", "2") == (0, "two\nthree\n", "")
    assert json.loads(ergonaut("logs", "scheduler", "-n", "2", "--json")[1])["lines"] == ["two", "three"]
    assert ergonaut("logs", "nobody")[0] == 66


def test_what_others_wrote_is_never_taken_for_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("", ("why",), [("[/closes nothing] and [bold]",)])
    assert "[/closes nothing] and [bold]" in capsys.readouterr().out


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], io.StringIO]:
    """Have the CLI speak to a terminal of that width; gives what it shows."""

    def made(width: int) -> io.StringIO:
        shown = io.StringIO()
        for name in ("out", "err"):
            console = Console(file=shown, width=width, force_terminal=True, color_system=None, highlight=False)
            monkeypatch.setattr(output, name, console)
        return shown

    return made


FOUND = [("p5073", "0.162866", "a house of stone"), ("p4980", "1,234.163162", "")]


def test_a_table_keeps_its_figures_whole_where_its_texts_are_wrapped(terminal: Callable[[int], io.StringIO]) -> None:
    shown = terminal(29)
    print_table("", ("id", "distance", "text"), FOUND, right=("distance",))
    assert [line.rstrip() for line in shown.getvalue().splitlines()] == [
        "id         distance  text",
        "p5073      0.162866  a house",
        "                     of stone",
        "p4980  1,234.163162",
    ]


def test_a_table_that_a_terminal_is_too_narrow_for_is_told_row_by_row(terminal: Callable[[int], io.StringIO]) -> None:
    shown = terminal(22)
    print_table("", ("id", "distance", "text"), FOUND, right=("distance",))
    assert [line.rstrip() for line in shown.getvalue().splitlines()] == [
        "id        p5073",
        "distance  0.162866",
        "text      a house of",
        "          stone",
        "",
        "id        p4980",
        "distance  1,234.163162",
    ]


def test_a_sentence_ends_its_lines_between_words_on_a_terminal_and_nowhere_else(
    terminal: Callable[[int], io.StringIO], capsys: pytest.CaptureFixture[str]
) -> None:
    output.tell("word " * 99)
    assert len(capsys.readouterr().out.splitlines()) == 1
    shown = terminal(23)
    output.tell("pages has twenty thousand vectors")
    with pytest.raises(typer.Exit), telling_errors():
        raise Refused("must be told, or another", field="--vector")
    assert [line.rstrip() for line in shown.getvalue().splitlines()] == [
        "pages has twenty",
        "thousand vectors",
        "error: --vector: must",
        "be told, or another",
    ]


def test_a_file_that_cannot_be_written_is_refused_by_its_option(tmp_path: Path) -> None:
    with pytest.raises(ErgonautError, match=r"--html: .* cannot be written"):
        output.write_file(tmp_path / "none" / "report.html", "", option="--html")
