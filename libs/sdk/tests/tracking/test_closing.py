"""A run without an end is closed as soon as it cannot be living any more, and never before."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ergonaut
from ergonaut.events.runs import RunState
from ergonaut.tracking.identity import ProcessIdentity, boot_id
from ergonaut.tracking.outer import OuterRun

from .programs import environment_of, journals, run, start

OTHER_BOOT = "00000000-0000-4000-8000-000000000000"
needs_boot_id = pytest.mark.skipif(not boot_id(), reason="this system does not tell which boot it is")

DOOMED = "with ergonaut.track():\n    print('on', flush=True)\n    time.sleep(60)"


def killed(home: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> Path:
    """The journal of a run that was killed, with its first line changed as if it had run elsewhere or earlier."""
    with start(DOOMED, home) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    (journal,) = journals(home)
    rewrite(journal, change)
    return journal


def rewrite(journal: Path, change: Callable[[dict[str, Any]], object]) -> None:
    first, *rest = journal.read_text().splitlines()
    told = json.loads(first)
    change(told)
    journal.write_text("\n".join([json.dumps(told, separators=(",", ":")), *rest]) + "\n")


def let_lie(journal: Path, seconds: float) -> None:
    long_ago = time.time() - seconds
    os.utime(journal, (long_ago, long_ago))


def closed(home: Path) -> list[RunState | None]:
    return [summary.state for summary in ergonaut.recover_runs(home)]


@needs_boot_id
def test_a_living_run_is_alive_whatever_the_clock_was_set_to_since_it_began(home: Path) -> None:
    with start(DOOMED, home) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (journal,) = journals(home)
        rewrite(journal, lambda told: told.update(process_started_at=told["process_started_at"] + 3600))
        assert closed(home) == []
        process.kill()
        process.wait()
        assert closed(home) == [RunState.FAILED]


@needs_boot_id
def test_a_program_inside_a_run_joins_it_though_the_clock_was_set_since_the_run_began(home: Path) -> None:
    me = ProcessIdentity.of_this_process()
    environment = OuterRun("run-1", home / "journal.jsonl", me).to_environment()
    environment["ERGONAUT_TRACKED_SINCE"] = str(me.started_at - 3600)
    assert OuterRun.from_environment(environment) is not None


def test_a_tracker_of_an_older_version_is_known_by_the_time_when_it_began(home: Path) -> None:
    me = ProcessIdentity.of_this_process()
    environment = OuterRun("run-1", home / "journal.jsonl", me).to_environment()
    del environment["ERGONAUT_TRACKED_PROCESS"]
    assert OuterRun.from_environment(environment) is not None
    environment["ERGONAUT_TRACKED_SINCE"] = str(me.started_at - 3600)
    assert OuterRun.from_environment(environment) is None


def test_a_journal_of_an_older_version_is_judged_by_the_time_when_its_process_began(home: Path) -> None:
    def as_before(told: dict[str, Any]) -> None:
        for name in ("process_started_ticks", "boot_id"):
            told.pop(name, None)

    with start(DOOMED, home) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (journal,) = journals(home)
        rewrite(journal, as_before)
        assert closed(home) == []
        process.kill()
        process.wait()
        assert closed(home) == [RunState.FAILED]


@needs_boot_id
def test_a_dead_container_is_closed_at_once_by_its_successor_of_another_name_that_sees_the_same_processes(
    home: Path,
) -> None:
    killed(home, lambda told: told["started"].update(host="another-name"))
    assert closed(home) == [RunState.FAILED]


@pytest.mark.parametrize(
    "elsewhere",
    [
        pytest.param({"boot_id": OTHER_BOOT}, id="another machine or an earlier boot", marks=needs_boot_id),
        pytest.param({"boot_id": OTHER_BOOT, "pid": 1}, id="a pid that is another's here", marks=needs_boot_id),
        pytest.param({"pid_namespace": "pid:[1]"}, id="another container"),
    ],
)
@pytest.mark.parametrize("host", ["this-host", "another-name"])
def test_a_run_that_cannot_be_seen_from_here_is_closed_once_its_journal_has_long_been_still(
    home: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: dict[str, Any], host: str
) -> None:
    monkeypatch.setenv("ERGONAUT_HOST", "this-host")
    journal = killed(home, lambda told: (told.update(elsewhere), told["started"].update(host=host)))
    assert closed(home) == []
    let_lie(journal, 200)
    assert closed(home) == [], "a living run may have had no line for a minute, and a slow disk takes longer"
    let_lie(journal, 400)
    assert closed(home) == [RunState.FAILED]
    assert closed(home) == []
    assert [each.name for each in journal.parent.iterdir()] == ["journal.jsonl"]


def test_the_next_run_closes_also_what_another_container_left_behind_long_ago(home: Path) -> None:
    journal = killed(home, lambda told: (told.update(pid_namespace="pid:[1]"), told["started"].update(host="gone")))
    let_lie(journal, 400)
    assert "1 earlier runs had died" in run("with ergonaut.track(): pass", home, environment_of(home)).stderr
