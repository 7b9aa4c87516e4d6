"""Files for research: each row once, what the columns mean within, and names only where they are wanted."""

import io
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio
from pyarrow import parquet

from ergonaut.api.ledger.v1 import exports_pb2 as pb
from ergonaut.api.ledger.v1.exports_pb2_grpc import ExportServiceStub
from ergonaut.client.connection import Connection
from ergonaut.client.exports import Exports
from ergonaut.errors import Refused
from ergonaut.events import PhasesFinished, RequestsLogged
from ergonaut.events.quality import LoggedRequest
from ergonaut.events.runs import PhaseSpan
from ergonaut_common.auth import KeyRing
from ergonaut_common.clock import FakeClock
from ergonaut_common.rpc import serving
from ergonaut_common.testing import key_ring_file
from ergonaut_ledger.adapters import exports
from ergonaut_ledger.adapters.clickhouse import ClickHouseStore
from ergonaut_ledger.adapters.engine import Engine
from ergonaut_ledger.adapters.exports import ClickHouseExportBooks
from ergonaut_ledger.adapters.rollups import ClickHouseRollUps
from ergonaut_ledger.domain.exporting import REQUESTS, TABLES, Export, columns_of
from ergonaut_ledger.domain.usage import Span
from ergonaut_ledger.fakes.rolled import FakeExportBooks
from ergonaut_ledger.rpc import export_door
from ergonaut_ledger.service.exporting import Exporting
from ergonaut_ledger.service.rolling import Rolling

from .told import RUN, T0, batch_of, cpu_sample, finished, gpu_sample, reading, rent_sample, started

MARCH = Span(T0.replace(day=1, hour=0, minute=0), T0.replace(month=4, day=1, hour=0, minute=0))


@pytest.fixture
def exporting(engine: Engine) -> Exporting:
    return Exporting(ClickHouseExportBooks(engine, seconds=60))


@pytest.fixture
async def told(engine: Engine, tenant: str) -> str:
    """A tenant that has told of a run, of its phases, and of samples over three hours, some of them twice."""
    readings = [
        reading(
            tenant, n, cpu_sample(n * 100.0, n / 7, project="apollo", job_id="job-1"), gpu_sample(n), rent_sample(n)
        )
        for n in range(1, 101)
    ]
    span = PhaseSpan(phase="epoch", step=3, started_at=T0, ended_at=T0 + timedelta(seconds=9), metrics={"loss": 0.5})
    phases = PhasesFinished(tenant=tenant, event_id="event-phases", occurred_at=T0, run_id=RUN, phases=(span,))
    store = ClickHouseStore(engine, insert_seconds=60, query_seconds=60)
    asked = RequestsLogged(
        tenant=tenant,
        event_id="event-logged",
        occurred_at=T0,
        model="digits",
        version=1,
        rate=1.0,
        requests=(LoggedRequest(request_id="r-1", answered_at=T0, inputs=(), outputs=()),),
    )
    await store.keep(batch_of(started(tenant, project="apollo"), finished(tenant), phases, asked, *readings))
    await store.keep(batch_of(*readings[:40], first=500))
    await Rolling(ClickHouseRollUps(engine, seconds=60), FakeClock(T0 + timedelta(days=9))).catch_up()
    return tenant


async def exported(exporting: Exporting, tenant: str, table: str, **changes: Any) -> Any:
    pieces = [piece async for piece in exporting.file(Export(tenant, table, MARCH, **changes))]
    assert all(len(piece) <= 1024 * 1024 for piece in pieces)
    return parquet.read_table(io.BytesIO(b"".join(pieces)))


async def test_every_sample_is_in_the_file_once_in_slices_of_any_size(
    exporting: Exporting, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await exported(exporting, told, "samples")
    monkeypatch.setattr(exports, "SLICE_ROWS", 7)
    cut = await exported(exporting, told, "samples")
    assert whole.num_rows == cut.num_rows == 300
    keys = ["event_id", "position"]
    assert whole.sort_by([(key, "ascending") for key in keys]).equals(cut.sort_by([(key, "ascending") for key in keys]))
    cpu = [row for row in whole.to_pylist() if row["component"] == "cpu"]
    assert sum(row["energy_joules"] for row in cpu) == pytest.approx(sum(n / 7 for n in range(1, 101)), rel=1e-12)
    assert {row["energy_joules"] for row in whole.to_pylist() if row["component"] == "gpu0"} == {None}


async def test_rows_of_two_months_come_once_by_month_run_and_time_however_they_are_cut(
    exporting: Exporting, engine: Engine, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, facts = ClickHouseStore(engine, insert_seconds=60, query_seconds=60), []
    for n in range(1, 60):
        second = 31 * 86_400 + (n - 30) * 40_000.25
        mine = [cpu_sample(second, n / 7, run_id=f"run-{run}") for run in range(3)]
        same = [cpu_sample(second, n / 9, run_id="run-1", source=f"meter {meter}") for meter in range(3)]
        facts.append(reading(tenant, n, *mine, *same, host=f"host-{n % 3}"))
    await store.keep(batch_of(*facts))
    await store.keep(batch_of(*facts[20:40], first=900))
    await Rolling(ClickHouseRollUps(engine, seconds=60), FakeClock(T0 + timedelta(days=90))).catch_up()
    spring = Span(MARCH.starts_at, MARCH.ends_at + timedelta(days=30))
    for table, at in (("samples", "started_at"), ("minutes", "at"), ("hours", "at"), ("days", "at")):
        export = Export(tenant, table, spring)
        whole = await rows_of(exporting, export)
        monkeypatch.setattr(exports, "SLICE_ROWS", 7)
        assert await rows_of(exporting, export) == whole
        monkeypatch.undo()
        assert sum(row["energy_joules"] for row in whole) == pytest.approx(
            sum(n * (3 / 7 + 3 / 9) for n in range(1, 60))
        )
        month = "%Y-%m-%d" if table == "minutes" else "%Y-%m"
        keys = [(row[at].strftime(month), row["run_id"], row[at]) for row in whole]
        assert keys == sorted(keys)
    samples = await rows_of(exporting, Export(tenant, "samples", spring))
    assert len(samples) == len({(row["event_id"], row["position"]) for row in samples}) == 6 * 59


async def rows_of(exporting: Exporting, export: Export) -> list[dict[str, Any]]:
    pieces = [piece async for piece in exporting.file(export)]
    return list(parquet.read_table(io.BytesIO(b"".join(pieces))).to_pylist())


@pytest.mark.parametrize("table", TABLES)
async def test_a_file_says_what_its_columns_mean(exporting: Exporting, told: str, table: str) -> None:
    file = await exported(exporting, told, table)
    assert file.num_rows > 0
    whole = json.loads(file.schema.metadata[b"ergonaut"])
    assert [each["name"] for each in whole["columns"]] == file.column_names
    assert all(each["description"] for each in whole["columns"])
    assert whole["licence"]
    for field, column in zip(file.schema, TABLES[table], strict=True):
        assert field.type == column.type
        assert field.metadata[b"unit"].decode() == column.unit


async def test_sums_of_hours_and_days_are_those_of_the_samples(exporting: Exporting, told: str) -> None:
    for table in ("minutes", "hours", "days"):
        file = await exported(exporting, told, table)
        joules = sum(value for value in file["energy_joules"].to_pylist() if value is not None)
        assert joules == pytest.approx(sum(n / 7 for n in range(1, 101)), rel=1e-12)
        assert sum(file["samples"].to_pylist()) == 300


async def test_phases_and_runs_have_their_figures(exporting: Exporting, told: str) -> None:
    [phase] = (await exported(exporting, told, "phases")).to_pylist()
    assert (phase["phase"], phase["step"], json.loads(phase["metrics"])) == ("epoch", 3, {"loss": 0.5})
    [run] = (await exported(exporting, told, "runs")).to_pylist()
    assert (run["state"], run["project"], json.loads(run["metrics"])) == ("succeeded", "apollo", {"accuracy": 0.97})


async def test_an_anonymous_file_holds_no_name_and_can_be_joined(
    exporting: Exporting, told: str, engine: Engine
) -> None:
    named = [table for table in TABLES if table != REQUESTS]
    files = {table: await exported(exporting, told, table, anonymous=True) for table in named}
    for file in files.values():
        for column in file.column_names:
            texts = {text for text in file[column].to_pylist() if isinstance(text, str)}
            assert not texts & {RUN, "job-1", "apollo", "host-1", "agent-1", "digits"}
            assert not any(text.startswith("event-agent") for text in texts)
    [run] = files["runs"]["run_id"].to_pylist()
    assert run.startswith("run-")
    assert set(files["samples"]["run_id"].to_pylist()) == {run} == set(files["days"]["run_id"].to_pylist())
    other = Exporting(ClickHouseExportBooks(engine, seconds=60))
    assert (await exported(other, told, "runs", anonymous=True))["run_id"].to_pylist() == [run]
    keys = {await ClickHouseExportBooks(engine, seconds=60).key(tenant) for tenant in (told, f"{told}-other")}
    assert len(keys) == 2


async def test_one_run_and_one_tenant_only(exporting: Exporting, told: str) -> None:
    assert (await exported(exporting, told, "samples", run_id="run-none")).num_rows == 0
    assert (await exported(exporting, f"{told}-other", "samples")).num_rows == 0
    assert (await exported(exporting, f"{told}-other", "runs")).num_rows == 0


@pytest.fixture
async def visitor(exporting: Exporting, told: str, tmp_path: Path) -> AsyncIterator[Connection]:
    path, keys = key_ring_file(tmp_path, (told,))
    add, ring = export_door(exporting), KeyRing.load(path)
    async with serving("127.0.0.1:0", service="ledger", add=add, keys=ring, names=()) as server:
        connection = Connection({"ledger": f"127.0.0.1:{server.port}"}, keys[told])
        yield connection
        await connection.close()


async def test_the_client_writes_what_the_door_hands_out(visitor: Connection) -> None:
    area = Exports(visitor)
    pieces = [piece async for piece in area.file("samples", MARCH.starts_at, MARCH.ends_at)]
    assert parquet.read_table(io.BytesIO(b"".join(pieces))).num_rows == 300
    columns = await area.describe("hours")
    assert {"J", "g", "USD", "s"} <= {column.unit for column in columns}
    with pytest.raises(Refused, match="known are samples"):
        await area.describe("secrets")
    with pytest.raises(Refused, match="known are samples"):
        _ = [piece async for piece in area.file("secrets", MARCH.starts_at, MARCH.ends_at)]


async def test_a_time_that_ends_before_it_begins_is_refused(visitor: Connection) -> None:
    stub = ExportServiceStub(visitor.channel("ledger"))
    request = pb.GetExportRequest(table="samples", starts_at=MARCH.ends_at, ends_at=MARCH.starts_at)
    with pytest.raises(aio.AioRpcError) as caught:
        _ = [piece async for piece in stub.GetExport(request)]
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("table", TABLES)
async def test_an_export_of_nothing_is_a_file_with_all_its_columns(table: str, tenant: str, engine: Engine) -> None:
    for books in (FakeExportBooks({}), ClickHouseExportBooks(engine, seconds=60)):
        empty = await exported(Exporting(books), tenant, table)
        assert (empty.num_rows, empty.num_columns) == (0, len(columns_of(table)))
