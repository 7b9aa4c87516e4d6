"""The SQL that answers the ledger's questions; every value is a bound parameter. Used by the ClickHouse store.

FINAL makes rows that a repeat has doubled count once, whether the engine has merged them by now or not.
"""

_RUN_COLUMNS = """
    run_id, job_id, name, project, state, started_at, ended_at, host, provider, region, machine_type, zone, offer_id,
    price_microusd_per_hour, electricity_microusd_per_kwh, metrics, starts, pauses
"""

# The newest runs are found by their ids, times and first words; only theirs are then read whole, since a run may have told
# thousands of figures and phases. A run of which no start is known counts from its first event, as in `runs`. An id of which
# nothing but a pause was told is that of an attempt that never began, since its job was paused before: that is no run.
RUNS = f"""
SELECT {_RUN_COLUMNS}
FROM runs
WHERE tenant = {{tenant:String}} AND run_id IN
(
    SELECT key
    FROM
    (
        SELECT key, min(occurred_at) AS first_at
        FROM events
        WHERE tenant = {{tenant:String}} AND area = 'runs'
        GROUP BY key
        HAVING max(type != 'runs.run.paused')
    ) AS told
    LEFT JOIN
    (
        SELECT key, min(parseDateTime64BestEffortOrNull(JSONExtractString(body, 'started_at'), 6, 'UTC')) AS began_at
        FROM events
        WHERE tenant = {{tenant:String}} AND area = 'runs' AND type IN ('runs.run.started', 'runs.run.finished')
        GROUP BY key
    ) AS began ON told.key = began.key
    ORDER BY coalesce(began_at, first_at) DESC, key DESC
    LIMIT {{limit:UInt32}}
)
ORDER BY started_at DESC, run_id DESC
LIMIT {{limit:UInt32}}
"""  # noqa: S608 - the only text put in is the constant above

RUN = f"""
SELECT {_RUN_COLUMNS}
FROM runs
WHERE tenant = {{tenant:String}} AND run_id = {{run_id:String}}
"""  # noqa: S608 - the only text put in is the constant above

# `@use` stands for what the run used, see `run_use`.
COMPONENTS = """
SELECT
    component, method, source,
    if(
        sumKahan(energy_joules) > 0,
        sumKahan(energy_joules_range) / sumKahan(ranged_joules),
        max(range_fraction)
    ) AS range,
    if(count(energy_joules) = 0, NULL, sumKahan(energy_joules)) AS energy,
    if(count(carbon_grams_co2e) = 0, NULL, sumKahan(carbon_grams_co2e)) AS carbon,
    if(count(cost_usd) = 0, NULL, sumKahan(cost_usd)) AS cost,
    if(count(embodied_grams_co2e) = 0, NULL, sumKahan(embodied_grams_co2e)) AS embodied,
    sum(samples) AS samples_told
FROM @use
GROUP BY component, method, source
ORDER BY component, method, source
"""

COVERAGE = """
SELECT
    sum(samples) AS samples_told,
    max(job_id) AS run_job_id,
    argMax(zone, started_at) AS run_zone,
    min(started_at) AS first_at,
    max(ended_at) AS last_at,
    ifNull(if(sum(energy_joules) > 0, sum(building_joules) / sum(energy_joules), avg(mean_pue)), 1) AS pue,
    ifNull(
        if(sum(weighed_joules) > 0, sum(mean_intensity * weighed_joules) / sum(weighed_joules), avg(mean_intensity)), 0
    ) AS intensity_grams_per_kwh,
    arraySort(groupUniqArray(concat(intensity_kind, ': ', intensity_source))) AS intensity_sources,
    arraySort(groupUniqArray(
        concat(intensity_signal, ', ', intensity_accounting, ', ', intensity_boundary)
    )) AS intensity_bases
FROM @use
"""

NEIGHBOURS_DAYS = 8
"""How far from a run its producer's messages before and after it are looked for: a day more than a stream keeps any."""

# Producers number their messages for a tenant without a gap, whatever runs are in them; so between a run's first and last sample
# each number must be here, and so must those up to the nearest numbers before and after, in which the run may have begun or
# ended. A message is kept after its samples, so one that is here has all of them here. A message's time lies near its samples'
# (a spool keeps it); where none is kept that near, nothing is claimed of what lies between.
MISSING = f"""
WITH spans AS
(
    SELECT
        host, producer,
        min(producer_sequence) AS first, max(producer_sequence) AS last,
        min(started_at) AS first_at, max(ended_at) AS last_at
    FROM power_samples
    WHERE tenant = {{tenant:String}} AND run_id = {{run_id:String}} AND share = 'run'
    GROUP BY host, producer
)
SELECT sum(expected - found + if(before > 0, first_number - before - 1, 0) + if(after > 0, after - last_number - 1, 0))
    AS missing
FROM
(
    SELECT
        any(first) AS first_number,
        any(last) AS last_number,
        last_number - first_number + 1 AS expected,
        uniqExactIf(producer_sequence, producer_sequence BETWEEN first AND last) AS found,
        maxIf(producer_sequence, producer_sequence < first) AS before,
        minIf(producer_sequence, producer_sequence > last) AS after
    FROM events INNER JOIN spans ON events.key = spans.host AND events.producer = spans.producer
    WHERE tenant = {{tenant:String}} AND area = 'telemetry' AND type = 'telemetry.power.sampled'
        AND key IN (SELECT host FROM spans)
        AND occurred_at >= (SELECT min(first_at) FROM spans) - INTERVAL {NEIGHBOURS_DAYS} DAY
        AND occurred_at <= (SELECT max(last_at) FROM spans) + INTERVAL {NEIGHBOURS_DAYS} DAY
    GROUP BY spans.host, spans.producer
)
"""  # noqa: S608 - constants only

# Samples of one meter in one interval give its mean power: energy over the time that was sampled, so that an interval that
# holds one sample more than the next is no peak. Meters of several hosts add up; sums and samples follow each other and do not.
# Sums do not tell producers apart: one alone tells no more seconds than there are, but for its last sample; more are of several.
POWER = """
WITH
    (
        SELECT (min(started_at), greatest(dateDiff('microsecond', min(started_at), max(ended_at)), 1))
        FROM @use
        WHERE energy_joules IS NOT NULL
    ) AS span,
    greatest(intDiv(span.2, {points_max:UInt32}) + 1, 1) AS width
SELECT addMicroseconds(span.1, bin * width) AS starts_at, component, sum(watts * told) / sum(told) AS power_watts
FROM
(
    SELECT bin, rolled, component, sum(meter_watts) AS watts, max(meter_seconds) AS told
    FROM
    (
        SELECT
            intDiv(dateDiff('microsecond', span.1, started_at), width) AS bin,
            rolled, component,
            sum(seconds) AS told_seconds,
            dateDiff('microsecond', min(started_at), max(ended_at)) / 1e6 AS span_seconds,
            if(rolled, greatest(ceil((told_seconds - told_seconds / sum(samples)) / span_seconds), 1), 1) AS producers,
            told_seconds / producers AS meter_seconds,
            sum(energy_joules) / meter_seconds AS meter_watts
        FROM @use
        WHERE energy_joules IS NOT NULL AND seconds > 0
        GROUP BY bin, rolled, component, host, producer
    )
    GROUP BY bin, rolled, component
)
GROUP BY bin, component
ORDER BY starts_at, component
"""

OFFERS = """
SELECT
    offer_id, provider, region, zone, machine_type, vcpus, memory_gib, accelerator, accelerator_count,
    price_microusd_per_hour, electricity_microusd_per_kwh, pue, billing_increment_seconds
FROM
(
    SELECT *
    FROM offers FINAL
    WHERE tenant IN {tenants:Array(String)}
    ORDER BY
        offer_id,
        told_at <= {at:DateTime64(6, 'UTC')} DESC,
        abs(dateDiff('microsecond', told_at, {at:DateTime64(6, 'UTC')})),
        event_id
    LIMIT 1 BY offer_id
)
WHERE available
ORDER BY offer_id
"""

# Eight days each way: `pricing` tells at most a week ahead, and a day that is further away is no longer like the run's own.
DAYS = """
SELECT zone, toHour(starts_at, 'UTC') AS hour, intensity_grams_per_kwh, kind, range_fraction
FROM intensities FINAL
WHERE tenant IN {tenants:Array(String)}
    AND starts_at >= {at:DateTime64(6, 'UTC')} - INTERVAL 8 DAY
    AND starts_at <= {at:DateTime64(6, 'UTC')} + INTERVAL 8 DAY
ORDER BY
    zone,
    hour,
    abs(dateDiff('second', starts_at, toStartOfHour({at:DateTime64(6, 'UTC')}))),
    starts_at,
    told_at DESC,
    event_id
LIMIT 1 BY zone, hour
"""

NEWEST_BODY = """
SELECT body
FROM events
WHERE tenant = {tenant:String} AND area = {area:String} AND key = {key:String} AND type = {type:String}
ORDER BY occurred_at DESC, event_id DESC
LIMIT 1
"""

# A reading's samples are rows of `power_samples`; its body tells who numbered it, and where they are.
# The bodies are read in a second step, for the chosen events only: most of the table is bodies.
EVENTS = """
WITH chosen AS
(
    SELECT tenant, area, key, occurred_at, event_id
    FROM events
    WHERE tenant IN {tenants:Array(String)}
        AND ({area:String} = '' OR area = {area:String})
        AND ({key:String} = '' OR key = {key:String})
    ORDER BY occurred_at DESC, event_id DESC
    LIMIT 1 BY tenant, event_id
    LIMIT {limit:UInt32}
)
SELECT
    event_id, subject, occurred_at,
    multiIf(
        body = '' AND type = 'telemetry.power.sampled',
        concat(
            '{"event_id":', toJSONString(event_id), ',"tenant":', toJSONString(tenant::String),
            ',"host":', toJSONString(key), ',"producer":', toJSONString(producer::String),
            ',"sequence":', toString(producer_sequence), ',"samples_kept_in":"power_samples"}'
        ),
        body = '' AND type = 'inference.request.logged',
        concat(
            '{"event_id":', toJSONString(event_id), ',"tenant":', toJSONString(tenant::String),
            ',"model":', toJSONString(key), ',"requests_kept_in":"model_requests"}'
        ),
        body
    ) AS body
FROM events FINAL
WHERE tenant IN {tenants:Array(String)}
    AND (tenant, area, key, occurred_at, event_id) IN (SELECT tenant, area, key, occurred_at, event_id FROM chosen)
ORDER BY occurred_at DESC, event_id DESC
"""
