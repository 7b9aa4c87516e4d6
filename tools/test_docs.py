"""Documents that are made from code are current, and those written by hand name everything that they must."""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
import docs

SERVICES = sorted(path.parent.name for path in docs.ROOT.glob("services/*/pyproject.toml"))
ADR_LINES_MAX = 50


@pytest.mark.parametrize("service", SERVICES)
def test_an_asyncapi_file_is_that_of_the_code(service: str) -> None:
    path = docs.ASYNCAPI / f"{service}.yaml"
    assert path.read_text() == docs.asyncapi(docs.ROOT / "services" / service), f"{path.name} is old; run `make docs`"


def test_snapshots_are_those_of_the_code() -> None:
    old = [path.name for path, text in docs.snapshots().items() if path.read_text() != text]
    assert old == [], "run `make docs`"


def test_an_asyncapi_file_tells_what_a_service_hears_and_says() -> None:
    scheduler = yaml.safe_load((docs.ASYNCAPI / "scheduler.yaml").read_text())
    operations = {name: each["action"] for name, each in scheduler["operations"].items()}
    assert operations["runs.run.finished"] == "receive"
    assert operations["jobs.job.placed"] == "send"
    assert scheduler["channels"]["runs.run.finished"]["address"] == "ergonaut.v1.*.runs.run.finished.*"


def test_the_ledger_hears_every_event_there_is() -> None:
    ledger = yaml.safe_load((docs.ASYNCAPI / "ledger.yaml").read_text())
    heard = {name for name, each in ledger["operations"].items() if each["action"] == "receive"}
    assert heard == set(docs.concrete_types())


def test_every_event_is_told_by_some_service() -> None:
    told = {event_type.TYPE for name in SERVICES for event_type in docs.told_by(docs.ROOT / "services" / name)}
    assert told == set(docs.concrete_types())


def direct_dependencies() -> Iterator[tuple[str, str]]:
    for path in [
        docs.ROOT / "pyproject.toml",
        *docs.ROOT.glob("libs/*/pyproject.toml"),
        *docs.ROOT.glob("services/*/pyproject.toml"),
    ]:
        described = tomllib.loads(path.read_text())
        project = described["project"]
        lists = [project.get("dependencies", []), *project.get("optional-dependencies", {}).values()]
        lists += described.get("dependency-groups", {}).values()
        lists.append(described.get("build-system", {}).get("requires", []))
        for requirement in (each for requirements in lists for each in requirements):
            name = re.match(r"[A-Za-z0-9_.-]+", requirement)
            assert name is not None, requirement
            if not name[0].startswith("ergonaut"):
                yield name[0].lower(), str(path.relative_to(docs.ROOT))


def test_every_direct_dependency_has_its_reason_written_down() -> None:
    text = (docs.ROOT / "docs" / "dependencies.md").read_text()
    listed = set(re.findall(r"^\| `([^`]+)`", text, re.MULTILINE))
    needed = dict(direct_dependencies())
    assert {name: where for name, where in needed.items() if name not in listed} == {}
    assert listed - set(needed) == set(), "these are listed and not used any more"


@pytest.mark.parametrize("path", sorted((docs.ROOT / "docs" / "adr").glob("*.md")), ids=lambda path: path.stem)
def test_a_decision_record_is_short_and_whole(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= ADR_LINES_MAX
    parts = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert parts == ["Context", "Decision", "Consequences", "Alternatives", "Enforced by"]


def written_pages() -> list[Path]:
    pages = [*docs.ROOT.glob("*.md"), *docs.ROOT.glob("docs/**/*.md"), *docs.ROOT.glob("*/*/README.md")]
    return sorted(path for path in pages if ".venv" not in path.parts)


@pytest.mark.parametrize("page", written_pages(), ids=lambda path: str(path.relative_to(docs.ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)|src(?:set)?=\"([^\"]+)\"", page.read_text())
    targets = [target for pair in links for target in pair if target and "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []
