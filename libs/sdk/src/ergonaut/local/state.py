"""What the supervisor wrote down of the processes that it runs, so that anybody can see, and a later start can clean up."""

import contextlib
import json
from typing import Any

import psutil

from ergonaut.local.home import Home

STOP_PATIENCE_SECONDS = 12.0
"""Longer than any service's own grace; what has not ended then is killed."""


def read_state(home: Home) -> dict[str, Any]:
    """What the supervisor wrote down last; empty where it never did."""
    try:
        state: dict[str, Any] = json.loads(home.state_file.read_text())
    except (OSError, ValueError):
        return {}
    return state


def stop_leftovers(home: Home) -> None:
    """End what a supervisor that was killed has left running."""
    leftovers = []
    for told in read_state(home).get("parts", {}).values():
        with contextlib.suppress(psutil.Error, TypeError):
            process = psutil.Process(told["pid"])
            if abs(process.create_time() - told["started_at"]) < 1:
                process.terminate()
                leftovers.append(process)
    _, stubborn = psutil.wait_procs(leftovers, timeout=STOP_PATIENCE_SECONDS)
    for process in stubborn:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
