"""Made-up answers of the ledger's analysis, statements and compliance reports, for tests of reports and for looking at one."""

import random
from datetime import datetime, timedelta
from typing import Any

from ergonaut.api.ledger.v1 import analysis_pb2, ledger_pb2, statements_pb2
from ergonaut.reports import Analysis, analysis_of

from .made_up_runs import T0, stamp

JANUARY, FEBRUARY = (
    T0.replace(month=1, day=1, hour=0, minute=0, second=0),
    T0.replace(month=2, day=1, hour=0, minute=0, second=0),
)


def phase(start: float, end: float, joules: float | None, step: int | None, name: str = "epoch") -> Any:
    known = {} if joules is None else {"energy_joules": joules, "energy_joules_range": joules * 0.32}
    grams = {} if joules is None else {"carbon_grams_co2e": joules / 3.6e6 * 381, "cost_usd": joules / 3.6e6 * 0.15}
    return analysis_pb2.PhaseFootprint(
        phase=name,
        step=step,
        started_at=stamp(T0 + timedelta(seconds=start)),
        ended_at=stamp(T0 + timedelta(seconds=end)),
        metrics={"loss": 2.0 / (1 + start), "accuracy": min(0.97, 0.5 + start / 40)},
        **known,
        **grams,
    )


def efficiency(epochs: int = 10) -> analysis_pb2.GetEfficiencyResponse:
    noise = random.Random(5)
    length = 26 / epochs
    phases = [
        phase(2 + n * length, 2 + (n + 1) * length, 1000 / epochs * noise.uniform(0.9, 1.1), n + 1)
        for n in range(epochs)
    ]
    phases.append(phase(0, 2, None, None, "warm-up"))
    units = [
        analysis_pb2.UnitFootprint(
            unit=unit, count=count, energy_joules=1049.6 / count,
            carbon_grams_co2e=0.111 / count,
            cost_usd=0.0000437 / count, sci_grams_co2e=0.134 / count, range_fraction=0.32,
        )
        for unit, count in (("epoch", float(epochs)), ("predictions", 36_000.0), ("tokens", 2_400_000.0))
    ]  # fmt: skip
    return analysis_pb2.GetEfficiencyResponse(phases=phases, units=units)


def recommendations() -> list[analysis_pb2.Recommendation]:
    return [
        analysis_pb2.Recommendation(
            kind="move-region", subject="run-1", saving_fraction=0.905, saving_grams_co2e=0.1,
            saving_usd=0.00001, range_fraction=0.32,
            sentence="Run digits on hetzner hel1 cx32 (on-demand).",
            basis="The run's measured energy and time taken over unchanged.",
        ),
        analysis_pb2.Recommendation(
            kind="cap-power", subject="run-1", saving_fraction=0.137, saving_joules=140.0,
            saving_grams_co2e=0.015, range_fraction=1.0,
            sentence="Limit gpu0 to 240 W for digits (nvidia-smi -pl); it will take about 7% longer.",
            basis="Measured energy of the accelerator, times the mean saving of a cap at 60 % on V100 (McDonald et al., 2022).",
        ),
    ]  # fmt: skip


def anomalies() -> list[analysis_pb2.Anomaly]:
    def at(start: float, end: float) -> dict[str, Any]:
        return {"started_at": stamp(T0 + timedelta(seconds=start)), "ended_at": stamp(T0 + timedelta(seconds=end))}

    return [
        analysis_pb2.Anomaly(
            anomaly_id="anomaly-1", kind="power-spike", run_id="run-1", host="desk", component="cpu", **at(11, 12.5),
            value=92.0, expected=36.0, unit="watts",
            because="cpu drew 92 W for 1.5 s, 2.6 times the usual 36 W; see what ran then.",
        ),
        analysis_pb2.Anomaly(
            anomaly_id="anomaly-2", kind="drift", run_id="run-1", component="epoch", **at(18, 27),
            value=130.0, expected=100.0, unit="joules_per_step",
            because="A step now uses 130 J, 30% more than the first ones with 100 J, over 40 steps; look for data that grows.",
        ),
    ]  # fmt: skip


def analysis(epochs: int = 10) -> Analysis:
    return analysis_of(efficiency(epochs), recommendations(), anomalies())


def period(starts_at: datetime = JANUARY, ends_at: datetime = FEBRUARY) -> statements_pb2.Period:
    return statements_pb2.Period(starts_at=stamp(starts_at), ends_at=stamp(ends_at))


def line(label: str, kwh: float | None, **changes: Any) -> statements_pb2.StatementLine:
    joules = None if kwh is None else kwh * 3.6e6
    values: dict[str, Any] = {
        "label": label, "name": "", "energy_joules": joules,
        "energy_joules_range": None if joules is None else joules * 0.12,
        "carbon_grams_co2e_location": None if kwh is None else kwh * 381,
        "embodied_grams_co2e": None if kwh is None else kwh * 40,
        "electricity_usd": None if kwh is None else kwh * 0.15, "rent_usd": None if kwh is None else kwh * 4.1,
        "runs": 12, "samples": 86_400,
    }  # fmt: skip
    return statements_pb2.StatementLine(**(values | changes))


def certificate(name: str = "GO-DE-2026-0001", **changes: Any) -> statements_pb2.Certificate:
    values: dict[str, Any] = {
        "certificate_id": name, "kind": "renewable", "registry": "GO", "zone": "DE", "period": period(), "energy_kwh": 400.0,
        "cost_usd": 6.4, "principal": "ada",
    }  # fmt: skip
    return statements_pb2.Certificate(**(values | changes))


def offset() -> statements_pb2.Certificate:
    return certificate(
        "GS-77", kind="offset", registry="Gold Standard", zone="", energy_kwh=0, offset_grams_co2e=50_000
    )


def statement() -> statements_pb2.GetStatementResponse:
    lines = [
        line("apollo", 812.0, name="Apollo"), line("gemini", 96.5, rent_usd=None, embodied_grams_co2e=None),
        line("", 4.2, runs=3), line("dark", None, electricity_usd=None, rent_usd=11.5, embodied_grams_co2e=None),
    ]  # fmt: skip
    total = line("total", 912.7, runs=39, samples=345_600)
    return statements_pb2.GetStatementResponse(
        period=period(),
        lines=lines,
        total=total,
        certificates=[certificate()],
        notes=["GPUs of host lab-3 were not measured."],
    )


def compliance() -> statements_pb2.GetComplianceReportResponse:
    return statements_pb2.GetComplianceReportResponse(
        period=period(), energy_kwh=912.7, energy_kwh_range=109.5, scope2_location_grams_co2e=347_700,
        scope2_market_grams_co2e=195_300, certified_kwh=400.0, scope3_embodied_grams_co2e=36_500, sci_grams_co2e=0.00016,
        functional_unit="tokens", functional_units=2.4e9, offset_grams_co2e=50_000,
        factors=[
            statements_pb2.Factor(
                zone="DE", intensity_grams_per_kwh=381, source="Ember 2024 yearly average (CC BY 4.0)", kind="yearly", year=2024,
                signal="average", accounting="location-based", boundary="life-cycle", energy_joules=800 * 3.6e6,
            ),
            statements_pb2.Factor(
                zone="", intensity_grams_per_kwh=475, source="world average (IEA)", kind="world-average", year=2019,
                signal="average", accounting="location-based", boundary="unknown", energy_joules=112.7 * 3.6e6,
            ),
        ],
        certificates=[certificate(), offset()],
        notes=["Scope 2 by the GHG Protocol Scope 2 Guidance (2015), both methods.", "12 % of the energy has no known zone."],
    )  # fmt: skip


def use(at: datetime, host: str, joules: float | None, **changes: Any) -> ledger_pb2.Usage:
    kwh = None if joules is None else joules / 3.6e6
    values: dict[str, Any] = {
        "starts_at": stamp(at), "host": host, "samples": 86_400, "energy_joules": joules,
        "energy_joules_range": None if joules is None else joules * 0.2,
        "carbon_grams_co2e": None if kwh is None else kwh * 381, "embodied_grams_co2e": None if kwh is None else kwh * 40,
        "cost_usd": None if kwh is None else kwh * 0.15,
    }  # fmt: skip
    return ledger_pb2.Usage(**(values | changes))


def usage(step: str = "day") -> ledger_pb2.GetUsageResponse:
    """Two hosts over five days, of which one was not measured on the second day, and nothing was told of the fourth."""
    days = [JANUARY + timedelta(days=day) for day in (0, 1, 2, 4)]
    told = [use(day, host, 3.6e6 * (2 + number)) for day in days for number, host in enumerate(("desk", "lab"))]
    told[3] = use(days[1], "lab", None)
    return ledger_pb2.GetUsageResponse(
        usage=told if step == "day" else [*told[:2], use(days[0], "dark", None)], step=step
    )
