"""Importing the SDK is nearly free, so that any program can afford it."""

import subprocess
import sys

import pytest

import ergonaut

HEAVY = ("pydantic", "grpc", "nats", "numpy", "psutil", "typer", "rich", "google.protobuf", "asyncio")


def run_python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    "line", ["import ergonaut", "from ergonaut import track", "from ergonaut.tracking import track"]
)
def test_importing_what_tracks_loads_nothing_heavy(line: str) -> None:
    assert run_python(f"{line}; import sys; print([name for name in {HEAVY!r} if name in sys.modules])") == "[]"


def test_a_decorated_function_loads_nothing_heavy_before_it_is_called() -> None:
    decorated = "import sys, ergonaut; ergonaut.track(lambda: None)"
    assert run_python(f"{decorated}; print([name for name in {HEAVY!r} if name in sys.modules])") == "[]"


@pytest.mark.parametrize("name", ergonaut.__all__)
def test_every_name_that_is_promised_is_there(name: str) -> None:
    assert getattr(ergonaut, name) is not None
    assert name in dir(ergonaut)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trakc'"):
        _ = ergonaut.trakc  # type: ignore[attr-defined]
