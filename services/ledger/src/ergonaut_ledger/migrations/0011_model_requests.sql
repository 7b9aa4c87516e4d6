-- Requests that the gateway logged, as it told of them: already sampled, and without what must not be told. A part holds a day of one
-- tenant, so that what has reached its age, or is to be forgotten, goes without anything being rewritten. The event's id and the
-- request's place in it are its identity, so a repeat is the same row.
CREATE TABLE IF NOT EXISTS model_requests
(
    tenant LowCardinality(String),
    model LowCardinality(String),
    answered_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    event_id String,
    position UInt32,
    stream LowCardinality(String),
    sequence UInt64 CODEC(Delta, ZSTD),
    version UInt64,
    request_id String,
    latency_ms Nullable(Float64),
    rate Float64,
    inputs String CODEC(ZSTD(3)),
    outputs String CODEC(ZSTD(3)),
    precedence Int64 MATERIALIZED -toInt64(sequence)
)
ENGINE = ReplacingMergeTree(precedence)
PARTITION BY (toYYYYMMDD(answered_at), tenant)
ORDER BY (tenant, model, answered_at, event_id, position)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
