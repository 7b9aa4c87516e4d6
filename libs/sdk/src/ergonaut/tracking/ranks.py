"""Programs of many ranks: the first rank on each host meters all ranks there, so that nothing is counted twice.

The other ranks of the host meter nothing and write nothing. So a job on one host is one run; a job on n hosts is n runs, one
a host, which add up.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from ergonaut.metering.processtable import ProcessStat, ProcessTable

# Which of its host's ranks a process is, as torchrun, Open MPI, MPICH and Slurm tell it. What a launcher below another tells
# comes first: mpirun in a Slurm job leaves all its ranks with the same local number of Slurm's.
_ON_HOST = ("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")
# Where only the rank in the whole job is told, all ranks are taken to be on one host.
_IN_JOB = ("RANK", "SLURM_PROCID")

# What all ranks of a job on one host have in common, by who told the rank; without the first of each it is not told. Two nodes
# of a job that are on one host, as in tests, differ in their own rank.
_TORCH = ("MASTER_PORT", "MASTER_ADDR", "TORCHELASTIC_RUN_ID", "GROUP_RANK", "NODE_RANK")
_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_ID")
_OPEN_MPI = (("PMIX_NAMESPACE",), ("OMPI_MCA_ess_base_jobid",))
_MPICH = (("PMI_JOBID",),)
_TOLD_BY = {
    "LOCAL_RANK": (_TORCH,),
    "RANK": (_TORCH,),
    "SLURM_LOCALID": (_SLURM,),
    "SLURM_PROCID": (_SLURM,),
    "OMPI_COMM_WORLD_LOCAL_RANK": _OPEN_MPI,
    "MPI_LOCALRANKID": _MPICH,
}
_ALL_JOBS = (_TORCH, _SLURM, *_OPEN_MPI, *_MPICH)


def rank_on_host(environment: Mapping[str, str]) -> int | None:
    """Which of its host's ranks a process is, from 0; None for a program that has no ranks.

    >>> rank_on_host({"RANK": "9", "LOCAL_RANK": "1"}), rank_on_host({"RANK": "9"}), rank_on_host({})
    (1, 9, None)
    """
    variable = _told_by(environment)
    return int(environment[variable]) if variable else None


@dataclass(frozen=True, slots=True)
class Rank:
    """This process as one of its host's ranks."""

    number: int
    root: ProcessStat
    """What a launcher started as this rank: this process, or a shell around it."""
    launcher_pid: int
    job: str
    """The same for all ranks of the job on this host, and no other job's."""

    @classmethod
    def of_this_process(cls, table: ProcessTable) -> Self | None:
        """The rank that this process is; None for a program without ranks, and where no process can be seen."""
        variable, root = _told_by(os.environ), table.read(os.getpid())
        if not variable or root is None:
            return None
        environment: Mapping[str, str] = os.environ
        # Whoever set the variables within the process, as multiprocessing's programs do, shows them to nobody else.
        above: ProcessStat | None = root
        while above is not None and above.pid > 1:
            told = table.environment(above.pid)
            if _told_by(told) != variable or told[variable] != os.environ[variable]:
                break
            root, environment = above, told
            above = table.read(above.parent_pid)
        job = _job_of(environment, table, root.parent_pid)
        return cls(int(os.environ[variable]), root, root.parent_pid, job)

    def is_beside(self, table: ProcessTable, pid: int) -> bool:
        """Whether a process is what the same launcher started as another rank of the same job."""
        stat = table.read(pid)
        if stat is None or stat.parent_pid != self.launcher_pid or stat.parent_pid <= 1:
            return False
        environment = table.environment(pid)
        return bool(rank_on_host(environment)) and _job_of(environment, table, self.launcher_pid) == self.job


def _told_by(environment: Mapping[str, str]) -> str:
    return next((name for name in (*_ON_HOST, *_IN_JOB) if environment.get(name, "").isdecimal()), "")


def _job_of(environment: Mapping[str, str], table: ProcessTable, launcher_pid: int) -> str:
    for names in (*_TOLD_BY[_told_by(environment)], *_ALL_JOBS):
        if environment.get(names[0]):
            return " ".join(f"{name}={environment[name]}" for name in names if environment.get(name))
    launcher = table.read(launcher_pid)
    return f"launcher {launcher_pid} {launcher.started if launcher is not None else ''}"
