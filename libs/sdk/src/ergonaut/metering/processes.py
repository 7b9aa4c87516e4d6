"""Which processes belong to which run, and how much CPU time and memory each run's processes have used.

A child belongs to its parent's run for good, even when its parent has gone. A process whose parent is in no run belongs to
the run that the claim finds for it, by default the one that its own environment tells of.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ergonaut.metering.processtable import ProcessStat, ProcessTable, open_process_table
from ergonaut.runcontext import RunContext

# Looking again at every process that is in no run would cost most of a scan. So few at a time are enough to notice within
# two minutes, on a host of a few hundred, that a pid was used again or that a program was replaced by one that tells of a run.
_STRANGERS_SEEN_AGAIN = 4

Claim = Callable[[int], RunContext | None]


@dataclass(frozen=True, slots=True)
class RunUse:
    """What a run's processes have used since the scan first saw the run; without living ones the run has ended."""

    context: RunContext
    cpu_seconds: float
    resident_bytes: int
    pids: frozenset[int]


@dataclass(slots=True)
class _Run:
    context: RunContext
    cpu_seconds: float = 0.0
    members: dict[int, ProcessStat] = field(default_factory=dict)

    def use(self) -> RunUse:
        living = [stat for stat in self.members.values() if not stat.ended]
        resident = sum(stat.resident_bytes for stat in living)
        return RunUse(self.context, self.cpu_seconds, resident, frozenset(stat.pid for stat in living))


class ProcessScan:
    """Follows the processes of runs from scan to scan, so that no CPU time of a short-lived child is lost or counted twice."""

    def __init__(self, claim: Claim | None = None, table: ProcessTable | None = None) -> None:
        self._table = table or open_process_table()
        self._claim = claim or (lambda pid: claimed_by_environment(pid, self._table))
        self._runs: dict[str, _Run] = {}
        self._run_of: dict[int, str] = {}
        self._new_strangers: set[int] = set()
        self._strangers: dict[int, None] = {}
        self._again: deque[int] = deque()
        self._first = True

    def scan(self) -> Mapping[str, RunUse]:
        """Every run by its id; a run whose last process has gone is told once more and then forgotten."""
        for run in self._runs.values():
            self._follow(run)
        self._welcome(self._table.pids())
        uses = {run_id: run.use() for run_id, run in self._runs.items()}
        self._runs = {run_id: run for run_id, run in self._runs.items() if run.members}
        self._first = False
        return uses

    def _follow(self, run: _Run) -> None:
        before, now = run.members, {}
        for pid, old in before.items():
            stat = self._table.read(pid)
            if stat is not None and stat.started == old.started:
                now[pid] = stat
        gone = {pid: stat for pid, stat in before.items() if pid not in now}
        run.cpu_seconds += used_between(before, now, gone)
        run.members = now
        for pid in gone:
            del self._run_of[pid]

    def _welcome(self, pids: set[int]) -> None:
        """Find the run of each process that is new, of those that were new in the last scan, and of a few others again."""
        self._strangers = {pid: None for pid in self._strangers if pid in pids}
        # Between fork and exec a child still shows its parent's environment, so who was new once is looked at again.
        young = self._new_strangers & pids
        new = pids - self._run_of.keys() - self._strangers.keys()
        self._new_strangers = new - young
        for pid in sorted(new):
            self._place(pid, count_past=not self._first)
        self._strangers.update(dict.fromkeys(young - self._run_of.keys()))
        for pid in self._due_again():
            if self._place(pid, count_past=False):
                del self._strangers[pid]
        self._new_strangers -= self._run_of.keys()

    def _due_again(self) -> Iterable[int]:
        if not self._again:
            self._again.extend(self._strangers)
        due = [self._again.popleft() for _ in range(min(_STRANGERS_SEEN_AGAIN, len(self._again)))]
        return [pid for pid in due if pid in self._strangers]

    def _place(self, pid: int, *, count_past: bool) -> bool:
        """Put a process into its run, if it has one; `count_past` charges what it used before it was seen."""
        stat = self._table.read(pid)
        if stat is None or pid in self._run_of:
            return pid in self._run_of
        # Pids wrap, so a new process may be seen before its own new parent.
        if stat.parent_pid > pid and stat.parent_pid in self._new_strangers:
            self._place(stat.parent_pid, count_past=count_past)
        run_id = self._run_of.get(stat.parent_pid) or self._claimed(pid)
        if run_id is None:
            return False
        run = self._runs[run_id]
        run.members[pid] = stat
        self._run_of[pid] = run_id
        if count_past:
            run.cpu_seconds += stat.total_cpu_seconds
        return True

    def _claimed(self, pid: int) -> str | None:
        context = self._claim(pid)
        if context is None:
            return None
        self._runs.setdefault(context.run_id, _Run(context))
        return context.run_id


def used_between(
    before: Mapping[int, ProcessStat], now: Mapping[int, ProcessStat], gone: Mapping[int, ProcessStat]
) -> float:
    """CPU-seconds that a run's known processes used between two looks at them.

    A process that is reaped hands all its time to its parent. What of it had been counted before must not count again.
    """
    handed_on: dict[int, float] = defaultdict(float)
    for stat in gone.values():
        heir = stat.parent_pid
        while heir in gone:
            heir = gone[heir].parent_pid
        handed_on[heir] += stat.total_cpu_seconds
    used = 0.0
    for pid, stat in now.items():
        used += stat.cpu_seconds - before[pid].cpu_seconds
        used += max(0.0, stat.reaped_cpu_seconds - before[pid].reaped_cpu_seconds - handed_on[pid])
    return used


def claimed_by_environment(pid: int, table: ProcessTable | None = None) -> RunContext | None:
    """The run that a process's own environment tells of."""
    return RunContext.from_environment((table or open_process_table()).environment(pid))
