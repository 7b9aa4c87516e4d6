"""Every dashboard is what its description says, asks only for what there is, and lays its panels out without overlap."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import dashboards  # noqa: E402 - it lies beside what it writes, in no package

DASHBOARDS = sorted(dashboards.FOLDER.glob("*.json"))
PAGES = {"fleet", "run", "tenant", "budget", "gateway", "scheduler"}

MACROS = (
    (r"\$__timeFilter\((\w+)\)", r"\1 >= toDateTime(0) AND \1 <= now()"),
    (r"\$__timeInterval\((\w+)\)", r"toStartOfInterval(\1, INTERVAL 60 second)"),
    (r"\$\{(tenant|run)\}", "default"),
)
"""What Grafana's ClickHouse source puts for its macros, and a reader's choice for the variables."""


ASK = """
import json, sys
from pathlib import Path
from ergonaut_ledger.adapters.engine import embedded
from ergonaut_ledger.adapters.migrating import migrate, packaged_migrations
books = embedded(Path(sys.argv[1]))()
migrate(books, packaged_migrations())
refused = {}
for sql in json.load(sys.stdin):
    try:
        books.query(sql)
    except Exception as error:
        refused[sql] = str(error).splitlines()[0]
print(json.dumps(refused))
"""
"""Asks empty books everything. A process of its own, since the engine takes one folder a process."""


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The questions that the ledger's tables cannot answer, and why."""
    every = json.dumps([expanded(parameter.values[0]) for parameter in questions()])
    command = [sys.executable, "-c", ASK, str(tmp_path_factory.mktemp("books") / "ledger")]
    done = subprocess.run(command, input=every, capture_output=True, text=True, check=True)
    told: dict[str, str] = json.loads(done.stdout)
    return told


def expanded(sql: str) -> str:
    for macro, stands_for in MACROS:
        sql = re.sub(macro, stands_for, sql)
    return sql


def test_the_files_are_those_of_the_descriptions() -> None:
    assert {path: path.read_text() for path in DASHBOARDS} == dashboards.files(), "run `make docs`"


def test_each_page_comes_from_both_sources() -> None:
    assert {path.stem for path in DASHBOARDS} == {
        f"{page}-{source}" for page in PAGES for source in ("prometheus", "clickhouse")
    }


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_lie_side_by_side_and_say_what_they_show(path: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(path.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= dashboards.COLUMNS
        assert not cells & taken, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        taken |= cells


def questions() -> Iterator[Any]:
    for path in DASHBOARDS:
        board = json.loads(path.read_text())
        if path.stem.endswith("-clickhouse"):
            for panel in board["panels"]:
                yield pytest.param(panel["targets"][0]["rawSql"], id=f"{path.stem}: {panel['title']}")
            for variable in board["templating"]["list"][1:]:
                yield pytest.param(variable["query"], id=f"{path.stem}: ${variable['name']}")


@pytest.mark.parametrize("sql", [*questions()])
def test_the_books_can_answer_every_question(refused: dict[str, str], sql: str) -> None:
    assert "$" not in expanded(sql)
    assert expanded(sql) not in refused, refused[expanded(sql)]
