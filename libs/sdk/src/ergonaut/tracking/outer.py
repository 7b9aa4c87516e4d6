"""How a program learns that it runs inside another one that is tracked, so that its energy is not counted a second time."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ergonaut.metering.processtable import process_started_at

VARIABLES_BEGIN = "ERGONAUT_TRACKED_"
"""With which the variables begin; reading no others of a process costs a fraction."""

# Systems compute when a process began from two clocks, of which one may have been set in between.
_SAME_PROCESS_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class OuterRun:
    """A run that is tracked by another process, which meters all its descendants."""

    run_id: str
    journal: Path
    pid: int
    process_started_at: float

    @classmethod
    def of_this_process(cls, run_id: str, journal: Path) -> Self:
        """The run that this process tracks."""
        return cls(run_id, journal, os.getpid(), own_start() or 0.0)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self | None:
        """The run that the environment tells of, if its tracker still lives."""
        try:
            run = cls(
                environment[f"{VARIABLES_BEGIN}RUN_ID"],
                Path(environment[f"{VARIABLES_BEGIN}JOURNAL"]),
                int(environment[f"{VARIABLES_BEGIN}PID"]),
                float(environment[f"{VARIABLES_BEGIN}SINCE"]),
            )
            return run if is_alive(run.pid, run.process_started_at) else None
        except (KeyError, ValueError):
            return None
        except OSError:
            # Out of file descriptors: whether it lives cannot be seen, and counting twice would be worse than not at all.
            return run

    def is_told_by(self, environment: Mapping[str, str]) -> bool:
        """Whether a process with this environment was started in the run."""
        return environment.get(f"{VARIABLES_BEGIN}RUN_ID") == self.run_id

    def to_environment(self) -> dict[str, str]:
        """The variables by which child processes learn of the run."""
        values = {"RUN_ID": self.run_id, "JOURNAL": self.journal, "PID": self.pid, "SINCE": self.process_started_at}
        return {f"{VARIABLES_BEGIN}{name}": str(value) for name, value in values.items()}


def own_start() -> float | None:
    """When this process began, Unix seconds; None where nothing can be opened to look."""
    try:
        return process_started_at(os.getpid())
    except OSError:
        return None


def is_alive(pid: int, started_at: float) -> bool:
    """Whether the process that had this pid and began then still lives, and not a later one of the same pid. Raises OSError."""
    now = process_started_at(pid)
    return now is not None and abs(now - started_at) <= _SAME_PROCESS_SECONDS
