"""Control groups: the names that others give them, their counting in both versions, and runs that have one for themselves."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from ergonaut.ids import new_id
from ergonaut.metering import Cgroups, ProcessScan, Workload
from ergonaut.metering.cgroups import CGROUPS, RUNS_GROUP, run_named_by, workload_of
from ergonaut.metering.processtable import LinuxProcessTable, ProcessStat
from ergonaut.runcontext import RunContext

CONTAINER = "4f0c" * 16
POD = "8f2c1f0a-6a1b-4c3d-9e8f-001122334455"
STATIC_POD = "6b8b4567327b23c6643c98696633487a"
RUN_1 = ("default", "run-1")


@pytest.mark.parametrize(
    ("path", "workload"),
    [
        (f"/docker/{CONTAINER}", Workload(container_id=CONTAINER)),
        (f"/system.slice/docker-{CONTAINER}.scope", Workload(container_id=CONTAINER, unit=f"docker-{CONTAINER}.scope")),
        (
            f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD.replace('-', '_')}.slice/"
            f"cri-containerd-{CONTAINER}.scope",
            Workload(CONTAINER, POD, unit=f"cri-containerd-{CONTAINER}.scope"),
        ),
        (f"/kubepods/besteffort/pod{POD}/{CONTAINER}", Workload(CONTAINER, POD)),
        (
            f"/kubepods.slice/kubepods-pod{POD.replace('-', '_')}.slice/crio-{CONTAINER}.scope/container",
            Workload(CONTAINER, POD, unit=f"crio-{CONTAINER}.scope"),
        ),
        (
            f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{CONTAINER}.scope/container",
            Workload(CONTAINER, unit=f"libpod-{CONTAINER}.scope"),
        ),
        (
            "/system.slice/slurmstepd.scope/job_4711/step_0/user/task_3",
            Workload(slurm_job_id="4711", unit="slurmstepd.scope"),
        ),
        ("/slurm/uid_1000/job_4711/step_batch", Workload(slurm_job_id="4711")),
        ("/slurm_node1/uid_1000/job_12/step_extern/task_0", Workload(slurm_job_id="12")),
        # With several slurmd on one machine each has a scope of its own.
        (
            "/system.slice/node1_slurmstepd.scope/job_7/step_0/user/task_0",
            Workload(slurm_job_id="7", unit="node1_slurmstepd.scope"),
        ),
        # A static pod's uid is the hash of its file.
        (f"/kubepods/burstable/pod{STATIC_POD}/{CONTAINER}", Workload(CONTAINER, STATIC_POD)),
        ("/system.slice/ssh.service", Workload(unit="ssh.service")),
        ("/user.slice/user-1000.slice/session-3.scope", Workload(unit="session-3.scope")),
        ("/", Workload()),
        ("/home/job_5", Workload()),
    ],
)
def test_containers_pods_slurm_jobs_and_units_are_known_by_their_groups_names(path: str, workload: Workload) -> None:
    assert workload_of(path) == workload


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/ergonaut.slice/acme.run-1", ("acme", "run-1")),
        ("/ergonaut.slice/acme.run-1/inner", ("acme", "run-1")),
        ("/ergonaut.slice/run-1", None),
        ("/other.slice/acme.run-1", None),
        ("/system.slice/ergonaut.slice/acme.run-1", None),
    ],
)
def test_only_a_group_directly_in_the_runs_group_is_named_after_a_run(path: str, key: tuple[str, str] | None) -> None:
    assert run_named_by(path) == key


class Host:
    """Processes and groups under a folder, in the form of one version of the interface."""

    def __init__(self, folder: Path, layout: str) -> None:
        self.root, self.proc = folder / "cgroup", folder / "proc"
        self.proc.mkdir()
        self._layout = layout
        self._counting = self.root / {"v2": "", "v1": "cpuacct", "hybrid": "unified"}[layout]
        self._counting.mkdir(parents=True)
        if layout == "v1":
            (self._counting / "cpuacct.usage").write_text("0\n")
        else:
            (self._counting / "cgroup.controllers").write_text("cpu memory\n")
        self.stats: dict[int, ProcessStat] = {}
        self.environments: dict[int, Mapping[str, str]] = {}
        self.cgroups = Cgroups(self.root, self.proc)
        self.scan = ProcessScan(table=self, cgroups=self.cgroups)

    def group(self, path: str, cpu_seconds: float) -> None:
        """Make a group, or let it have used so much."""
        folder = self._counting / path.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.procs").touch()
        if self._layout == "v1":
            (folder / "cpuacct.usage").write_text(f"{int(cpu_seconds * 1e9)}\n")
        else:
            microseconds = int(cpu_seconds * 1e6)
            (folder / "cpu.stat").write_text(f"usage_usec {microseconds}\nuser_usec {microseconds}\nsystem_usec 0\n")

    def remove(self, path: str) -> None:
        folder = self._counting / path.lstrip("/")
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()

    def put(self, pid: int, path: str, *, run_id: str = "", cpu: float = 0.0, parent: int = 1) -> None:
        """Have a process, new or as it is now."""
        self.stats[pid] = ProcessStat(pid, parent, float(pid), cpu, 0.0, 1000, ended=False)
        self.environments[pid] = RunContext(run_id=run_id).to_environment() if run_id else {}
        (self.proc / str(pid)).mkdir(exist_ok=True)
        lines = {
            "v2": f"0::{path}",
            "v1": f"4:memory:/\n2:cpu,cpuacct:{path}\n0::/init.scope",
            "hybrid": f"4:memory:/m\n0::{path}",
        }
        (self.proc / str(pid) / "cgroup").write_text(lines[self._layout] + "\n")
        procs = self._counting / path.lstrip("/") / "cgroup.procs"
        pids = {int(line) for line in procs.read_text().split()} if procs.exists() else set()
        procs.write_text("".join(f"{known}\n" for known in sorted(pids | {pid})))

    def end(self, pid: int, path: str) -> None:
        del self.stats[pid]
        procs = self._counting / path.lstrip("/") / "cgroup.procs"
        procs.write_text("".join(f"{line}\n" for line in procs.read_text().split() if int(line) != pid))

    def pids(self) -> set[int]:
        return set(self.stats)

    def read(self, pid: int) -> ProcessStat | None:
        return self.stats.get(pid)

    def environment(self, pid: int, beginning: str = "") -> Mapping[str, str]:
        return {name: value for name, value in self.environments.get(pid, {}).items() if name.startswith(beginning)}

    def newest(self) -> int:
        return 0

    def begun(self, after: int, until: int) -> set[int] | None:
        return None


@pytest.fixture(params=["v2", "v1", "hybrid"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    return Host(tmp_path, request.param)


def test_a_group_counts_and_holds_what_is_in_those_below_it(host: Host) -> None:
    host.group("/a", 2.5)
    host.group("/a/b", 1.0)
    host.put(7, "/a/b")
    host.put(8, "/a")

    assert host.cgroups.available
    assert host.cgroups.path_of(7) == "/a/b"
    assert host.cgroups.pids("/a") == {7, 8}
    assert host.cgroups.cpu_seconds("/a") == 2.5
    assert host.cgroups.cpu_seconds("/gone") is None
    assert host.cgroups.path_of(9) == ""


def test_a_run_alone_in_its_group_is_counted_with_processes_that_nobody_saw(host: Host) -> None:
    host.group("/docker/one", 0.0)
    host.put(3, "/")
    host.scan.scan()
    host.put(10, "/docker/one", run_id="run-1", cpu=0.1)
    host.group("/docker/one", 0.1)
    host.scan.scan()
    host.group("/docker/one", 4.0)
    host.put(10, "/docker/one", run_id="run-1", cpu=0.2)
    host.scan.scan()
    host.group("/docker/one", 6.5)

    use = host.scan.scan()[RUN_1]

    assert use.used_cpu_seconds == pytest.approx(2.5)
    assert use.cpu_seconds == pytest.approx(6.5)
    assert (use.group, use.group_cpu_seconds) == ("/docker/one", 6.5)


def test_a_group_that_was_made_for_the_run_counts_from_its_beginning(host: Host) -> None:
    host.scan.scan()
    host.group("/docker/one", 3.0)
    host.put(10, "/docker/one", run_id="run-1", cpu=0.1)

    assert host.scan.scan()[RUN_1].cpu_seconds == pytest.approx(3.0)


def test_a_run_that_shares_its_group_is_counted_by_its_processes(host: Host) -> None:
    host.group("/user.slice", 0.0)
    host.put(3, "/user.slice")
    host.put(10, "/user.slice", run_id="run-1")
    host.scan.scan()
    host.group("/user.slice", 50.0)
    host.put(10, "/user.slice", run_id="run-1", cpu=1.0)

    use = host.scan.scan()[RUN_1]

    assert (use.cpu_seconds, use.group) == (1.0, "")


def test_a_stranger_that_enters_a_runs_group_ends_its_being_the_runs_own(host: Host) -> None:
    host.group("/docker/one", 0.0)
    host.put(10, "/docker/one", run_id="run-1")
    host.scan.scan()
    host.put(11, "/docker/one")
    host.group("/docker/one", 9.0)
    host.put(10, "/docker/one", run_id="run-1", cpu=1.0)

    use = host.scan.scan()[RUN_1]

    assert (use.cpu_seconds, use.group) == (1.0, "")


def test_the_ranks_of_a_slurm_job_are_one_run_in_one_group(host: Host) -> None:
    step = "/system.slice/slurmstepd.scope/job_4711/step_0"
    for task in range(3):
        host.group(f"{step}/user/task_{task}", 0.0)
    host.group(f"{step}/user", 0.0)
    host.put(3, "/")
    for task in range(3):
        host.put(10 + task, f"{step}/user/task_{task}", run_id="run-1")
    host.scan.scan()
    host.group(f"{step}/user", 7.5)

    (use,) = host.scan.scan().values()

    assert (use.group, use.used_cpu_seconds, len(use.pids)) == (f"{step}/user", 7.5, 3)
    assert use.workload.slurm_job_id == "4711"


def test_a_run_that_began_and_ended_between_two_scans_in_a_group_of_its_name_is_charged(host: Host) -> None:
    host.group(f"/{RUNS_GROUP}", 0.0)
    host.scan.scan()
    host.group(f"/{RUNS_GROUP}/acme.run-9", 0.75)

    use = host.scan.scan()[("acme", "run-9")]

    assert (use.used_cpu_seconds, use.pids) == (0.75, frozenset())
    assert use.context == RunContext(tenant="acme", run_id="run-9", metered=True)
    assert host.scan.scan() == {}
    host.group(f"/{RUNS_GROUP}/acme.run-9", 1.0)
    assert host.scan.scan()[("acme", "run-9")].used_cpu_seconds == 0.25
    host.remove(f"/{RUNS_GROUP}/acme.run-9")
    assert host.scan.scan() == {}


def test_processes_in_a_group_of_a_runs_name_are_that_runs_whatever_they_say(host: Host) -> None:
    host.group(f"/{RUNS_GROUP}/acme.run-9", 0.0)
    host.put(10, f"/{RUNS_GROUP}/acme.run-9")
    host.scan.scan()
    host.group(f"/{RUNS_GROUP}/acme.run-9", 2.0)

    (use,) = host.scan.scan().values()

    assert (use.context.tenant, use.context.run_id, use.pids, use.used_cpu_seconds) == ("acme", "run-9", {10}, 2.0)


def test_a_group_that_has_gone_leaves_the_run_to_its_processes(host: Host) -> None:
    host.group("/docker/one", 0.0)
    host.put(10, "/docker/one", run_id="run-1")
    host.scan.scan()
    host.remove("/docker/one")
    host.stats[10] = ProcessStat(10, 1, 10.0, 2.0, 0.0, 1000, ended=False)

    assert host.scan.scan()[RUN_1].cpu_seconds == 2.0


def test_a_host_without_groups_is_counted_by_processes(tmp_path: Path) -> None:
    assert not Cgroups(tmp_path, tmp_path).available


@contextlib.contextmanager
def real_group(name: str) -> Iterator[Callable[[int], None]]:
    """A group of this host's; gives what puts a process into it. Skips where this user may make none."""
    folder = next(
        (path for path in (CGROUPS / "cpuacct", CGROUPS / "cpu,cpuacct", CGROUPS) if (path / "cgroup.procs").exists()),
        None,
    )
    if folder is None:
        pytest.skip("this host shows no control groups")
    made = folder / name
    try:
        made.mkdir()
    except OSError as error:
        pytest.skip(f"this user may make no control group: {error.strerror}")
    try:
        yield lambda pid: (made / "cgroup.procs").write_text(str(pid))  # type: ignore[arg-type, return-value]
    finally:
        made.rmdir()


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_a_real_process_that_nobody_saw_alive_is_charged_to_the_run_whose_group_it_was_in() -> None:
    run_id = new_id("run")
    scan = ProcessScan(table=LinuxProcessTable(), cgroups=Cgroups())
    scan.scan()
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    with real_group(f"ergonaut-test-{run_id}") as enter:
        environment = {**os.environ, **RunContext(run_id=run_id).to_environment()}
        with subprocess.Popen(
            ["/bin/sh", "-c", "read go; setsid $0 -c \"$1\" & wait; echo done; read end", sys.executable, burn],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        ) as shell:  # fmt: skip
            assert shell.stdin is not None
            assert shell.stdout is not None
            enter(shell.pid)
            before = scan.scan()[("default", run_id)]
            shell.stdin.write(b"go\n")
            shell.stdin.flush()
            shell.stdout.readline()
            use = scan.scan()[("default", run_id)]
            shell.stdin.write(b"end\n")
            shell.stdin.close()
            shell.wait()

    assert before.group == use.group == f"/ergonaut-test-{run_id}"
    assert use.used_cpu_seconds >= 0.29
