"""The orchestrator's process: `python -m ergonaut_orchestrator`, configured by the environment alone."""

from ergonaut_common.lifetimes import run_service
from ergonaut_orchestrator.main import main

run_service("orchestrator", main)
