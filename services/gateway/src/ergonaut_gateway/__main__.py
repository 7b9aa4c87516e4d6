"""`python -m ergonaut_gateway`."""

from ergonaut_common.lifetimes import run_service
from ergonaut_gateway.main import main

if __name__ == "__main__":
    run_service("gateway", main)
