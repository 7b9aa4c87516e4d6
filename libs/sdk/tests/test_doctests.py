"""The examples in docstrings are true."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("module", ["ergonaut.ids", "ergonaut.units", "ergonaut.runcontext", "ergonaut.events.base"])
def test_the_examples_in_docstrings_are_true(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted > 0
    assert result.failed == 0
