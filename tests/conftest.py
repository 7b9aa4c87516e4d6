"""How all tests are found, and shared out when several files run at a time, and what they do not see of where they were
started."""

import gc
import os
from collections.abc import Generator
from typing import Any

import pytest

# The command line looks for the terminal's width when it is loaded, as by tests here, before the SDK's tests take it away; and
# whoever has loaded readline, as pytest has, gives it to the processes that he starts.
os.environ.pop("COLUMNS", None)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Find the tests without looking for garbage among them, which took two fifths of the time of each process; nor is it looked
    for there later: tests and all that they import stay to the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that start the whole system take longest and come first, then those that start a server; at the end are files that
    take seconds, so that no process is long alone with its last one."""
    waiting = {item.path for item in items if item.get_closest_marker("integration")}
    items.sort(key=lambda item: ("tests/integration/" not in item.nodeid, item.path not in waiting))


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
