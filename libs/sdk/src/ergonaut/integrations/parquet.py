"""Exports each run's samples as `RUN.parquet`: one row for each component and interval, for pandas, Polars, DuckDB."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ergonaut.events.telemetry import PowerSample
from ergonaut.integrations.figures import export_folder, written_whole
from ergonaut.journal import all_entries
from ergonaut.tracking.exporting import needed
from ergonaut.tracking.summary import RunSummary

if TYPE_CHECKING:
    import pyarrow

SUMMARY_KEY = b"ergonaut.summary"
"""Under which the file's own metadata hold the run's summary as JSON."""

# A run of a week has two million rows; so many at a time keep the writing in little memory.
_ROWS_AT_A_TIME = 20_000


class ParquetExporter:
    """Writes the file when a run ends, from the journal, so that nothing is held in memory meanwhile."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = export_folder(folder)

    def begin(self, summary: RunSummary) -> None:
        """Find out early whether pyarrow is there. Raises Refused."""
        needed("pyarrow.parquet", "parquet")

    def progress(self, summary: RunSummary) -> None:
        """A Parquet file cannot grow, so it is written once, at the end."""

    def finish(self, summary: RunSummary) -> None:
        parquet = needed("pyarrow.parquet", "parquet")
        arrow = needed("pyarrow", "parquet")
        schema = _schema(arrow).with_metadata({SUMMARY_KEY: json.dumps(summary.to_json()).encode()})
        file = self._folder / f"{summary.run_id}.parquet"
        with written_whole(file) as draft, parquet.ParquetWriter(draft, schema) as writer:
            for rows in _batches(summary.journal):
                writer.write_table(arrow.Table.from_pylist(rows, schema=schema))


def _schema(arrow: Any) -> "pyarrow.Schema":
    text, number, moment = arrow.string(), arrow.float64(), arrow.timestamp("us", tz="UTC")
    return arrow.schema(
        [
            arrow.field("run_id", text, nullable=False),
            arrow.field("component", text, nullable=False),
            arrow.field("method", text, nullable=False),
            arrow.field("source", text),
            arrow.field("range_fraction", number),
            arrow.field("started_at", moment, nullable=False),
            arrow.field("ended_at", moment, nullable=False),
            arrow.field("energy_joules", number),
            arrow.field("carbon_grams_co2e", number),
            arrow.field("cost_usd", number),
            arrow.field("intensity_grams_per_kwh", number),
        ]
    )


def _batches(journal: Path | None) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    for entry in all_entries(journal) if journal is not None else ():
        if entry.sampled is not None:
            grams_per_kwh = entry.sampled.intensity_grams_per_kwh
            rows += [_row(sample, grams_per_kwh) for sample in entry.sampled.samples]
        if len(rows) >= _ROWS_AT_A_TIME:
            yield rows
            rows = []
    yield rows


def _row(sample: PowerSample, grams_per_kwh: float) -> dict[str, Any]:
    return {
        "run_id": sample.run_id,
        "component": sample.component,
        "method": sample.method.value,
        "source": sample.source,
        "range_fraction": sample.range_fraction,
        "started_at": sample.started_at,
        "ended_at": sample.ended_at,
        "energy_joules": sample.energy_joules,
        "carbon_grams_co2e": sample.carbon_grams_co2e,
        "cost_usd": sample.cost_usd,
        "intensity_grams_per_kwh": grams_per_kwh,
    }
