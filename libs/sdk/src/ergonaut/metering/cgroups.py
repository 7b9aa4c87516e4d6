"""Control groups: in which one a process is, what container, pod or Slurm job that stands for, and the CPU time it has used.

A group's CPU time holds that of processes which have ended and been forgotten. So where a group is one run's alone, it tells
what a look at living processes cannot. Linux only; version 2 of the interface, version 1, and both at once.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")

RUNS_GROUP = "ergonaut.slice"
"""A group directly below the root; a group in it that is called `<tenant>.<run id>` is that run's, whatever its processes say."""

_FILE_BYTES_MAX = 64 * 1024
# Deeper trees than this below one run's group are somebody else's business.
_GROUPS_LOOKED_AT_MAX = 256

_CONTAINER = re.compile(
    # systemd: docker-<id>.scope, cri-containerd-<id>.scope, crio-<id>.scope, libpod-<id>.scope; cgroupfs: .../<id>
    r"(?:^|/)(?:docker-|cri-containerd-|crio-|libpod-|libpod-payload-)?(?P<id>[0-9a-f]{64})(?:\.scope)?(?=/|$)"
)
_POD = re.compile(
    r"/(?:kubepods(?:-(?:burstable|besteffort))?-)?"
    # A static pod's uid is a hash without dashes.
    r"pod(?P<uid>[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?(?=/|$)"
)
# slurm/, slurm_<node>/, slurmstepd.scope/, and <node>_slurmstepd.scope/ where several slurmd share a machine.
_SLURM_JOB = re.compile(r"/(?:slurm[^/]*|[^/]+_slurmstepd\.scope)/(?:[^/]+/)*?job_(?P<id>\d+)(?=/|$)")
_UNIT = re.compile(r"(?:^|/)(?P<unit>[^/]+\.(?:service|scope|slice))(?=/|$)")
_RUN = re.compile(r"^/" + re.escape(RUNS_GROUP) + r"/(?P<tenant>[a-z0-9-]+)\.(?P<run>[a-z0-9-]+)(?=/|$)")


@dataclass(frozen=True, slots=True)
class Workload:
    """What others call the thing that a process belongs to; empty where it is none."""

    container_id: str = ""
    pod_uid: str = ""
    slurm_job_id: str = ""
    unit: str = ""


def workload_of(path: str) -> Workload:
    """What a group's path tells, by the names that Docker, containerd, CRI-O, Podman, Kubernetes, Slurm and systemd give.

    >>> workload_of("/system.slice/slurmstepd.scope/job_4711/step_0/user/task_0").slurm_job_id
    '4711'
    """
    container = [found["id"] for found in _CONTAINER.finditer(path)]
    pod, slurm = _POD.search(path), _SLURM_JOB.search(path)
    units = [found["unit"] for found in _UNIT.finditer(path)]
    return Workload(
        # In a container that has containers of its own, the innermost is the one that the process is in.
        container_id=container[-1] if container else "",
        pod_uid=pod["uid"].replace("_", "-") if pod else "",
        slurm_job_id=slurm["id"] if slurm else "",
        unit=units[-1] if units else "",
    )


def run_named_by(path: str) -> tuple[str, str] | None:
    """Tenant and run id, where a group is one run's by its name.

    >>> run_named_by("/ergonaut.slice/acme.run-1/step")
    ('acme', 'run-1')
    """
    found = _RUN.match(path)
    return (found["tenant"], found["run"]) if found else None


class Cgroups:
    """The groups of a host that count CPU time. Paths are as a process's own /proc file has them, from the root `/`."""

    def __init__(self, root: Path = CGROUPS, proc: Path = Path("/proc")) -> None:
        self._proc = str(proc)
        self._folder, self._controller = _counting_hierarchy(root)
        self._runs_folder = f"{self._folder}/{RUNS_GROUP}"

    @property
    def available(self) -> bool:
        """Whether this host has groups that count."""
        return bool(self._folder)

    def path_of(self, pid: int) -> str:
        """The group of a process; empty where it has gone or has none."""
        for line in _content(f"{self._proc}/{pid}/cgroup").splitlines():
            _, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            if self._controller in controllers.split(",") if self._controller else not controllers:
                return path
        return ""

    def cpu_seconds(self, path: str) -> float | None:
        """What all processes of a group and of those below it have used, the dead ones too; None where the group has gone."""
        if self._controller:
            nanoseconds = _content(f"{self._folder}{path}/cpuacct.usage")
            return int(nanoseconds) / 1e9 if nanoseconds else None
        name, _, rest = _content(f"{self._folder}{path}/cpu.stat").partition(" ")
        return int(rest.split(None, 1)[0]) / 1e6 if name == "usage_usec" else None

    def pids(self, path: str) -> set[int]:
        """The processes in a group and in those below it. Raises OverflowError where those are too many to look at."""
        found: set[int] = set()
        for looked_at, folder in enumerate(_folders(f"{self._folder}{path}")):
            if looked_at >= _GROUPS_LOOKED_AT_MAX:
                raise OverflowError(f"{path} has more than {_GROUPS_LOOKED_AT_MAX} groups below it")
            found.update(int(line) for line in _content(f"{folder}/cgroup.procs").split())
        return found

    def made_at(self, path: str) -> float:
        """When a group was made, Unix seconds; 0 where that cannot be known."""
        try:
            return os.stat(f"{self._folder}{path}").st_ctime  # noqa: PTH116 - half the cost of Path.stat
        except OSError:
            return 0.0

    def named_after_runs(self) -> tuple[str, ...]:
        """The groups that are one run's by their names; a host without such groups pays for one look only."""
        try:
            names = os.listdir(self._runs_folder)  # noqa: PTH208 - twice as fast as Path.iterdir
        except OSError:
            return ()
        # The files of the group itself have no capitals either, but none is called like a tenant and a run.
        paths = (f"/{RUNS_GROUP}/{name}" for name in sorted(names) if "_" not in name)
        return tuple(path for path in paths if run_named_by(path) and os.path.isdir(f"{self._folder}{path}"))  # noqa: PTH112


def _counting_hierarchy(root: Path) -> tuple[str, str]:
    """Where groups count CPU time, and by which controller of version 1, or none for version 2."""
    if (root / "cgroup.controllers").is_file():
        return str(root), ""
    for name in ("cpuacct", "cpu,cpuacct"):
        if (root / name / "cpuacct.usage").is_file():
            return str(root / name), "cpuacct"
    if (root / "unified" / "cgroup.controllers").is_file():
        return str(root / "unified"), ""
    return "", ""


def _folders(top: str) -> Iterable[str]:
    return (folder for folder, _, _ in os.walk(top))


def _content(path: str) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(descriptor, _FILE_BYTES_MAX).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(descriptor)
