"""How all tests are shared out when several files run at a time."""

import pytest
from xdist.scheduler import LoadFileScheduling


class OneSystemAtATime(LoadFileScheduling):
    """Gives each process one file after the other, and one process all files that start the whole system: two would take each
    other's ports, and each other's runs for their own."""

    def _split_scope(self, nodeid: str) -> str:
        scope: str = super()._split_scope(nodeid)
        return "tests/integration" if scope.startswith("tests/integration/") else scope


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> OneSystemAtATime:
    """What shares them out."""
    return OneSystemAtATime(config, log)
