"""The real systems that integration tests share: one that nobody kills, and one that is not treated well; never both at once."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from servers import Installation, installation


class OneAtATime:
    """At most one system that runs: even one that has nothing to do takes a seventh of a core from those that have."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name, self._running, self._stack = "", None, ExitStack()

    def only(self, name: str) -> Installation:
        """The system of this name, which runs, and no other."""
        if self._running is None or self._name != name:
            self.stop()
            self._name, self._running = name, self._stack.enter_context(installation(self._folder / name))
        return self._running

    def stop(self) -> None:
        """No system runs; what it has kept stays there for when it is wanted again."""
        self._running = None
        self._stack.close()


@pytest.fixture(scope="session")
def systems(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneAtATime]:
    made = OneAtATime(tmp_path_factory.mktemp("systems"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def system(systems: OneAtATime) -> Installation:
    """For tests that do not kill it."""
    return systems.only("gentle")


@pytest.fixture(scope="module")
def fragile(systems: OneAtATime) -> Installation:
    """For tests that kill its parts or take it down, and leave it running with nothing at work."""
    return systems.only("fragile")


@pytest.fixture(scope="module")
def alone(systems: OneAtATime) -> None:
    """For tests that start what they need; no system runs beside."""
    systems.stop()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write the scenarios down as they are told now")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each system is started once: the tests of one come one after the other, and at last those for which none runs."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.integration)
            item.add_marker(pytest.mark.timeout(400))
    items.sort(key=lambda item: [name in getattr(item, "fixturenames", ()) for name in ("alone", "fragile")])
