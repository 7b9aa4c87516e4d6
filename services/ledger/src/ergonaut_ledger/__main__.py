"""`python -m ergonaut_ledger`."""

from ergonaut_common.lifetimes import run_service
from ergonaut_ledger.main import run

if __name__ == "__main__":
    run_service("ledger", run)
