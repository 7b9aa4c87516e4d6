"""Reads the residual mixes that an operator knows; says file, line and field of what is wrong. Called by `main`."""

import csv
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ergonaut.errors import Refused
from ergonaut_ledger.domain.compliance import ResidualFactor

ROWS_MAX = 10_000
"""More zones than there are; a larger file is a mistake."""


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    zone: str = Field(pattern=r"^[A-Z0-9]+([-_][A-Z0-9]+)*$")
    intensity_grams_per_kwh: float = Field(gt=0, lt=2000)
    year: int = Field(ge=2000, le=2100)
    source: str = Field(min_length=1, max_length=300)


def load_residual_mix(path: Path) -> Mapping[str, ResidualFactor]:
    """The residual mix of each zone, from a CSV `zone,intensity_grams_per_kwh,year,source`. Raises Refused."""
    try:
        # Spreadsheets begin a file of theirs with a mark of its encoding, which is no part of the first column's name.
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey="beyond the last column", strict=True)
            missing = [column for column in _Row.model_fields if column not in (reader.fieldnames or ())]
            rows = [(reader.line_num, row) for row in islice(reader, ROWS_MAX + 1)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Refused(f"cannot be read: {error}", field=path.name) from error
    if missing:
        # Else a file whose first row is a figure would be read as one with no figures.
        raise Refused(f"the first line names no column {', '.join(missing)}", field=f"{path.name}:1")
    if len(rows) > ROWS_MAX:
        raise Refused(f"has more than {ROWS_MAX} lines", field=path.name)
    factors: dict[str, ResidualFactor] = {}
    for line, row in rows:
        try:
            factor = ResidualFactor(**_Row.model_validate(row).model_dump())
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            field = ".".join(str(part) for part in problem["loc"])
            raise Refused(problem["msg"], field=f"{path.name}:{line}:{field}") from error
        if factor.zone in factors:
            raise Refused(f"{factor.zone} stands in the file already", field=f"{path.name}:{line}:zone")
        factors[factor.zone] = factor
    return factors
