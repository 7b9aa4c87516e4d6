"""The examples in docstrings are true."""

import doctest
import importlib
import pkgutil

import pytest

import ergonaut
import ergonaut_common
from ergonaut.tracking.exporting import LibraryMissing

MODULES = sorted(
    module.name
    for package in (ergonaut, ergonaut_common)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.name.startswith("ergonaut.api") and not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_are_true(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except LibraryMissing as error:
        pytest.skip(f"{error}; make test-ml has it")
    assert doctest.testmod(module).failed == 0


def test_there_are_examples_to_be_tested() -> None:
    assert doctest.testmod(importlib.import_module("ergonaut.ids")).attempted > 0
