"""The dashboards that ask the ledger's ClickHouse: whole days and months, where Prometheus only sees the present."""

from dashboards import Page, Panel, Variable

TENANT = Variable("tenant", "Tenant", "SELECT DISTINCT tenant FROM power_days ORDER BY tenant")
RUN = Variable(
    "run",
    "Run",
    "SELECT run_id FROM runs WHERE tenant = '${tenant}' ORDER BY started_at DESC LIMIT 500",
)

_RUNS_MAX = 1_000
"""Rows of a table; a page with more is read by nobody."""


def _over_time(figure: str, label: str, table: str = "power_hours", where: str = "1") -> str:
    """A sum by label over time, out of one roll-up."""
    return (
        f"SELECT $__timeInterval(at) AS time, {label} AS label, {figure} AS value\n"
        f"FROM {table} FINAL\n"
        f"WHERE tenant = '${{tenant}}' AND $__timeFilter(at) AND {where}\n"
        "GROUP BY time, label ORDER BY time"
    )


def _total(figure: str, table: str, where: str) -> str:
    return (
        f"SELECT {figure} AS value FROM {table} FINAL "  # noqa: S608 - constants of this file
        f"WHERE tenant = '${{tenant}}' AND $__timeFilter(at) AND {where}"
    )


def _totals(table: str = "power_hours", where: str = "1") -> tuple[Panel, ...]:
    """The sums over the time shown; a part of an hour is only in the sums by minute."""

    def total(figure: str) -> str:
        return _total(figure, table, where)

    return (
        Panel("Energy", total("sum(energy_joules)"), "joule", "Of everything that was measured.", "stat", width=5),
        Panel(
            "Range",
            total("sum(energy_joules_range) / sum(energy_joules)"),
            "percentunit",
            "The true energy is within plus or minus this.",
            "stat",
            width=4,
        ),
        Panel("Carbon", total("sum(carbon_grams_co2e)"), "massg", "Operational, location-based.", "stat", width=5),
        Panel(
            "Embodied",
            total("sum(embodied_grams_co2e)"),
            "massg",
            "The machines' making, amortised; a line of its own, in no other figure.",
            "stat",
            width=5,
        ),
        Panel("Cost", total("sum(cost_usd)"), "currencyUSD", "Electricity and rent.", "stat", width=5),
    )


FLEET = Page(
    "fleet",
    "fleet",
    "What all hosts of a tenant used over days and months, and for whom.",
    "clickhouse",
    (
        *_totals(),
        Panel(
            "Energy by whose it is",
            _over_time("sum(energy_joules)", "share"),
            "joule",
            "Runs, others, idling.",
            legend="",
            stacked=True,
        ),
        Panel(
            "Energy by component", _over_time("sum(energy_joules)", "component"), "joule", "Hour by hour.", stacked=True
        ),
        Panel("Energy by host", _over_time("sum(energy_joules)", "host"), "joule", "Hour by hour.", stacked=True),
        Panel(
            "Intensity over the energy used",
            _over_time("sum(carbon_grams_co2e) / sum(building_joules) * 3.6e6", "concat(zone, ' ', intensity_kind)"),
            "none",
            "Grams of CO2e per kWh, weighted by energy.",
        ),
        Panel(
            "How it was measured",
            "SELECT component, method, source, sum(energy_joules) AS joules, sum(samples) AS samples\n"
            "FROM power_hours FINAL WHERE tenant = '${tenant}' AND $__timeFilter(at)\n"
            "GROUP BY component, method, source ORDER BY joules DESC LIMIT 200",
            "none",
            "Each way in which a figure came to be; `not-measured` has none.",
            "table",
            width=24,
        ),
    ),
    (TENANT,),
    since="now-7d",
    refresh="1m",
)

_OF_RUN = "run_id = '${run}' AND share = 'run'"

# A minute's row says how many seconds were sampled: fewer where a run begins or ends, more where one sample outlasts the minute.
# Rows of one host follow each other (a method or an intensity that changed), so their seconds add up. Hosts of one run go on side
# by side, so the longest counts. What nobody measured has no watts, and its seconds do not count.
_RUN_WATTS = f"""
SELECT $__timeInterval(at) AS time, component AS label, sum(joules) / sum(sampled_seconds) AS value
FROM
(
  SELECT at, component, sum(host_joules) AS joules, max(host_seconds) AS sampled_seconds
  FROM
  (
    SELECT at, host, component, sum(energy_joules) AS host_joules, sum(seconds) AS host_seconds
    FROM power_minutes FINAL
    WHERE tenant = '${{tenant}}' AND {_OF_RUN} AND $__timeFilter(at) AND energy_joules IS NOT NULL AND seconds > 0
    GROUP BY at, host, component
  )
  GROUP BY at, component
)
GROUP BY time, label ORDER BY time
"""  # noqa: S608 - constants of this file

RUN_PAGE = Page(
    "run",
    "run",
    "One run from its first sample to its last, as far as the ledger keeps minutes.",
    "clickhouse",
    (
        *_totals("power_minutes", _OF_RUN),
        Panel(
            "Power by component",
            _RUN_WATTS,
            "watt",
            "Means over the seconds that were sampled, of all its hosts; a minute that is not rolled up yet is not there.",
            stacked=True,
            width=24,
        ),
        Panel(
            "Phases",
            "SELECT JSONExtractString(phase, 'phase') AS name, JSONExtract(phase, 'step', 'Nullable(Int64)') AS step,\n"
            "  parseDateTime64BestEffort(JSONExtractString(phase, 'started_at'), 6, 'UTC') AS started,\n"
            "  parseDateTime64BestEffort(JSONExtractString(phase, 'ended_at'), 6, 'UTC') AS ended\n"
            "FROM events FINAL ARRAY JOIN JSONExtractArrayRaw(body, 'phases') AS phase\n"
            "WHERE tenant = '${tenant}' AND area = 'runs' AND type = 'runs.phase.finished' AND key = '${run}'\n"
            f"ORDER BY started LIMIT {_RUNS_MAX}",
            "none",
            "Epochs, evaluations and so on, as the program told.",
            "table",
        ),
        Panel(
            "What became of it",
            "SELECT occurred_at, type, JSONExtractString(body, 'because') AS because FROM events FINAL\n"
            "WHERE tenant = '${tenant}' AND area = 'runs' AND key = '${run}' AND type != 'runs.run.progressed'\n"
            "ORDER BY occurred_at LIMIT 200",
            "none",
            "Its events.",
            "table",
        ),
    ),
    (TENANT, RUN),
    since="now-24h",
    refresh="1m",
)

TENANT_PAGE = Page(
    "tenant",
    "tenant",
    "A tenant's bill: energy, carbon and cost by project and run.",
    "clickhouse",
    (
        *_totals(where="share = 'run'"),
        Panel(
            "Cost by project",
            _over_time("sum(cost_usd)", "project", "power_days", "share = 'run'"),
            "currencyUSD",
            "Day by day; runs without a project stand under an empty name.",
            stacked=True,
        ),
        Panel(
            "Carbon by project",
            _over_time("sum(carbon_grams_co2e)", "project", "power_days", "share = 'run'"),
            "massg",
            "Day by day, operational.",
            stacked=True,
        ),
        Panel(
            "Runs",
            "SELECT run_id, any(project) AS project, any(job_id) AS job, sum(energy_joules) AS joules,\n"
            "  sum(carbon_grams_co2e) AS grams, sum(cost_usd) AS usd, sum(samples) AS samples\n"
            "FROM power_hours FINAL WHERE tenant = '${tenant}' AND share = 'run' AND $__timeFilter(at)\n"
            f"GROUP BY run_id ORDER BY joules DESC LIMIT {_RUNS_MAX}",
            "none",
            "Largest energy first.",
            "table",
            width=24,
        ),
        Panel(
            "Certificates and offsets",
            "SELECT certificate_id, kind, registry, zone, energy_kwh, offset_grams_co2e, starts_at, ends_at\n"
            "FROM (SELECT * FROM certificates FINAL WHERE tenant = '${tenant}'\n"
            "  ORDER BY certificate_id, version DESC LIMIT 1 BY certificate_id)\n"
            "WHERE NOT voided ORDER BY starts_at DESC LIMIT 200",
            "none",
            "Lines of their own; they are subtracted from nothing above.",
            "table",
            width=24,
        ),
    ),
    (TENANT,),
    since="now-30d",
    refresh="5m",
)

_BUDGET_EVENTS = """
FROM events FINAL
WHERE tenant = '${tenant}' AND area = 'ledger' AND startsWith(type, 'ledger.budget.') AND $__timeFilter(occurred_at)
"""

BUDGET_PAGE = Page(
    "budget",
    "budgets",
    "What budgets have told: warnings, limits reached, windows begun anew, changes.",
    "clickhouse",
    (
        Panel(
            "Tellings",
            "SELECT $__timeInterval(occurred_at) AS time, type AS label, count() AS value"
            + _BUDGET_EVENTS
            + "GROUP BY time, label ORDER BY time",
            "short",
            "Events of budgets.",
            width=24,
        ),
        Panel(
            "What was told",
            "SELECT occurred_at, key AS budget, type, JSONExtractString(body, 'metric') AS metric,\n"
            "  JSONExtractFloat(body, 'used') AS used, JSONExtractFloat(body, 'limit') AS limit,\n"
            "  JSONExtractString(body, 'action') AS action, JSONExtractString(body, 'because') AS because"
            + _BUDGET_EVENTS
            + f"ORDER BY occurred_at DESC LIMIT {_RUNS_MAX}",
            "none",
            "Newest first; `used` and `limit` are in the metric's unit.",
            "table",
            width=24,
        ),
    ),
    (TENANT,),
    since="now-30d",
    refresh="1m",
)

GATEWAY = Page(
    "gateway",
    "gateway",
    "Predictions served over days, as the gateway told in its batches.",
    "clickhouse",
    tuple(
        Panel(
            title,
            f"SELECT $__timeInterval(occurred_at) AS time, JSONExtractString(body, 'model') AS label, {figure} AS value\n"
            "FROM events FINAL\n"
            "WHERE tenant = '${tenant}' AND area = 'inference' AND type = 'inference.request.served'\n"
            "    AND $__timeFilter(occurred_at)\n"
            "GROUP BY time, label ORDER BY time",
            unit,
            about,
        )
        for title, figure, unit, about in (
            ("Predictions", "sum(JSONExtractUInt(body, 'rows'))", "short", "Rows of all requests."),
            ("Requests", "sum(JSONExtractUInt(body, 'requests'))", "short", "That reached a model."),
            (
                "Failed",
                "sum(JSONExtractUInt(body, 'failed')) / sum(JSONExtractUInt(body, 'requests'))",
                "percentunit",
                "Part of the requests.",
            ),
            (
                "Latency, 99th percentile",
                "max(JSONExtractFloat(body, 'latency_ms_p99'))",
                "ms",
                "The worst batch of each interval.",
            ),
            (
                "Energy per 1,000 predictions",
                "1000 * sum(JSONExtractFloat(body, 'energy_joules'))"
                " / nullIf(sumIf(JSONExtractUInt(body, 'rows'), JSONHas(body, 'energy_joules')"
                " AND NOT JSONExtractRaw(body, 'energy_joules') = 'null'), 0)",
                "joule",
                "An estimate by CPU time, of the predictions that were measured.",
            ),
        )
    ),
    (TENANT,),
    since="now-7d",
    refresh="1m",
)

_JOB_EVENTS = "FROM events FINAL WHERE tenant = '${tenant}' AND area = 'jobs' AND $__timeFilter(occurred_at)\n"

SCHEDULER = Page(
    "scheduler",
    "scheduler",
    "What became of jobs over days, and where they were placed.",
    "clickhouse",
    (
        Panel(
            "Jobs",
            "SELECT $__timeInterval(occurred_at) AS time, type AS label, count() AS value\n"
            + _JOB_EVENTS
            + "GROUP BY time, label ORDER BY time",
            "short",
            "Submitted, placed, refused, cancelled.",
            stacked=True,
        ),
        Panel(
            "Placed where",
            "SELECT $__timeInterval(occurred_at) AS time,\n"
            "  JSONExtractString(body, 'placement', 'offer_id') AS label, count() AS value\n"
            + _JOB_EVENTS
            + "AND type = 'jobs.job.placed' GROUP BY time, label ORDER BY time",
            "short",
            "By offer.",
            stacked=True,
        ),
        Panel(
            "Refused",
            "SELECT occurred_at, key AS job, JSONExtractString(body, 'because') AS because\n"
            + _JOB_EVENTS
            + f"AND type = 'jobs.job.refused' ORDER BY occurred_at DESC LIMIT {_RUNS_MAX}",
            "none",
            "Newest first, each with its reason.",
            "table",
            width=24,
        ),
    ),
    (TENANT,),
    since="now-7d",
    refresh="1m",
)

BOOK_PAGES = (FLEET, RUN_PAGE, TENANT_PAGE, BUDGET_PAGE, GATEWAY, SCHEDULER)
