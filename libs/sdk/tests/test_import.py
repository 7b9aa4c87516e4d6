"""Importing the SDK is nearly free, so that any program can afford it."""

import subprocess
import sys
import time

import pytest

import ergonaut

HEAVY = ("pydantic", "grpc", "nats", "numpy", "psutil", "typer", "rich", "google.protobuf", "asyncio")


def run_python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_ergonaut_loads_nothing_heavy() -> None:
    assert run_python(f"import sys, ergonaut; print([name for name in {HEAVY!r} if name in sys.modules])") == "[]"


def test_importing_ergonaut_adds_at_most_a_tenth_of_a_second() -> None:
    def seconds(program: str) -> float:
        began = time.perf_counter()
        run_python(program)
        return time.perf_counter() - began

    bare = min(seconds("pass") for _ in range(5))
    with_ergonaut = min(seconds("import ergonaut") for _ in range(5))
    assert with_ergonaut - bare <= 0.1


@pytest.mark.parametrize("name", ergonaut.__all__)
def test_every_name_that_is_promised_is_there(name: str) -> None:
    assert getattr(ergonaut, name) is not None
    assert name in dir(ergonaut)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trakc'"):
        _ = ergonaut.trakc  # type: ignore[attr-defined]
