-- Offers and intensities as they were told, every telling kept, so that a run is compared with the prices of its own time.
-- They can be told again by `pricing`, so they are not forced to disk with every insert as measurements are.
CREATE TABLE IF NOT EXISTS offers
(
    tenant LowCardinality(String),
    offer_id String,
    told_at DateTime64(6, 'UTC'),
    event_id String,
    stream LowCardinality(String),
    sequence UInt64,
    provider LowCardinality(String),
    region LowCardinality(String),
    zone LowCardinality(String),
    machine_type String,
    market LowCardinality(String),
    vcpus Float64,
    memory_gib Float64,
    accelerator LowCardinality(String),
    accelerator_count UInt64,
    price_microusd_per_hour UInt64,
    electricity_microusd_per_kwh UInt64,
    power_watts_expected Float64,
    pue Float64,
    billing_increment_seconds UInt64,
    noted_at DateTime64(6, 'UTC'),
    source String,
    available Bool,
    precedence Int64 MATERIALIZED -toInt64(sequence)
)
ENGINE = ReplacingMergeTree(precedence)
ORDER BY (tenant, offer_id, told_at, event_id);

CREATE TABLE IF NOT EXISTS intensities
(
    tenant LowCardinality(String),
    zone LowCardinality(String),
    starts_at DateTime64(6, 'UTC'),
    told_at DateTime64(6, 'UTC'),
    event_id String,
    position UInt32,
    stream LowCardinality(String),
    sequence UInt64,
    intensity_grams_per_kwh Float64,
    range_fraction Float64,
    kind LowCardinality(String),
    source LowCardinality(String),
    precedence Int64 MATERIALIZED -toInt64(sequence)
)
ENGINE = ReplacingMergeTree(precedence)
PARTITION BY toYYYYMM(starts_at)
ORDER BY (tenant, zone, starts_at, told_at, event_id, position);
