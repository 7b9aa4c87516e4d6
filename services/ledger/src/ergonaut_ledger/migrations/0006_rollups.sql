-- Small inserts as one file each instead of one a column: half the time of an insert, and a fraction of its fsyncs.
ALTER TABLE power_samples MODIFY SETTING min_bytes_for_wide_part = 268435456;

-- Minutes of which samples were kept since they were last rolled up. One row an insert and minute, written after the samples and before
-- the acknowledgement; once the minute is rolled up, the same touch with the sign -1 takes it away. So a minute is either summed in
-- `power_minutes` or named here, wherever a process was killed.
CREATE TABLE IF NOT EXISTS touched_minutes
(
    tenant LowCardinality(String),
    minute DateTime('UTC'),
    touch UUID DEFAULT generateUUIDv4(),
    sign Int8
)
ENGINE = CollapsingMergeTree(sign)
ORDER BY (tenant, minute, touch)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Sums of the samples that began in a minute, an hour, a day. A roll-up is recomputed from below, never added to, so that it may be
-- made again at will; of several the one of the most samples stands, since samples only ever come to a time that may still be rolled.
-- What nobody measured stays null. Sorted for "this run in order of time" and, as what belongs to no run has an empty run_id, for
-- "the tenant's hosts in order of time"; a part holds a day or a month, which bounds what a question about a time reads.
CREATE TABLE IF NOT EXISTS power_minutes
(
    tenant LowCardinality(String),
    run_id String CODEC(ZSTD),
    at DateTime('UTC') CODEC(Delta, ZSTD),
    host LowCardinality(String),
    component LowCardinality(String),
    share LowCardinality(String),
    method LowCardinality(String),
    source LowCardinality(String),
    zone LowCardinality(String),
    intensity_kind LowCardinality(String),
    intensity_source LowCardinality(String),
    intensity_signal LowCardinality(String),
    intensity_accounting LowCardinality(String),
    intensity_boundary LowCardinality(String),
    project LowCardinality(String),
    job_id String CODEC(ZSTD),
    energy_joules Nullable(Float64) CODEC(ZSTD),
    energy_joules_range Nullable(Float64) CODEC(ZSTD),
    building_joules Nullable(Float64) CODEC(ZSTD),
    carbon_grams_co2e Nullable(Float64) CODEC(ZSTD),
    embodied_grams_co2e Nullable(Float64) CODEC(ZSTD),
    cost_usd Nullable(Float64) CODEC(ZSTD),
    seconds Float64 CODEC(ZSTD),
    samples UInt64 CODEC(ZSTD)
)
ENGINE = ReplacingMergeTree(samples)
PARTITION BY toYYYYMMDD(at)
ORDER BY (
    tenant, run_id, at, host, component, share, method, source, zone, intensity_kind, intensity_source, intensity_signal,
    intensity_accounting, intensity_boundary, project, job_id
)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS power_hours AS power_minutes
ENGINE = ReplacingMergeTree(samples)
PARTITION BY toYYYYMM(at)
ORDER BY (
    tenant, run_id, at, host, component, share, method, source, zone, intensity_kind, intensity_source, intensity_signal,
    intensity_accounting, intensity_boundary, project, job_id
)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS power_days AS power_minutes
ENGINE = ReplacingMergeTree(samples)
PARTITION BY toYYYYMM(at)
ORDER BY (
    tenant, run_id, at, host, component, share, method, source, zone, intensity_kind, intensity_source, intensity_signal,
    intensity_accounting, intensity_boundary, project, job_id
)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Where samples are dropped by age, the moment before which they are: nothing before it can be rolled up anew.
CREATE TABLE IF NOT EXISTS sealed
(
    what LowCardinality(String),
    before DateTime('UTC')
)
ENGINE = ReplacingMergeTree(before)
ORDER BY what
SETTINGS fsync_after_insert = 1;

-- What was kept before there were roll-ups is rolled up too.
INSERT INTO touched_minutes (tenant, minute, sign)
SELECT tenant, toStartOfMinute(started_at) AS minute, 1 FROM power_samples GROUP BY tenant, minute;
