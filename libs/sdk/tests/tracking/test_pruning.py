"""Journals go when they have been kept long enough, but never one of a living run or one that was not sent."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ergonaut
from ergonaut.errors import Refused
from ergonaut.tracking.options import Options
from ergonaut.tracking.pruning import PRUNED_FILE, Retention, prune_now_and_then, prune_runs
from ergonaut.tracking.sentmark import SentMark

from .programs import environment_of, journals
from .test_command import CLI

DAY_SECONDS = 86_400.0
NOTHING = Retention(days=0.0, gibibytes=0.0)


def ended(home: Path, days_ago: float, name: str = "old") -> Path:
    before = set(journals(home))
    with ergonaut.track(name=name) as run:
        run.metric("loss", 0.5)
    (journal,) = set(journals(home)) - before
    let_lie(journal, days_ago)
    return journal


def let_lie(journal: Path, days: float) -> None:
    moment = time.time() - days * DAY_SECONDS
    os.utime(journal, (moment, moment))


def recover(home: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", CLI, "recover", *arguments],
        env=environment_of(home, **environment),
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_journal_older_than_the_days_goes_and_leaves_a_line_and_no_folder(home: Path) -> None:
    old, young = ended(home, 31), ended(home, 29)
    pruned = prune_runs(home, Retention())
    assert [each.journal for each in pruned.removed] == [old]
    assert journals(home) == [young]
    assert not old.parent.exists()
    (line,) = (home / PRUNED_FILE).read_text().splitlines()
    told = json.loads(line)
    assert (told["name"], told["metrics"], told["state"]) == ("old", {"loss": 0.5}, "succeeded")


def test_the_oldest_go_until_the_rest_is_within_the_bytes(home: Path) -> None:
    oldest, older, newest = ended(home, 3), ended(home, 2), ended(home, 1)
    room = older.stat().st_size + newest.stat().st_size
    pruned = prune_runs(home, Retention(gibibytes=(room + 1) / 1024**3))
    assert [each.journal for each in pruned.removed] == [oldest]
    assert [each.journal for each in pruned.kept] == [older, newest]


def test_a_journal_that_waits_to_be_sent_stays_however_old_it_is(home: Path) -> None:
    journal = ended(home, 400)
    SentMark(journal).create()
    assert prune_runs(home, NOTHING).removed == ()
    SentMark(journal).remove()
    assert [each.journal for each in prune_runs(home, NOTHING).removed] == [journal]


def test_a_journal_without_an_end_stays_however_still_it_is(home: Path) -> None:
    with ergonaut.track():
        (journal,) = journals(home)
        let_lie(journal, 400)
        assert prune_runs(home, NOTHING).removed == ()
    assert journals(home) == [journal]


def test_a_run_that_has_just_ended_stays_for_whoever_still_reads_it(home: Path) -> None:
    journal = ended(home, 0)
    assert prune_runs(home, NOTHING).removed == ()
    assert journal.exists()


def test_what_somebody_else_put_beside_a_journal_stays(home: Path) -> None:
    journal = ended(home, 31)
    (journal.parent / "weights.bin").touch()
    prune_runs(home, Retention())
    assert [each.name for each in journal.parent.iterdir()] == ["weights.bin"]


def test_a_run_whose_summary_was_not_kept_has_it_read_from_its_journal(home: Path) -> None:
    journal = ended(home, 31)
    journal.with_name("summary.json").unlink()
    prune_now_and_then(home, Retention())
    assert journal.exists(), "when a run begins no journal of many days is read"
    prune_runs(home, Retention())
    assert json.loads((home / PRUNED_FILE).read_text())["metrics"] == {"loss": 0.5}


def test_a_run_that_begins_removes_what_is_too_old_once_an_hour(home: Path) -> None:
    (home / ".pruned-at").touch()
    old = ended(home, 31)
    ended(home, 1)
    assert old.exists()
    let_lie(home / ".pruned-at", 0.1)
    ended(home, 0)
    assert not old.exists()
    assert len(journals(home)) == 2


def test_a_dry_run_tells_the_same_and_removes_nothing(home: Path) -> None:
    old = ended(home, 31)
    told = json.loads(recover(home, "--prune", "--dry-run", "--json").stdout)
    assert (told["dry_run"], [each["journal"] for each in told["removed"]]) == (True, [str(old)])
    assert old.exists()
    assert "1 journals of" in recover(home, "--prune", "--dry-run").stdout
    done = json.loads(recover(home, "--prune", "--json").stdout)
    assert (done["removed"], done["kept"], old.exists()) == (told["removed"], [], False)


def test_how_much_is_kept_is_set_by_the_environment(home: Path) -> None:
    old = ended(home, 31)
    assert "0 journals" in recover(home, "--prune", ERGONAUT_KEEP_DAYS="40").stdout
    assert old.exists()
    assert "1 journals" in recover(home, "--prune", ERGONAUT_KEEP_DAYS="40", ERGONAUT_KEEP_GIB="0").stdout


def test_a_dry_run_of_nothing_is_refused(home: Path) -> None:
    done = recover(home, "--dry-run")
    assert (done.returncode, "--dry-run" in done.stderr) == (65, True)


@pytest.mark.parametrize("variable", ["ERGONAUT_KEEP_DAYS", "ERGONAUT_KEEP_GIB"])
def test_a_retention_that_cannot_be_is_refused_by_its_name(variable: str) -> None:
    with pytest.raises(Refused, match=variable):
        Options.from_environment({variable: "-1"})


def test_a_run_that_the_bus_did_not_take_is_told_and_kept(home: Path) -> None:
    journal = ended(home, 1)
    SentMark(journal).create()
    bus = {
        "ERGONAUT_NATS_URL": "nats://127.0.0.1:4222",
        "ERGONAUT_NATS_USER": "default",
        "ERGONAUT_NATS_PASSWORD_FILE": str(home / "no-such-file"),
    }
    done = recover(home, **bus)
    assert (done.returncode, done.stdout) == (69, "0 runs were closed\n")
    assert done.stderr.startswith("error: 1 runs could not be sent to ERGONAUT_NATS_URL ([Errno 2] No such file")
    assert SentMark(journal).exists
