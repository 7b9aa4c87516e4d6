"""Start the agent: `python -m ergonaut_telemetry`."""

from ergonaut_common.lifetimes import run_service
from ergonaut_telemetry.main import main

run_service("telemetry", main)
