"""Programs of many ranks: the first rank on each host meters all ranks there, so that nothing is counted twice.

The other ranks of the host meter nothing and write nothing. So a job on one host is one run; a job on n hosts is n runs, one
a host, which add up.
"""

import os
from collections.abc import Mapping

from ergonaut.metering.processtable import ProcessTable

# Which of its host's ranks a process is, as torchrun, Slurm, Open MPI and MPICH tell it.
_ON_HOST = ("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID")
# Where only the rank in the whole job is told, all ranks are taken to be on one host.
_IN_JOB = ("RANK", "SLURM_PROCID")


def rank_on_host(environment: Mapping[str, str]) -> int | None:
    """Which of its host's ranks a process is, from 0; None for a program that has no ranks.

    >>> rank_on_host({"RANK": "9", "LOCAL_RANK": "1"}), rank_on_host({"RANK": "9"}), rank_on_host({})
    (1, 9, None)
    """
    told = (environment.get(name, "") for name in (*_ON_HOST, *_IN_JOB))
    return next((int(text) for text in told if text.isdecimal()), None)


def is_fellow_rank(table: ProcessTable, pid: int) -> bool:
    """Whether a process is another rank that the same launcher started beside this process."""
    stat = table.read(pid)
    if stat is None or stat.parent_pid != os.getppid() or stat.parent_pid <= 1:
        return False
    return bool(rank_on_host(table.environment(pid)))
