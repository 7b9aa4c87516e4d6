"""What was used over time and by whom, from the ledger's answer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ergonaut.reports.accounts import Period
from ergonaut.reports.analysis import told
from ergonaut.reports.numbers import Figure
from ergonaut.reports.report import RENT

if TYPE_CHECKING:
    from ergonaut.api.ledger.v1 import ledger_pb2 as pb

LABEL_FIELDS = {"run": "run_id", "job": "job_id"}
"""Labels whose field in a message is named otherwise."""


@dataclass(frozen=True, slots=True)
class Use:
    """What was used in one step under one set of labels; None where nobody measured or knows."""

    starts_at: datetime
    labels: tuple[str, ...]
    energy: Figure
    carbon_grams_co2e: float | None
    embodied_grams_co2e: float | None
    cost_usd: float | None
    samples: int

    @property
    def title(self) -> str:
        """Its labels for people."""
        return ", ".join(label or "none" for label in self.labels) or "all"

    @property
    def is_rent(self) -> bool:
        """Whether it is a machine's rent: money without energy, so that nothing was to be measured."""
        return RENT in self.labels and self.energy.value is None


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used in a time, in steps and by labels."""

    period: Period
    step: str
    by: tuple[str, ...]
    uses: tuple[Use, ...]

    @property
    def total(self) -> Use:
        """All of it; the ranges are added, since meters may err alike."""
        return summed(self.uses, self.period.starts_at)

    @property
    def not_measured(self) -> tuple[Use, ...]:
        """What was sampled and not measured."""
        return tuple(use for use in self.uses if use.energy.value is None and not use.is_rent)


def usage_of(answer: "pb.GetUsageResponse", period: tuple[datetime, datetime], by: Sequence[str] = ()) -> Usage:
    """Usage from the ledger's answer to a question about a time, kept apart by these labels (`run`, `host` and so on)."""
    uses = tuple(_use(each, by) for each in answer.usage)
    return Usage(Period(*period), answer.step, tuple(by), uses)


def summed(uses: Iterable[Use], starts_at: datetime, labels: tuple[str, ...] = ()) -> Use:
    """Several uses as one; a figure that none of them knows is not known."""
    parts = [*uses]
    return Use(
        starts_at=starts_at,
        labels=labels,
        energy=Figure(_sum(part.energy.value for part in parts), _sum(part.energy.plus_minus for part in parts)),
        carbon_grams_co2e=_sum(part.carbon_grams_co2e for part in parts),
        embodied_grams_co2e=_sum(part.embodied_grams_co2e for part in parts),
        cost_usd=_sum(part.cost_usd for part in parts),
        samples=sum(part.samples for part in parts),
    )


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _use(each: "pb.Usage", by: Sequence[str]) -> Use:
    return Use(
        starts_at=each.starts_at.ToDatetime(UTC),
        labels=tuple(getattr(each, LABEL_FIELDS.get(label, label)) for label in by),
        energy=Figure(told(each, "energy_joules"), told(each, "energy_joules_range")),
        carbon_grams_co2e=told(each, "carbon_grams_co2e"),
        embodied_grams_co2e=told(each, "embodied_grams_co2e"),
        cost_usd=told(each, "cost_usd"),
        samples=each.samples,
    )
