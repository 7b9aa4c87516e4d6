-- Certificates and offsets as they were recorded and taken out, every version kept: the newest stands, the older ones are the audit.
-- A version is never changed: of two tellings of one version the earlier stands, whoever told it.
CREATE TABLE IF NOT EXISTS certificates
(
    tenant LowCardinality(String),
    certificate_id String,
    version UInt64,
    recorded_at DateTime64(6, 'UTC'),
    principal String,
    kind LowCardinality(String),
    registry String,
    zone LowCardinality(String),
    starts_at DateTime64(6, 'UTC'),
    ends_at DateTime64(6, 'UTC'),
    energy_kwh Float64,
    intensity_grams_per_kwh Float64,
    offset_grams_co2e Float64,
    cost_usd Nullable(Float64),
    voided Bool,
    precedence Int64 MATERIALIZED -toUnixTimestamp64Micro(recorded_at)
)
ENGINE = ReplacingMergeTree(precedence)
ORDER BY (tenant, certificate_id, version)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
