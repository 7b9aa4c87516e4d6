"""What each Grafana dashboard shows. A metric named here must be there in a scrape, a column in the books: tests see to it."""

from dashboard_books import BOOK_PAGES
from dashboards import Page, Panel, Variable

INSTANCE = Variable("instance", "Host", "label_values(ergonaut_samples_total, instance)")
TENANT = Variable("tenant", "Tenant", "label_values(ergonaut_run_info, tenant)")
RUN = Variable("run", "Run", 'label_values(ergonaut_run_info{tenant=~"$tenant"}, run)')
BUDGET = Variable("budget", "Budget", "label_values(ergonaut_budget_used_ratio, budget_id)")
MODEL = Variable("model", "Model", "label_values(ergonaut_inference_requests_total, model)")

FLEET = Page(
    "fleet",
    "fleet",
    "All hosts: what they use now, for whom, and whether their meters and agents work.",
    "prometheus",
    (
        Panel(
            "Power",
            'sum(ergonaut_power_watts{instance=~"$instance"})',
            "watt",
            "Mean over each host's last sample.",
            "stat",
            width=4,
        ),
        Panel(
            "Carbon now",
            'sum(rate(ergonaut_carbon_grams_co2e_total{instance=~"$instance"}[5m])) * 3600',
            "massg",
            "Operational grams of CO2e an hour, PUE included, at each host's intensity.",
            "stat",
            width=4,
        ),
        Panel(
            "Money now",
            'sum(rate(ergonaut_cost_usd_total{instance=~"$instance"}[5m])) * 3600',
            "currencyUSD",
            "Electricity and rent, dollars an hour; energy without a price is left out.",
            "stat",
            width=4,
        ),
        Panel(
            "Used by runs",
            'sum(ergonaut_power_watts{instance=~"$instance", share="run"}) / sum(ergonaut_power_watts{instance=~"$instance"})',
            "percentunit",
            "The rest is idling and processes that belong to no run.",
            "stat",
            width=4,
        ),
        Panel(
            "Agents up", 'count(up{job="telemetry"} == 1)', "short", "Agents that answer Prometheus.", "stat", width=4
        ),
        Panel(
            "Not measured",
            'count(ergonaut_component_measured{instance=~"$instance"} == 0) or vector(0)',
            "short",
            "Components that nothing on their host can measure; they are in no sum.",
            "stat",
            width=4,
        ),
        Panel(
            "Power by whose it is",
            'sum by (share) (ergonaut_power_watts{instance=~"$instance"})',
            "watt",
            "Runs, other processes, and idling; together the host.",
            legend="{{share}}",
            stacked=True,
        ),
        Panel(
            "Power by component",
            'sum by (component) (ergonaut_power_watts{instance=~"$instance"})',
            "watt",
            "What the meters or, flagged, the models say.",
            legend="{{component}}",
            stacked=True,
        ),
        Panel(
            "Power by host",
            'sum by (instance) (ergonaut_power_watts{instance=~"$instance"})',
            "watt",
            "Each host's components together.",
            legend="{{instance}}",
        ),
        Panel(
            "Grid intensity",
            "avg by (zone, kind) (ergonaut_intensity_grams_per_kwh)",
            "none",
            "Grams of CO2e per kWh; a zone that is unknown takes the world's average, which its kind says.",
            legend="{{zone}} {{kind}}",
        ),
        Panel(
            "How it is measured",
            'ergonaut_component_measured{instance=~"$instance"}',
            "short",
            "1 where there is a figure; the method says whether a counter, power readings or a model gives it.",
            "table",
        ),
        Panel(
            "Range of the figures",
            'ergonaut_component_range_fraction{instance=~"$instance"}',
            "percentunit",
            "The true figure is within plus or minus this.",
            "bargauge",
            legend="{{instance}} {{component}}",
        ),
        Panel(
            "Samples a second",
            'rate(ergonaut_samples_total{instance=~"$instance"}[$__rate_interval])',
            "cps",
            "One a second by default; less means an agent that is short of CPU or hangs.",
            legend="{{instance}}",
        ),
        Panel(
            "Events that wait in spools",
            'ergonaut_spool_events{instance=~"$instance"}',
            "short",
            "Above a few: the bus is away or slow. Nothing is lost before the spool's bound.",
            legend="{{instance}}",
        ),
    ),
    (INSTANCE,),
)

RUN_PAGE = Page(
    "run",
    "run",
    "One run while it goes on: power, energy, carbon and cost, by component.",
    "prometheus",
    (
        Panel(
            "Power",
            'sum(ergonaut_power_watts{tenant=~"$tenant", run=~"$run"})',
            "watt",
            "Over the last sample.",
            "stat",
            width=6,
        ),
        Panel(
            "Energy",
            'sum(ergonaut_energy_joules_total{tenant=~"$tenant", run=~"$run"})',
            "joule",
            "Since the run was first seen by its agent, or that agent started.",
            "stat",
            width=6,
        ),
        Panel(
            "Carbon",
            'sum(ergonaut_carbon_grams_co2e_total{tenant=~"$tenant", run=~"$run"})',
            "massg",
            "Operational grams of CO2e, PUE included.",
            "stat",
            width=6,
        ),
        Panel(
            "Cost",
            'sum(ergonaut_cost_usd_total{tenant=~"$tenant", run=~"$run"})',
            "currencyUSD",
            "Electricity and rent.",
            "stat",
            width=6,
        ),
        Panel(
            "Power by component",
            'sum by (component) (ergonaut_power_watts{tenant=~"$tenant", run=~"$run"})',
            "watt",
            "The run's share of each component.",
            legend="{{component}}",
            stacked=True,
            width=24,
        ),
        Panel(
            "Energy by component",
            'sum by (component) (ergonaut_energy_joules_total{tenant=~"$tenant", run=~"$run"})',
            "joule",
            "Adds up while the run goes on.",
            legend="{{component}}",
        ),
        Panel(
            "What it is",
            'ergonaut_run_info{tenant=~"$tenant", run=~"$run"}',
            "short",
            "Its job, project, container, pod and Slurm job, where it has them.",
            "table",
        ),
    ),
    (TENANT, RUN),
)

TENANT_PAGE = Page(
    "tenant",
    "tenant",
    "What a tenant's runs use now, by project. For sums over days ask the books.",
    "prometheus",
    (
        Panel(
            "Runs",
            'count(ergonaut_run_info{tenant=~"$tenant"}) or vector(0)',
            "short",
            "Runs that use a host now.",
            "stat",
            width=6,
        ),
        Panel("Power", 'sum(ergonaut_power_watts{tenant=~"$tenant"})', "watt", "All its runs.", "stat", width=6),
        Panel(
            "Carbon now",
            'sum(rate(ergonaut_carbon_grams_co2e_total{tenant=~"$tenant"}[5m])) * 3600',
            "massg",
            "Operational grams of CO2e an hour.",
            "stat",
            width=6,
        ),
        Panel(
            "Money now",
            'sum(rate(ergonaut_cost_usd_total{tenant=~"$tenant"}[5m])) * 3600',
            "currencyUSD",
            "Dollars an hour.",
            "stat",
            width=6,
        ),
        Panel(
            "Power by project",
            'sum by (project) (sum by (tenant, run) (ergonaut_power_watts{tenant=~"$tenant"})'
            " * on (tenant, run) group_left (project) max by (tenant, run, project) (ergonaut_run_info))",
            "watt",
            "Runs without a project stand under an empty name.",
            legend="{{project}}",
            stacked=True,
        ),
        Panel(
            "Power by run",
            'topk(20, sum by (run) (ergonaut_power_watts{tenant=~"$tenant"}))',
            "watt",
            "The twenty that use most.",
            legend="{{run}}",
            stacked=True,
        ),
        Panel(
            "Energy of the last hour by run",
            'topk(20, sum by (run) (increase(ergonaut_energy_joules_total{tenant=~"$tenant", run!=""}[1h])))',
            "joule",
            "As far as Prometheus saw it; the ledger has every sample.",
            "bargauge",
            legend="{{run}}",
        ),
        Panel(
            "Budgets",
            'ergonaut_budget_used_ratio{tenant=~"$tenant"}',
            "percentunit",
            "Part of each budget that is used in its window.",
            "bargauge",
            legend="{{budget_id}}",
            limits=(0.8, 1.0),
        ),
    ),
    (TENANT,),
)

BUDGET_PAGE = Page(
    "budget",
    "budgets",
    "How budgets stand, and how fast the ledger judges them.",
    "prometheus",
    (
        Panel(
            "Used",
            'ergonaut_budget_used_ratio{budget_id=~"$budget"}',
            "percentunit",
            "Part of the limit that is used in the present window.",
            "gauge",
            legend="{{tenant}} {{budget_id}}",
            width=24,
            limits=(0.8, 1.0),
        ),
        Panel(
            "Used over time",
            'ergonaut_budget_used_ratio{budget_id=~"$budget"}',
            "percentunit",
            "Falls when a window begins anew or a limit is raised.",
            legend="{{tenant}} {{budget_id}}",
            width=24,
            limits=(0.8, 1.0),
        ),
        Panel(
            "Hours until it is used up",
            '(1 - ergonaut_budget_used_ratio{budget_id=~"$budget"})'
            ' / (deriv(ergonaut_budget_used_ratio{budget_id=~"$budget"}[15m]) > 0) / 3600',
            "h",
            "If all goes on as in the last quarter of an hour; nothing where nothing is used.",
            legend="{{tenant}} {{budget_id}}",
        ),
        Panel(
            "Warnings and limits told",
            "sum by (type) (increase(ergonaut_budget_tellings_total[$__rate_interval]))",
            "short",
            "Events that budgets have caused.",
            legend="{{type}}",
        ),
        Panel(
            "Time to judge",
            "histogram_quantile(0.99, sum by (le) (rate(ergonaut_budget_judge_seconds_bucket[$__rate_interval])))",
            "s",
            "99th percentile, from the question to the decision.",
            legend="p99",
        ),
        Panel(
            "Time to keep a batch",
            "histogram_quantile(0.99, sum by (le) (rate(ergonaut_ledger_keep_seconds_bucket[$__rate_interval])))",
            "s",
            "99th percentile; budgets are judged after it.",
            legend="p99",
        ),
        Panel(
            "Behind its streams",
            'ergonaut_stream_unread_ratio{consumer="ledger"}',
            "percentunit",
            "What the ledger has not read, as a part of each stream's bound; a full stream drops its oldest.",
            legend="{{stream}}",
            width=24,
            limits=(0.5, 1.0),
        ),
    ),
    (BUDGET,),
)

GATEWAY = Page(
    "gateway",
    "gateway",
    "Predictions served: how many, how fast, how many failed.",
    "prometheus",
    (
        Panel(
            "Requests a second",
            'sum by (model, version) (rate(ergonaut_inference_requests_total{model=~"$model"}[$__rate_interval]))',
            "reqps",
            "That reached a model.",
            legend="{{model}} {{version}}",
        ),
        Panel(
            "Failed",
            'sum by (model) (rate(ergonaut_inference_failures_total{model=~"$model"}[$__rate_interval]))'
            ' / sum by (model) (rate(ergonaut_inference_requests_total{model=~"$model"}[$__rate_interval]))',
            "percentunit",
            "Part of the requests that was answered with an error.",
            legend="{{model}}",
            limits=(0.01, 0.05),
        ),
        Panel(
            "Latency, median",
            "histogram_quantile(0.5, sum by (le, model)"
            ' (rate(ergonaut_inference_seconds_bucket{model=~"$model"}[$__rate_interval])))',
            "s",
            "From the decoded request to the answer, waiting included.",
            legend="{{model}}",
        ),
        Panel(
            "Latency, 99th percentile",
            "histogram_quantile(0.99, sum by (le, model)"
            ' (rate(ergonaut_inference_seconds_bucket{model=~"$model"}[$__rate_interval])))',
            "s",
            "From the decoded request to the answer, waiting included.",
            legend="{{model}}",
        ),
        Panel(
            "Energy per 1,000 predictions",
            'sum by (model, method) (rate(ergonaut_inference_energy_joules_total{model=~"$model"}[$__rate_interval]))'
            " / on (model) group_left"
            ' sum by (model) (rate(ergonaut_inference_batch_rows_sum{model=~"$model"}[$__rate_interval])) * 1000',
            "joule",
            "An estimate by CPU time: calibrated by telemetry, or by a model of the CPU.",
            legend="{{model}} ({{method}})",
        ),
        Panel(
            "Energy when nobody asks",
            "sum by (method) (rate(ergonaut_inference_idle_energy_joules_total[$__rate_interval]))",
            "watt",
            "What the gateway's processes use beside requests.",
            legend="{{method}}",
        ),
        Panel(
            "Endpoints by route",
            "sum by (endpoint, route) (rate(ergonaut_endpoint_requests_total[$__rate_interval]))",
            "reqps",
            "Requests that each route answered, well or not; a canary's part grows with its weight.",
            legend="{{endpoint}} {{route}}",
        ),
        Panel(
            "Routes of endpoints, failed",
            "sum by (endpoint, route) (rate(ergonaut_endpoint_failures_total[$__rate_interval]))"
            " / sum by (endpoint, route) (rate(ergonaut_endpoint_requests_total[$__rate_interval]))",
            "percentunit",
            "Part of a route's requests, by no fault of the caller; another route may have answered them.",
            legend="{{endpoint}} {{route}}",
            limits=(0.01, 0.05),
        ),
        Panel(
            "Steps of pipelines, mean time",
            "sum by (pipeline, node, step) (rate(ergonaut_pipeline_step_seconds_total[$__rate_interval]))"
            " / sum by (pipeline, node, step) (rate(ergonaut_pipeline_step_requests_total[$__rate_interval]))",
            "s",
            "From a step's request to its answer, waiting included; `fused` is all steps of a node as one model.",
            legend="{{pipeline}} {{node}} {{step}}",
        ),
        Panel(
            "Steps of pipelines, failed",
            "sum by (pipeline, node, step) (rate(ergonaut_pipeline_step_failures_total[$__rate_interval]))"
            " / sum by (pipeline, node, step) (rate(ergonaut_pipeline_step_requests_total[$__rate_interval]))",
            "percentunit",
            "Part of a step's requests, also where the pipeline went on without it.",
            legend="{{pipeline}} {{node}} {{step}}",
            limits=(0.01, 0.05),
        ),
        Panel(
            "Calls by status",
            'sum by (code) (rate(ergonaut_rpc_calls_total{job="gateway"}[$__rate_interval]))',
            "reqps",
            "gRPC calls, administration included.",
            legend="{{code}}",
        ),
        Panel(
            "Queries to collections",
            "sum by (exact) (rate(ergonaut_vectors_queries_total[$__rate_interval]))",
            "reqps",
            "Searches answered by the vectors service.",
            legend="exact {{exact}}",
        ),
    ),
    (MODEL,),
)

SCHEDULER = Page(
    "scheduler",
    "scheduler",
    "Jobs: taken in, placed, running, ended; and what prices they were weighed by.",
    "prometheus",
    (
        Panel(
            "Jobs by state",
            "sum by (state) (ergonaut_scheduler_jobs)",
            "short",
            "As of the scheduler's last look at all of them.",
            legend="{{state}}",
            stacked=True,
        ),
        Panel(
            "Runs under way",
            "sum(ergonaut_orchestrator_runs)",
            "short",
            "Programs that the orchestrator watches over.",
            legend="runs",
        ),
        Panel(
            "Jobs taken in",
            "sum(increase(ergonaut_scheduler_jobs_submitted_total[$__rate_interval]))",
            "short",
            "In each interval.",
            legend="submitted",
        ),
        Panel(
            "Attempts that ended, by how",
            "sum by (kind) (increase(ergonaut_orchestrator_runs_ended_total[$__rate_interval]))",
            "short",
            "In each interval; preempted and paused ones are followed by others.",
            legend="{{kind}}",
        ),
        Panel(
            "Decisions",
            "sum by (outcome) (increase(ergonaut_scheduler_decisions_total[$__rate_interval]))",
            "short",
            "Placed or refused.",
            legend="{{outcome}}",
        ),
        Panel(
            "Time to plan",
            "histogram_quantile(0.99, sum by (le) (rate(ergonaut_scheduler_plan_seconds_bucket[$__rate_interval])))",
            "s",
            "99th percentile of gathering offers and weighing a job.",
            legend="p99",
        ),
        Panel(
            "Offers known",
            "ergonaut_pricing_offers",
            "short",
            "Machine types for sale, of all providers.",
            legend="offers",
        ),
        Panel(
            "Messages retried and parked",
            "sum by (consumer) (increase(ergonaut_messages_retried_total[$__rate_interval]))"
            " + sum by (consumer) (increase(ergonaut_messages_parked_total[$__rate_interval]))",
            "short",
            "Events that a listener could not handle at once.",
            legend="{{consumer}}",
        ),
    ),
)

PAGES = (FLEET, RUN_PAGE, TENANT_PAGE, BUDGET_PAGE, GATEWAY, SCHEDULER, *BOOK_PAGES)
"""All of them."""
