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
for host in ("host-1", "host-2"):
    for component, method, share, joules in (
        ("cpu", "counter", "run", "if(number = 0, 3000, 6000)"), ("dram", "model", "run", "if(number = 0, 300, 600)"),
        ("machine", "not-measured", "run", "NULL"), ("cpu", "counter", "idle", "9000"),
    ):
        books.query(
            "INSERT INTO power_minutes "
            "(tenant, at, share, run_id, host, component, method, source, energy_joules, seconds, samples) "
            f"SELECT 'default', toDateTime('2026-03-01 10:40:00', 'UTC') + 60 * number, '{share}', "
            f"if('{share}' = 'run', 'default', ''), '{host}', '{component}', '{method}', arrayJoin(['one', 'other']), "
            f"({joules}) / 2, if(number = 0, 15, 30), 30 FROM numbers(15)"
        )
print(json.dumps([[list(row[-2:]) for row in books.query(sql).result_rows] for sql in json.load(sys.stdin)], default=str))
"""
"""A run of 14 and a half minutes within one hour, on two hosts of 100 W in the CPU and 10 W in memory; it begins in the middle of
a minute, and each minute has two sources. Answers what it is asked, the last two columns of each row."""


def question(page: str, title: str) -> str:
    board = json.loads((dashboards.FOLDER / f"{page}.json").read_text())
    [sql] = [panel["targets"][0]["rawSql"] for panel in board["panels"] if panel["title"] == title]
    return str(sql)


@pytest.fixture(scope="module")
def constant_load(tmp_path_factory: pytest.TempPathFactory) -> list[list[list[Any]]]:
    """What the books tell of it: watts each minute, watts each five minutes, and the joules of its last five minutes."""
    power, energy = question("run-clickhouse", "Power by component"), question("run-clickhouse", "Energy")
    part = expanded(energy).replace("toDateTime(0)", "toDateTime('2026-03-01 10:50:00', 'UTC')")
    every = json.dumps([expanded(power), expanded(power, 300), part])
    command = [sys.executable, "-c", CONSTANT_LOAD, str(tmp_path_factory.mktemp("books") / "ledger")]
    done = subprocess.run(command, input=every, capture_output=True, text=True, check=True)
    told: list[list[list[Any]]] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize(("answer", "bins"), [(0, 15), (1, 3)], ids=["60 s", "300 s"])
def test_a_constant_load_is_its_watts_however_wide_the_panels_interval(
    constant_load: list[list[list[Any]]], answer: int, bins: int
) -> None:
    for component, watts in (("cpu", 200.0), ("dram", 20.0)):
        told = [value for label, value in constant_load[answer] if label == component]
        assert told == [pytest.approx(watts)] * bins
    assert {label for label, _ in constant_load[answer]} == {"cpu", "dram"}, "what has no energy has no watts"


def test_a_runs_energy_in_a_part_of_an_hour_is_that_parts(constant_load: list[list[list[Any]]]) -> None:
    assert constant_load[2] == [[pytest.approx(220 * 300)]]


def test_all_of_a_variable_takes_in_nothing_without_a_name() -> None:
    for path in DASHBOARDS:
        for variable in json.loads(path.read_text())["templating"]["list"]:
            assert not re.fullmatch(variable.get("allValue", ".+"), ""), f"{path.stem}: ${variable['name']}"


SELECTOR = re.compile(r"\b(ergonaut_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
WITHOUT_SHARE = {"ergonaut_run_info", "ergonaut_budget_used_ratio"}
"""What the pages of runs and tenants may ask without naming either: it tells of runs and tenants only."""


def takes_in_nameless(matchers: str, name: str, everything: str) -> bool:
    """Whether a series whose label is empty meets every matcher on it, with the variables at "All"."""
    meets = {
        "=": lambda value: value == "",
        "!=": lambda value: value != "",
        "=~": lambda value: re.fullmatch(value, "") is not None,
        "!~": lambda value: re.fullmatch(value, "") is None,
    }
    told = [
        (sign, re.sub(r"\$\w+", lambda _: everything, value))
        for label, sign, value in MATCHER.findall(matchers)
        if label == name
    ]
    return all(meets[sign](value) for sign, value in told)


def takes_in_others(expression: str, everything: str) -> bool:
    """Whether it sums what idling and others use, whose series have an empty tenant and run, or what has a share at all."""
    return any(
        takes_in_nameless(matchers, "tenant", everything) and takes_in_nameless(matchers, "run", everything)
        for metric, matchers in SELECTOR.findall(expression)
        if metric not in WITHOUT_SHARE
    )


def test_the_pages_of_runs_and_tenants_take_in_nothing_of_idling_and_others() -> None:
    for page in ("run", "tenant"):
        board = json.loads((dashboards.FOLDER / f"{page}-prometheus.json").read_text())
        [everything] = {variable["allValue"] for variable in board["templating"]["list"][1:]}
        for panel in board["panels"]:
            assert not takes_in_others(panel["targets"][0]["expr"], everything), f"{page}: {panel['title']}"


def test_an_expression_that_takes_in_idling_is_seen() -> None:
    assert takes_in_others('sum(ergonaut_power_watts{tenant=~"$tenant", run=~"$run"})', ".*")
    assert takes_in_others("sum(ergonaut_power_watts)", ".+")
    assert not takes_in_others('sum(ergonaut_power_watts{tenant=~"$tenant", run!=""})', ".*")


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
