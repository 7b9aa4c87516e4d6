-- Every event as it was told. Sorted for "the newest of this area, of this key" within a tenant. The event's id ends the sorting
-- key, so that a repeat is the same row; of several tellings the first one (the smallest sequence) stands.
CREATE TABLE IF NOT EXISTS events
(
    tenant LowCardinality(String),
    area LowCardinality(String),
    type LowCardinality(String),
    key String,
    event_id String,
    occurred_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    stream LowCardinality(String),
    sequence UInt64,
    subject String CODEC(ZSTD),
    producer LowCardinality(String),
    producer_sequence UInt64 CODEC(Delta, ZSTD),
    body String CODEC(ZSTD(3)),
    precedence Int64 MATERIALIZED -toInt64(sequence)
)
ENGINE = ReplacingMergeTree(precedence)
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (tenant, area, key, occurred_at, event_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- A run as its events tell of it. Every figure is a minimum, a maximum or the newest, so a repeated event changes nothing.
CREATE VIEW IF NOT EXISTS runs AS
SELECT
    tenant,
    key AS run_id,
    max(JSONExtractString(body, 'job_id')) AS job_id,
    argMaxIf(JSONExtractString(body, 'name'), occurred_at, type = 'runs.run.started') AS name,
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
    max(parseDateTime64BestEffortOrNull(JSONExtractString(body, 'ended_at'), 6, 'UTC')) AS ended_at,
    multiIf(
        countIf(type = 'runs.run.finished') > 0,
        argMaxIf(JSONExtractString(body, 'state'), occurred_at, type = 'runs.run.finished'),
        countIf(type = 'runs.run.preempted') > 0,
        'preempted',
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
