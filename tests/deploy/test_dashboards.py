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


def expanded(sql: str, seconds: int = 60) -> str:
    for macro, stands_for in MACROS:
        sql = re.sub(macro, stands_for.replace("60 second", f"{seconds} second"), sql)
    return sql


CONSTANT_LOAD = """
import json, sys
from pathlib import Path
from ergonaut_ledger.adapters.engine import embedded
from ergonaut_ledger.adapters.migrating import migrate, packaged_migrations
books = embedded(Path(sys.argv[1]))()
migrate(books, packaged_migrations())
books.query(
    "INSERT INTO power_minutes (tenant, at, share, run_id, host, component, method, energy_joules, seconds, samples) "
    "SELECT 'default', toDateTime('2026-03-01 10:40:00', 'UTC') + 60 * number, 'run', 'default', 'host-1', 'cpu', 'counter', "
    "6000, 60, 60 FROM numbers(15)"
)
print(json.dumps([[float(row[-1]) for row in books.query(sql).result_rows] for sql in json.load(sys.stdin)]))
"""
"""A run of 15 minutes at 100 W within one hour; answers what it is asked."""


def question(page: str, title: str) -> str:
    board = json.loads((dashboards.FOLDER / f"{page}.json").read_text())
    [sql] = [panel["targets"][0]["rawSql"] for panel in board["panels"] if panel["title"] == title]
    return str(sql)


def test_a_constant_load_is_its_watts_and_joules_however_wide_the_panels_interval(tmp_path: Path) -> None:
    power, energy = question("run-clickhouse", "Power by component"), question("run-clickhouse", "Energy")
    part = expanded(energy).replace("toDateTime(0)", "toDateTime('2026-03-01 10:40:00', 'UTC')")
    every = json.dumps([expanded(power), expanded(power, 300), part])
    command = [sys.executable, "-c", CONSTANT_LOAD, str(tmp_path / "ledger")]
    done = subprocess.run(command, input=every, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[100.0] * 15, [100.0] * 3, [90_000.0]]


def test_all_of_a_variable_takes_in_nothing_without_a_name() -> None:
    for path in DASHBOARDS:
        for variable in json.loads(path.read_text())["templating"]["list"]:
            assert not re.fullmatch(variable.get("allValue", ".+"), ""), f"{path.stem}: ${variable['name']}"


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
