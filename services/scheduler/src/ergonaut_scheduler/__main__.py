"""`python -m ergonaut_scheduler`: the scheduler as a process, configured by its environment only."""

from ergonaut_common.lifetimes import run_service
from ergonaut_scheduler.main import run

run_service("scheduler", run)
