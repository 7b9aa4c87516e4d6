"""Finds and kills what is left of a program whose runner has died. Used when a lease is torn down."""

import contextlib
import os
import signal
import time

import psutil

from ergonaut_orchestrator.runner import start_ticks

KILL_PATIENCE_SECONDS = 10.0
"""A killed process ends within milliseconds; one that waits for a disk may take long, and is looked at again later."""


def kill_left_over(run_id: str, *, leader: int, leader_started_ticks: int) -> bool:
    """Kill every process of a run; true when none is left. The leader is its program, 0 where that never started."""
    give_up_at = time.monotonic() + KILL_PATIENCE_SECONDS
    while time.monotonic() < give_up_at:
        left = _processes_of(run_id, leader, leader_started_ticks)
        if not left:
            return True
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(left, timeout=0.2)
    return False


def _processes_of(run_id: str, leader: int, leader_started_ticks: int) -> list[psutil.Process]:
    """The program, all that carry the run's id, and all below them. A bare pid proves nothing: it may be another's by now."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            is_leader = process.pid == leader and start_ticks(leader) == leader_started_ticks
            if process.pid != os.getpid() and (is_leader or process.environ().get("ERGONAUT_RUN_ID") == run_id):
                found.update({child.pid: child for child in process.children(recursive=True)})
                found[process.pid] = process
    return [process for process in found.values() if _lives(process)]


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
