"""What holds for all tests, however they are started."""

import os


def pytest_configure() -> None:
    """Let no test depend on the width of the terminal that it was started from; each test that has one sets its own."""
    os.environ.pop("COLUMNS", None)
