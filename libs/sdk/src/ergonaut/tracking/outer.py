"""How a program learns that it runs inside another one that is tracked, so that its energy is not counted a second time."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ergonaut.tracking.closing import has_ended
from ergonaut.tracking.identity import ProcessIdentity

VARIABLES_BEGIN = "ERGONAUT_TRACKED_"
"""With which the variables begin; reading no others of a process costs a fraction."""


@dataclass(frozen=True, slots=True)
class OuterRun:
    """A run that is tracked by another process, which meters all its descendants."""

    run_id: str
    journal: Path
    tracker: ProcessIdentity

    @classmethod
    def of_this_process(cls, run_id: str, journal: Path) -> Self:
        """The run that this process tracks."""
        return cls(run_id, journal, ProcessIdentity.of_this_process())

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self | None:
        """The run that the environment tells of, if it goes on."""
        try:
            run = cls(
                environment[f"{VARIABLES_BEGIN}RUN_ID"],
                Path(environment[f"{VARIABLES_BEGIN}JOURNAL"]),
                _tracker(environment),
            )
        except (KeyError, ValueError):
            return None
        return run if run.goes_on() else None

    def goes_on(self) -> bool:
        """Whether its tracker still lives and has not ended it; a child process may outlive the run that it was begun in."""
        try:
            return self.tracker.lives() and not has_ended(self.journal)
        except OSError:
            # Out of file descriptors, or a run that is kept in memory only: it cannot be seen, and counting twice would be
            # worse than not at all.
            return True

    def is_told_by(self, environment: Mapping[str, str]) -> bool:
        """Whether a process with this environment was started in the run."""
        return environment.get(f"{VARIABLES_BEGIN}RUN_ID") == self.run_id

    def to_environment(self) -> dict[str, str]:
        """The variables by which child processes learn of the run."""
        values = {
            "RUN_ID": self.run_id,
            "JOURNAL": self.journal,
            "PID": self.tracker.pid,
            "SINCE": self.tracker.started_at,
            "PROCESS": f"{self.tracker.pid} {self.tracker.started_ticks} {self.tracker.boot_id}",
        }
        return {f"{VARIABLES_BEGIN}{name}": str(value) for name, value in values.items()}


def _tracker(environment: Mapping[str, str]) -> ProcessIdentity:
    pid, since = int(environment[f"{VARIABLES_BEGIN}PID"]), float(environment[f"{VARIABLES_BEGIN}SINCE"])
    # A tracker of an older version between that one and us tells nothing of ticks, and leaves standing what another had told.
    told = environment.get(f"{VARIABLES_BEGIN}PROCESS", "").split()
    if len(told) != 3 or told[0] != str(pid) or not told[1].isdecimal():
        return ProcessIdentity(pid, since)
    return ProcessIdentity(pid, since, int(told[1]), told[2])
