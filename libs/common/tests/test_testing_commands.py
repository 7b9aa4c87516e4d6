"""A command that is forked is to whoever looks on as one that was started: environment, folder, words, code and end."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ergonaut_common.testing_commands import LOADED, ergonaut_command, started_command

SHOWING = """
import os, sys
print(os.getcwd(), os.environ["SHOWN"], sorted(os.environ), flush=True)
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["jobs"], ["jobs", "--json"], ["nothing"], ["submit", "absent"], ["rollout", "--help"]]
)
def test_it_says_what_a_command_that_was_started_says(arguments: list[str], tmp_path: Path) -> None:
    environment = {**os.environ, "ERGONAUT_HOME": str(tmp_path / "home"), "COLUMNS": "70", "NO_COLOR": "1"}
    forked = ergonaut_command(*arguments, env=environment, cwd=tmp_path)
    real = started_command(*arguments, env=environment, cwd=tmp_path)
    assert (forked.returncode, forked.stdout, forked.stderr) == (real.returncode, real.stdout, real.stderr)


def test_it_has_the_environment_and_the_folder_that_it_was_given_and_no_other(tmp_path: Path) -> None:
    environment = {name: os.environ[name] for name in os.environ if name.startswith("PYTHON") or name == "PATH"}
    environment |= {"SHOWN": "seen", "ERGONAUT_HOME": str(tmp_path / "home")}
    shown = ergonaut_command("track", "--", sys.executable, "-c", SHOWING, env=environment, cwd=tmp_path).stdout
    assert shown.startswith(f"{tmp_path} seen ")
    assert "COLUMNS" not in shown
    assert "HOSTNAME_OF_NOBODY" not in shown


def test_a_code_and_a_signal_are_told_as_those_of_a_process(tmp_path: Path) -> None:
    environment = {**os.environ, "ERGONAUT_HOME": str(tmp_path)}
    ended = ergonaut_command("track", "--", sys.executable, "-c", "raise SystemExit(7)", env=environment, cwd=tmp_path)
    assert ended.returncode == 7


def test_one_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    environment = {**os.environ, "ERGONAUT_HOME": str(tmp_path)}
    waiting = ("track", "--", sys.executable, "-c", "import time; time.sleep(60)")
    with pytest.raises(subprocess.TimeoutExpired):
        ergonaut_command(*waiting, env=environment, cwd=tmp_path, timeout=0.5)


def test_several_run_at_a_time(tmp_path: Path) -> None:
    environment, codes = {**os.environ, "ERGONAUT_HOME": str(tmp_path)}, dict[int, int]()

    def run(code: int) -> None:
        said = f"raise SystemExit({code})"
        codes[code] = ergonaut_command("track", "--", sys.executable, "-c", said, env=environment).returncode

    threads = [threading.Thread(target=run, args=(code,)) for code in (3, 4, 5)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert codes == {3: 3, 4: 4, 5: 5}


def test_nothing_that_is_loaded_before_reads_the_environment() -> None:
    code = f"""
import os, sys
from importlib import import_module
read = []
class Watched(dict):
    def __getitem__(self, name): read.append(name); return super().__getitem__(name)
    def get(self, name, default=None): read.append(name); return super().get(name, default)
    def __contains__(self, name): read.append(name); return super().__contains__(name)
os.environ = Watched(os.environ)
os.getenv = os.environ.get
for name in {LOADED!r}: import_module(name)
print(*sorted({{name for name in read if isinstance(name, str)}}))
"""
    read = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not [
        name for name in read if name.startswith("ERGONAUT") or name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")
    ], read
