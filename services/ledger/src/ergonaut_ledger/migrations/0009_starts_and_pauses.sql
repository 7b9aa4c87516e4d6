-- A run as its events tell of it. Every figure is a minimum, a maximum or the newest, so a repeated event changes nothing.
-- A run that was paused and has started again runs; what ended before its newest start has not ended the run. All its starts and
-- pauses are told, so that the time between a pause and the next start is no time of the run.
CREATE OR REPLACE VIEW runs AS
SELECT
    tenant,
    key AS run_id,
    max(JSONExtractString(body, 'job_id')) AS job_id,
    argMaxIf(JSONExtractString(body, 'name'), occurred_at, type = 'runs.run.started') AS name,
    argMaxIf(JSONExtractString(body, 'project'), occurred_at, type = 'runs.run.started') AS project,
    argMaxIf(JSONExtractString(body, 'host'), occurred_at, type = 'runs.run.started') AS host,
    argMaxIf(JSONExtractString(body, 'provider'), occurred_at, type = 'runs.run.started') AS provider,
    argMaxIf(JSONExtractString(body, 'region'), occurred_at, type = 'runs.run.started') AS region,
    argMaxIf(JSONExtractString(body, 'machine_type'), occurred_at, type = 'runs.run.started') AS machine_type,
    argMaxIf(JSONExtractString(body, 'zone'), occurred_at, type = 'runs.run.started') AS zone,
    argMaxIf(JSONExtractString(body, 'offer_id'), occurred_at, type = 'runs.run.started') AS offer_id,
    argMaxIf(JSONExtractUInt(body, 'price_microusd_per_hour'), occurred_at, type = 'runs.run.started')
        AS price_microusd_per_hour,
    argMaxIf(JSONExtractUInt(body, 'electricity_microusd_per_kwh'), occurred_at, type = 'runs.run.started')
        AS electricity_microusd_per_kwh,
    coalesce(
        min(parseDateTime64BestEffortOrNull(JSONExtractString(body, 'started_at'), 6, 'UTC')),
        min(occurred_at)
    ) AS started_at,
    arraySort(groupUniqArrayIf(occurred_at, type = 'runs.run.started')) AS starts,
    arraySort(groupUniqArrayIf(occurred_at, type = 'runs.run.paused')) AS pauses,
    maxIf(occurred_at, type = 'runs.run.started') AS newest_start_at,
    maxIf(occurred_at, type = 'runs.run.paused') AS newest_pause_at,
    if(
        countIf(type = 'runs.run.finished') = 0 AND newest_pause_at > toDateTime64(0, 6, 'UTC') AND newest_pause_at <= newest_start_at,
        NULL,
        max(parseDateTime64BestEffortOrNull(JSONExtractString(body, 'ended_at'), 6, 'UTC'))
    ) AS ended_at,
    multiIf(
        countIf(type = 'runs.run.finished') > 0,
        argMaxIf(JSONExtractString(body, 'state'), occurred_at, type = 'runs.run.finished'),
        countIf(type = 'runs.run.preempted') > 0,
        'preempted',
        newest_pause_at > newest_start_at,
        'paused',
        'running'
    ) AS state,
    argMaxIf(
        JSONExtractKeysAndValues(body, 'metrics', 'Float64'),
        (type = 'runs.run.finished', occurred_at),
        notEmpty(JSONExtractKeysAndValues(body, 'metrics', 'Float64'))
    ) AS metrics
FROM events
WHERE area = 'runs'
GROUP BY tenant, key;
