"""Which processes belong to which run, and how much CPU time and memory each run's processes have used.

A child belongs to its parent's run for good, even when its parent has gone. A process whose parent is in no run belongs to
the run that the claim finds for it, by default the one that its own environment tells of; or to the run after which its
control group is named.
"""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from ergonaut.metering.attribution import NOBODY, RunKey
from ergonaut.metering.cgroups import Cgroups, Workload, run_named_by, workload_of
from ergonaut.metering.meters import NOBODYS_PID
from ergonaut.metering.owned import OwnedGroup, has_foreign, own_group
from ergonaut.metering.processtable import ProcessStat, ProcessTable, open_process_table
from ergonaut.runcontext import RunContext

# Looking again at every process that is in no run would cost most of a scan. So few at a time are enough to notice within two
# minutes, on a host of a few hundred, that a program was replaced by one that tells of a run; and many together, seldom, cost
# less than few each time, when everything has fallen out of the caches.
_STRANGERS_SEEN_AGAIN = 64
_SCANS_BETWEEN_STRANGERS = 16
# New processes are known by their pids, which grow. A look at all of them, now and then, makes up for what that misses: a system
# that gives pids out of order, as one does that restores processes.
_SCANS_BETWEEN_FULL = 64

_VARIABLES_BEGIN = "ERGONAUT_"
# The kernel stamps files by its tick, which is up to this much behind the clock.
_FILE_TIME_LAG_SECONDS = 0.02

Claim = Callable[[int], RunContext | None]


@dataclass(frozen=True, slots=True)
class ToldProcess:
    """A process that somebody has told of, wherever it was started: as it was when its part in the run began, and at the end."""

    begun: ProcessStat
    ended: ProcessStat | None = None
    counts_since_begun: bool = True
    """Whether what it used before it was told of is the run's; else another run has had it."""

    @property
    def pid(self) -> int:
        """Its pid."""
        return self.begun.pid


Told = Callable[[], Iterable[ToldProcess]]


@dataclass(frozen=True, slots=True)
class RunUse:
    """What a run's processes have used since the scan first saw the run; without living ones the run has ended.

    `used_cpu_seconds` is what came since the last scan, and `ended_pids` are processes that have ended since, whose work on a
    card is still to be told. `group` is the control group that the run has for itself, if any, and `group_cpu_seconds` where its
    own counting stands.
    """

    context: RunContext
    cpu_seconds: float
    resident_bytes: int
    pids: frozenset[int]
    used_cpu_seconds: float = 0.0
    workload: Workload = field(default_factory=Workload)
    group: str = ""
    group_cpu_seconds: float | None = None
    ended_pids: frozenset[int] = frozenset()


@dataclass(slots=True)
class _Run:
    context: RunContext
    cpu_seconds: float = 0.0
    tree_cpu_seconds: float = 0.0
    members: dict[int, ProcessStat] = field(default_factory=dict)
    gone: frozenset[int] = frozenset()
    paths: dict[int, str] = field(default_factory=dict)
    group: OwnedGroup | None = None
    workload: Workload = field(default_factory=Workload)
    is_new: bool = True
    has_newcomers: bool = False
    told_ended: bool = False

    def advance(self) -> float:
        """Add what was used since the last scan, by the group where the run has one and it can be read, else by the trees."""
        by_group = self.group.used_cpu_seconds if self.group is not None else None
        used = self.tree_cpu_seconds if by_group is None else by_group
        self.cpu_seconds += used
        self.is_new = self.has_newcomers = False
        return used

    def use(self, used_cpu_seconds: float) -> RunUse:
        living = [stat for stat in self.members.values() if not stat.ended]
        return RunUse(
            context=self.context,
            cpu_seconds=self.cpu_seconds,
            resident_bytes=sum(stat.resident_bytes for stat in living),
            pids=frozenset(stat.pid for stat in living),
            used_cpu_seconds=used_cpu_seconds,
            workload=self.workload,
            group=self.group.path if self.group else "",
            group_cpu_seconds=self.group.total_cpu_seconds if self.group else None,
            ended_pids=self.gone.union(stat.pid for stat in self.members.values() if stat.ended),
        )


class ProcessScan:
    """Follows the processes of runs from scan to scan, so that no CPU time of a short-lived child is lost or counted twice.

    With `cgroups`, a run that has a control group for itself alone is counted by that, which knows of processes that began and
    ended between two scans; and a group that is named after a run is a run. `told` gives what has been told of since it was
    asked last, which the claim knows as well.
    """

    def __init__(
        self,
        claim: Claim | None = None,
        table: ProcessTable | None = None,
        cgroups: Cgroups | None = None,
        told: Told = tuple,
    ) -> None:
        self._table = table or open_process_table()
        self._claim = claim or (lambda pid: claimed_by_environment(pid, self._table))
        self._cgroups = cgroups if cgroups is not None and cgroups.available else None
        self._told = told
        self._last_words: dict[int, ProcessStat] = {}
        self._runs: dict[RunKey, _Run] = {}
        self._run_of: dict[int, RunKey] = {}
        self._strangers: dict[int, None] = {}
        self._young: set[int] = set()
        self._looking_at: set[int] = set()
        self._again: deque[int] = deque()
        self._marks = (0, 0)
        self._named_before: frozenset[str] = frozenset()
        self._scans = 0
        self._scanned_at = 0.0

    def scan(self) -> Mapping[RunKey, RunUse]:
        """Every run by its key; a run whose last process has gone is told once more and then forgotten."""
        unseen = [one for one in self._told() if not self._is_last_word(one)]
        for run in self._runs.values():
            self._follow(run)
        # Before they are looked at as strangers, of which nobody knows how much of what they used is the run's.
        self._welcome_told([one for one in unseen if one.ended is None])
        self._welcome()
        for one in unseen:
            if one.ended is not None:
                self._charge_missed(one, one.ended)
        if self._cgroups is not None:
            self._count_groups(self._cgroups)
        uses: dict[RunKey, RunUse] = {}
        for key, run in self._runs.items():
            used = run.advance()
            if run.members or used or not run.told_ended:
                uses[key] = run.use(used)
            run.told_ended = not run.members
        self._runs = {key: run for key, run in self._runs.items() if run.members or (run.group and run.group.is_named)}
        self._scans, self._scanned_at = self._scans + 1, time.time()
        return uses

    def release(self, key: RunKey) -> None:
        """Let go of what lives on of a run that was told of and has ended; from the last scan on it is nobody's."""
        run = self._runs.get(key)
        # Whose environment or group says that it is metered is so for good.
        if run is None or run.context.metered:
            return
        del self._runs[key]
        for pid in run.members:
            del self._run_of[pid]
            self._strangers[pid] = None

    def _follow(self, run: _Run) -> None:
        before, now = run.members, {}
        for pid, old in before.items():
            stat = self._table.read(pid)
            if stat is not None and stat.started == old.started:
                now[pid] = stat
        gone = {pid: stat for pid, stat in before.items() if pid not in now}
        last = self._last_of(gone, before)
        heirless = {pid: stat for pid, stat in gone.items() if pid not in last}
        run.tree_cpu_seconds = used_between(before, now | last, heirless)
        run.members, run.gone = now, frozenset(gone)
        for pid in gone:
            del self._run_of[pid]
            run.paths.pop(pid, None)

    def _is_last_word(self, told: ToldProcess) -> bool:
        """Keep what a process that is followed had used in the end, since it may have gone by now."""
        if told.ended is None or told.pid not in self._run_of:
            return False
        self._last_words[told.pid] = told.ended
        return True

    def _last_of(self, gone: Mapping[int, ProcessStat], before: Mapping[int, ProcessStat]) -> dict[int, ProcessStat]:
        """What those of the gone had used at last that said so, and whose parents in the run do not inherit it."""
        last: dict[int, ProcessStat] = {}
        for pid in gone.keys() & self._last_words.keys():
            said, seen = self._last_words.pop(pid), gone[pid]
            if said.started == seen.started and seen.parent_pid not in before and _is_later(said, seen):
                last[pid] = said
        return last

    def _welcome(self) -> None:
        """Find the run of each process that is new, of those that were new in the last scan, and of some others now and then."""
        self._looking_at = self._new_or_young()
        self._young = set()
        for pid in sorted(self._looking_at):
            if self._place(pid, count_past=self._scans > 0):
                self._strangers.pop(pid, None)
            else:
                self._strangers[pid] = None
                self._young.add(pid)
        if self._scans % _SCANS_BETWEEN_STRANGERS == 0:
            self._look_at_strangers()

    def _welcome_told(self, told: Iterable[ToldProcess]) -> None:
        """Take what was told of into its run, with those that it had started before."""
        taken = [one for one in told if self._take_told(one)]
        if taken:
            for pid in sorted(self._strangers):
                stat = self._table.read(pid)
                if stat is not None and stat.parent_pid in self._run_of and self._place(pid, count_past=False):
                    del self._strangers[pid]

    def _take_told(self, told: ToldProcess) -> bool:
        stat, begun = self._table.read(told.pid), told.begun
        if stat is None or stat.started != begun.started or self._run_of.keys() & {stat.pid, stat.parent_pid}:
            return False
        key = self._claimed(told.pid)
        if key is None:
            return False
        if told.counts_since_begun and self._scans:
            self._runs[key].tree_cpu_seconds += max(0.0, stat.total_cpu_seconds - begun.total_cpu_seconds)
        self._strangers.pop(told.pid, None)
        self._young.discard(told.pid)
        self._join(self._runs[key], stat)
        return True

    def _charge_missed(self, told: ToldProcess, ended: ProcessStat) -> None:
        """Charge what came and went between two scans, unless it or a parent, which inherits it, is in the run by now."""
        if not self._scans or self._run_of.keys() & {told.pid, ended.parent_pid}:
            return
        key = self._claimed(told.pid)
        if key is not None:
            self._runs[key].tree_cpu_seconds += max(0.0, ended.total_cpu_seconds - told.begun.total_cpu_seconds)

    def _new_or_young(self) -> set[int]:
        # Between fork and exec a child still shows its parent's environment, and one may have its pid before it can be seen,
        # so who was new once, or may have been, is looked at again.
        (before_last, last), newest = self._marks, self._table.newest()
        self._marks = (last, newest)
        begun = self._table.begun(before_last, newest) if self._scans % _SCANS_BETWEEN_FULL else None
        if begun is not None:
            return begun - self._run_of.keys()
        pids = self._table.pids()
        new = pids - self._run_of.keys() - self._strangers.keys()
        self._strangers = {pid: None for pid in self._strangers if pid in pids}
        return new | (self._young & pids)

    def _look_at_strangers(self) -> None:
        if not self._again:
            self._again.extend(self._strangers)
        for _ in range(min(_STRANGERS_SEEN_AGAIN, len(self._again))):
            pid = self._again.popleft()
            if pid in self._strangers and self._place(pid, count_past=False):
                del self._strangers[pid]

    def _place(self, pid: int, *, count_past: bool) -> bool:
        """Put a process into its run, if it has one; `count_past` charges what it used before it was seen."""
        stat = self._table.read(pid)
        if stat is None or pid in self._run_of:
            return pid in self._run_of
        # Pids wrap, so a new process may be seen before its own new parent.
        if stat.parent_pid > pid and stat.parent_pid in self._looking_at:
            self._place(stat.parent_pid, count_past=count_past)
        key = self._inherited(stat) or self._claimed(pid)
        if key is None:
            return False
        self._join(self._runs[key], stat)
        if count_past:
            self._runs[key].tree_cpu_seconds += stat.total_cpu_seconds
        return True

    def _inherited(self, stat: ProcessStat) -> RunKey | None:
        """The run of a process's parent, unless that is not metered here and the process says that its own is."""
        key = self._run_of.get(stat.parent_pid)
        if key is None or self._runs[key].context.metered:
            return key
        claim = self._claim(stat.pid)
        return None if claim is not None and claim.metered else key

    def _claimed(self, pid: int) -> RunKey | None:
        context = self._claim(pid)
        if context is None:
            return None
        named = run_named_by(self._cgroups.path_of(pid)) if self._cgroups is not None and self._named_before else None
        # What a group is named after counts all that is in it, so nothing in it may count elsewhere as well.
        key = named or (context.tenant, context.run_id)
        metered = context.metered or named is not None
        self._known(context.model_copy(update={"tenant": key[0], "run_id": key[1], "metered": metered}))
        return key

    def _known(self, context: RunContext) -> _Run:
        """The run of a context. Who is metered stays so, whatever else is told of a run of the same name."""
        run = self._runs.setdefault((context.tenant, context.run_id), _Run(context))
        if context.metered and not run.context.metered:
            run.context = context
        return run

    def _join(self, run: _Run, stat: ProcessStat) -> None:
        run.members[stat.pid] = stat
        run.has_newcomers = True
        self._run_of[stat.pid] = (run.context.tenant, run.context.run_id)
        if self._cgroups is not None:
            run.paths[stat.pid] = path = self._cgroups.path_of(stat.pid)
            if run.workload == Workload():
                run.workload = workload_of(path)

    def _count_groups(self, cgroups: Cgroups) -> None:
        named = {key: path for path in cgroups.named_after_runs() if (key := run_named_by(path)) is not None}
        for key, path in named.items():
            self._welcome_group(cgroups, key, path)
        self._named_before = frozenset(named.values())
        for key, run in self._runs.items():
            if run.group is not None and not self._is_still_own(cgroups, run, run.group, named=key in named):
                run.group = None
            elif run.group is None and run.has_newcomers:
                run.group = self._found_group(cgroups, run)
            elif run.group is not None:
                run.group.advance()

    def _welcome_group(self, cgroups: Cgroups, key: RunKey, path: str) -> None:
        """Take a group that is named after a run for that run, with all that is in it."""
        run = self._known(RunContext(tenant=key[0], run_id=key[1], metered=True))
        if run.group is None or not run.group.is_named:
            # A group that was not there at the last scan has counted nothing but this interval.
            from_nothing = self._scans > 0 and path not in self._named_before
            run.group = OwnedGroup(cgroups, path, from_nothing=from_nothing, is_named=True)
        with suppress(OverflowError):
            for pid in cgroups.pids(path) - self._run_of.keys():
                stat = self._table.read(pid)
                if stat is not None:
                    self._strangers.pop(pid, None)
                    self._join(run, stat)

    def _found_group(self, cgroups: Cgroups, run: _Run) -> OwnedGroup | None:
        path = own_group(cgroups, run.paths.values(), lambda pid: self._is_foreign(pid, run))
        if not path:
            return None
        group = OwnedGroup(cgroups, path, from_nothing=run.is_new and self._is_recent(cgroups, path))
        if group.total_cpu_seconds == 0.0:
            group.advance()
        return group

    def _is_still_own(self, cgroups: Cgroups, run: _Run, group: OwnedGroup, *, named: bool) -> bool:
        if group.is_named:
            return named
        if run.has_newcomers and not all(group.holds(path) for path in run.paths.values()):
            return False
        return not has_foreign(cgroups, group.path, lambda pid: self._is_foreign(pid, run))

    def _is_recent(self, cgroups: Cgroups, path: str) -> bool:
        """Whether a group was made since the last scan, so that all that it has counted belongs into this interval."""
        return self._scans > 0 and cgroups.made_at(path) >= self._scanned_at - _FILE_TIME_LAG_SECONDS

    def _is_foreign(self, pid: int, run: _Run) -> bool:
        """Whether a process is known to belong elsewhere; one that nobody has seen yet may be the run's."""
        key = self._run_of.get(pid)
        return pid in self._strangers if key is None else key != (run.context.tenant, run.context.run_id)


def runs_by_pid(uses: Mapping[RunKey, RunUse]) -> dict[int, RunKey]:
    """Whose each process is that holds a component, by its pid; those that ended since the last scan are among them."""
    ended = {NOBODYS_PID: NOBODY} | {pid: key for key, use in uses.items() for pid in use.ended_pids}
    # A pid may have been given out again since.
    return ended | {pid: key for key, use in uses.items() for pid in use.pids}


def _is_later(one: ProcessStat, other: ProcessStat) -> bool:
    return one.cpu_seconds >= other.cpu_seconds and one.reaped_cpu_seconds >= other.reaped_cpu_seconds


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
    variables = (table or open_process_table()).environment(pid, _VARIABLES_BEGIN)
    return RunContext.from_environment(variables) if variables else None
