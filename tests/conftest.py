"""How all tests are shared out when several files run at a time."""

from typing import Any

import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Any:
    """Give each process one file after the other, and one process all files that start the whole system: two would take each
    other's ports, and each other's runs for their own."""
    # Asked for only where it is installed; the environment of `make test-ml` runs one file at a time and does without.
    from xdist.scheduler import LoadFileScheduling

    class OneSystemAtATime(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            scope: str = super()._split_scope(nodeid)
            return "tests/integration" if scope.startswith("tests/integration/") else scope

    return OneSystemAtATime(config, log)
