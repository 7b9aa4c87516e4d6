"""What a program may say about its run."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from ergonaut.jobs import Budget
    from ergonaut.tracking.exporting import Exporter


class Wishes(TypedDict, total=False):
    """What a program may say about its run; what it does not say is taken from the environment."""

    name: str
    project: str | None
    zone: str | None
    electricity_usd_per_kwh: float | None
    interval_seconds: float | None
    budget: "Budget | None"
    exporters: "Sequence[Exporter | str] | str"
    stops_itself: bool
    verbose: bool
