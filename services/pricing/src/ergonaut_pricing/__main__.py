"""`python -m ergonaut_pricing`."""

from ergonaut_common.lifetimes import run_service
from ergonaut_pricing.main import main

if __name__ == "__main__":
    run_service("pricing", main)
