"""Whatever is malformed, at whichever door: refused, never our fault, and the next caller is served as ever.

A small share of what `make fuzz` tries a million times; what that finds is kept in `found` and tried here for ever.
"""

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from . import cases
from .drawing import Fed, document_changed, written
from .site import Site, read_case, running_site

FOUND = Path(__file__).with_name("found")
COUNT = 2_000
LOT = 25
SEED = 4


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("doors")) as running:
        yield running


def test_no_malformed_request_is_answered_as_if_the_fault_were_ours(site: Site) -> None:
    for begin in range(0, COUNT, LOT):
        lot = [cases.numbered(number, SEED, site.key) for number in range(begin, begin + LOT)]
        told = site.judged(lot)
        assert [each for each in zip((*lot, None, None, None), told, strict=False) if each[1]] == []
        assert site.answers_well()


@given(kind=st.sampled_from(list(cases.KINDS)), draw=st.randoms(use_true_random=False))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_what_hypothesis_makes_of_any_kind_is_refused_or_answered(site: Site, kind: str, draw: random.Random) -> None:
    assert site.fault(cases.of_kind(kind, draw, site.key)) == ""


@given(spelt=st.binary(max_size=200))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_any_bytes_spell_out_a_case_that_is_refused_or_answered(site: Site, spelt: bytes) -> None:
    assert site.fault(cases.drawn(Fed(spelt), site.key)) == ""


@pytest.mark.parametrize("path", sorted(FOUND.glob("*.case")), ids=lambda path: path.name)
def test_what_was_found_once_stays_mended(site: Site, path: Path) -> None:
    assert site.fault(read_case(path, site.key)) == ""


def test_the_same_number_gives_the_same_case_and_others_give_others() -> None:
    drawn = [cases.numbered(number, SEED, "key") for number in range(200)]
    assert drawn == [cases.numbered(number, SEED, "key") for number in range(200)]
    assert len({case.sent for case in drawn}) > 190
    assert {case.kind for case in drawn} == set(cases.KINDS)


def test_a_changed_document_is_mostly_no_longer_the_same() -> None:
    document = {"inputs": [{"name": "x", "shape": [1, 3], "data": [1, 2, 3]}]}
    whole = written(document)
    changed = [document_changed(random.Random(number), document) for number in range(100)]
    assert sum(each == whole for each in changed) < 20


@pytest.mark.integration
def test_the_command_line_tries_doors_sockets_files_and_signatures_and_finds_nothing() -> None:
    command = [sys.executable, "-m", f"{__package__}.run", "--bodies", "1000", "--seed", "5"]
    root = Path(__file__).parents[4]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("model files: 20,", "signatures: 20,", "in process: 1000 ", "over sockets: 20 ", "nothing was found"):
        assert part in done.stdout
