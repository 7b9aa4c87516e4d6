"""All ranks of a job on a host are one run, however they were started, and each of their CPU-seconds counts once."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from ergonaut.journal import EntryKind, all_entries
from ergonaut.tracking.summary import summary_of

from .programs import JOULES_PER_CPU_SECOND, PREAMBLE, environment_of, journals
from .test_command import CLI

RANKS = 3
BURN_CPU_SECONDS = 0.5

# Each rank begins its part, waits for the others, computes, and goes at once, but for the first.
RANK = f"""
import os, time
from pathlib import Path
folder = Path(os.environ["ERGONAUT_HOME"])

def wait_for(what):
    deadline = time.monotonic() + 90
    while len(list(folder.glob(what))) < {RANKS}:
        assert time.monotonic() < deadline, f"{{what}}: {{list(folder.glob(what))}}"
        time.sleep(0.03)

def take_part(number):
    (folder / f"begun-{{number}}").touch()
    wait_for("begun-*")
    until = time.process_time() + {BURN_CPU_SECONDS}
    while time.process_time() < until:
        pass
    (folder / f"done-{{number}}").touch()
    if number == 0:
        wait_for("done-*")
"""
TRACKED_RANK = f"""{PREAMBLE}{RANK}
with ergonaut.track(name="job"):
    take_part(int(os.environ["LOCAL_RANK"]))
"""
PLAIN_RANK = f"""{RANK}
take_part(int(os.environ["LOCAL_RANK"]))
"""

# As torchrun does, and tells what all had used in the end.
LAUNCHER = f"""
import json, os, resource, subprocess, sys
command = json.loads(sys.argv[1])
ranks = []
for number in range({RANKS}):
    told = {{"LOCAL_RANK": str(number), "RANK": str(number), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}}
    ranks.append(subprocess.Popen(command, env=os.environ | told))
code = max(rank.wait() for rank in ranks)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps(used.ru_utime + used.ru_stime))
sys.exit(code)
"""

# The ranks learn who they are only when they run already, as with torch.multiprocessing and Lightning's ddp_spawn and ddp_fork.
SPAWNED = f"""{PREAMBLE}{RANK}
import json, multiprocessing

def work(number, more):
    os.environ.update({{"LOCAL_RANK": str(number), "RANK": str(number), **more}})
    with ergonaut.track(name="job"):
        take_part(number)
    (folder / f"used-{{number}}").write_text(str(time.process_time()))

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    ranks = [context.Process(target=work, args=(number, json.loads(sys.argv[2]))) for number in range({RANKS})]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    print(sum(float(each.read_text()) for each in folder.glob("used-*")))
    sys.exit(max(rank.exitcode for rank in ranks))
"""


def run_job(home: Path, arguments: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, *arguments], env=environment_of(home), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def launched(home: Path, command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    return run_job(home, ["-c", LAUNCHER, json.dumps(command)])


def assert_all_ranks_are_one_run(home: Path, done: "subprocess.CompletedProcess[str]") -> None:
    (journal,) = journals(home)
    entries = list(all_entries(journal))
    assert sum(entry.kind is EntryKind.FINISHED for entry in entries) == 1
    intervals = [
        (sample.component, sample.started_at) for one in entries if one.sampled for sample in one.sampled.samples
    ]
    assert len(intervals) == len(set(intervals)), "the host is counted once an interval"
    summary = summary_of(entries, journal)
    assert summary is not None
    assert summary.energy_joules is not None
    cpu_seconds = summary.energy_joules / JOULES_PER_CPU_SECOND
    # Ticks are of 10 ms, and each rank is looked at in a few.
    assert RANKS * BURN_CPU_SECONDS - 0.1 <= cpu_seconds <= json.loads(done.stdout) + 0.1
    assert not list((home / "ranks").glob("*")), "nothing is left behind"


def test_ranks_in_shells_of_their_own_are_one_run(home: Path) -> None:
    done = launched(home, ["sh", "-c", '"$0" -c "$1"; exit $?', sys.executable, TRACKED_RANK])
    assert_all_ranks_are_one_run(home, done)
    assert done.stderr == ""


def test_ranks_in_shells_within_shells_are_one_run(home: Path) -> None:
    shells = [
        "sh",
        "-c",
        'sh -c "\\"\\$0\\" -c \\"\\$1\\"; exit \\$?" "$0" "$1"; exit $?',
        sys.executable,
        TRACKED_RANK,
    ]
    assert_all_ranks_are_one_run(home, launched(home, shells))


@pytest.mark.parametrize("wrapped", [False, True])
def test_ranks_that_are_each_started_by_ergonaut_track_are_one_run(home: Path, *, wrapped: bool) -> None:
    command = [sys.executable, "-c", CLI, "track", "--", sys.executable, "-c", PLAIN_RANK]
    shell = ["sh", "-c", '"$0" "$@"; exit $?'] if wrapped else []
    done = launched(home, [*shell, *command])
    assert_all_ranks_are_one_run(home, done)
    assert "in no run" not in done.stderr


def test_tracked_ranks_that_are_each_started_by_ergonaut_track_are_one_run(home: Path) -> None:
    done = launched(home, [sys.executable, "-c", CLI, "track", "--", sys.executable, "-c", TRACKED_RANK])
    assert_all_ranks_are_one_run(home, done)
    assert "in no run" not in done.stderr


MASTER = {"MASTER_ADDR": "localhost", "MASTER_PORT": "12355"}


@pytest.mark.parametrize(
    ("method", "more"), [("fork", MASTER), ("spawn", MASTER), ("forkserver", MASTER), ("fork", {}), ("spawn", {})]
)
def test_ranks_that_learn_who_they_are_when_they_run_are_one_run(
    home: Path, method: str, more: Mapping[str, str]
) -> None:
    program = home / "job.py"
    program.write_text(SPAWNED)
    done = run_job(home, [str(program), method, json.dumps(more)])
    assert_all_ranks_are_one_run(home, done)
    assert done.stderr == ""


def test_jobs_of_one_launcher_are_each_a_run_of_their_own(home: Path) -> None:
    ranks = """
import json, os, resource, subprocess, sys
ranks = []
for job in range(2):
    folder = f"{os.environ['ERGONAUT_HOME']}/{job}"
    os.mkdir(folder)
    for number in range(3):
        told = {"LOCAL_RANK": str(number), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(29500 + job)}
        told |= {"ERGONAUT_PROJECT": f"job-{job}", "FOLDER": folder}
        ranks.append(subprocess.Popen([sys.executable, "-c", sys.argv[1]], env=os.environ | told))
code = max(rank.wait() for rank in ranks)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps(used.ru_utime + used.ru_stime))
sys.exit(code)
"""
    program = TRACKED_RANK.replace('folder = Path(os.environ["ERGONAUT_HOME"])', 'folder = Path(os.environ["FOLDER"])')
    done = run_job(home, ["-c", ranks, program])
    summaries = [summary_of(all_entries(journal), journal) for journal in journals(home)]
    cpu_seconds = [((each and each.energy_joules) or 0.0) / JOULES_PER_CPU_SECOND for each in summaries]
    assert len(cpu_seconds) == 2
    assert min(cpu_seconds) >= RANKS * BURN_CPU_SECONDS - 0.1
    assert sum(cpu_seconds) <= json.loads(done.stdout) + 0.2


def test_runs_of_the_same_ranks_one_after_the_other_have_all_ranks_each(home: Path) -> None:
    program = home / "job.py"
    again = """
    for each in range(2):
        with ergonaut.track(name=f"run-{each}"):
            folder = Path(os.environ["ERGONAUT_HOME"], f"run-{each}")
            folder.mkdir(exist_ok=True)
            globals()["folder"] = folder
            take_part(number)
        if each == 0:
            (folder / f"left-{number}").touch()
            wait_for("left-*")
"""
    tracked = '    with ergonaut.track(name="job"):\n        take_part(number)\n'
    program.write_text(SPAWNED.replace(tracked, again))
    run_job(home, [str(program), "fork", json.dumps(MASTER)])
    for journal in journals(home):
        summary = summary_of(all_entries(journal), journal)
        assert summary is not None
        assert summary.energy_joules is not None
        assert summary.energy_joules / JOULES_PER_CPU_SECOND == pytest.approx(RANKS * BURN_CPU_SECONDS, rel=0.3)
    assert len(journals(home)) == 2


def test_a_rank_that_no_first_rank_meters_says_so_once(home: Path) -> None:
    program = f"{PREAMBLE}\nfor _ in range(2):\n    with ergonaut.track(name='lost'): pass"
    alone = environment_of(home, LOCAL_RANK="1", MASTER_PORT="29500")
    done = subprocess.run([sys.executable, "-c", program], env=alone, capture_output=True, text=True, check=True)
    (line,) = done.stderr.splitlines()
    assert "lost is rank 1 on this host, and no first rank there meters it: what it used is in no run" in line
    assert not list((home / "ranks").glob("*"))


def test_a_rank_inside_of_what_is_tracked_waits_for_no_first_rank(home: Path) -> None:
    program = f"""{PREAMBLE}
inner = "import ergonaut\\nwith ergonaut.track(): pass"
with ergonaut.track():
    subprocess.run([sys.executable, "-c", inner], env=os.environ | {{"LOCAL_RANK": "1"}}, check=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment_of(home), capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


def test_words_of_ranks_that_have_died_count_for_nothing(home: Path) -> None:
    killed = f"{PREAMBLE}\nwith ergonaut.track(): print('on', flush=True); time.sleep(60)"
    told = environment_of(home, LOCAL_RANK="1", MASTER_PORT="29500")
    with subprocess.Popen([sys.executable, "-c", killed], env=told, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    (left,) = (home / "ranks").glob("*/*")
    # Another process has its pid by now.
    left.rename(left.with_name(left.name.replace(f"_{process.pid}_", f"_{os.getpid()}_")))
    first = f"{PREAMBLE}\nwith ergonaut.track() as run: time.sleep(0.5)"
    told["LOCAL_RANK"] = "0"
    subprocess.run([sys.executable, "-c", first], env=told, check=True)
    (journal,) = journals(home)
    summary = summary_of(all_entries(journal), journal)
    assert summary is not None
    assert (summary.energy_joules or 0.0) < 0.3 * JOULES_PER_CPU_SECOND
    assert not list((home / "ranks").glob("*"))
