"""`python -m ergonaut_vectors`: the service's process."""

from ergonaut_common.lifetimes import run_service
from ergonaut_vectors.main import main

if __name__ == "__main__":
    run_service("vectors", main)
