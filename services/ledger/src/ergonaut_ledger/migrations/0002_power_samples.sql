-- Every power sample, one row each. Sorted for "all samples of this run in order of time" and, since what belongs to no run has an
-- empty run_id, for "the tenant's hosts in order of time". Event id and position end the sorting key: they are the sample's identity.
-- Energy, grams and dollars that nobody measured stay null; a sum leaves them out and says so by being null when all are.
CREATE TABLE IF NOT EXISTS power_samples
(
    tenant LowCardinality(String),
    run_id String,
    started_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    event_id String,
    position UInt32,
    ended_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    stream LowCardinality(String),
    sequence UInt64 CODEC(Delta, ZSTD),
    host LowCardinality(String),
    producer LowCardinality(String),
    producer_sequence UInt64 CODEC(Delta, ZSTD),
    zone LowCardinality(String),
    intensity_grams_per_kwh Float64,
    intensity_kind LowCardinality(String),
    intensity_source LowCardinality(String),
    pue Float64,
    share LowCardinality(String),
    job_id String,
    component LowCardinality(String),
    method LowCardinality(String),
    source LowCardinality(String),
    range_fraction Nullable(Float64),
    energy_joules Nullable(Float64),
    carbon_grams_co2e Nullable(Float64),
    cost_usd Nullable(Float64),
    precedence Int64 MATERIALIZED -toInt64(sequence)
)
ENGINE = ReplacingMergeTree(precedence)
PARTITION BY toYYYYMM(started_at)
ORDER BY (tenant, run_id, started_at, event_id, position)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
