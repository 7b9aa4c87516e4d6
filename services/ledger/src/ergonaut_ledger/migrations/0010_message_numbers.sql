-- Which numbers of a producer came from a host in an hour: the proof that none is missing, in so few bytes that a month of a thousand
-- hosts is read in a moment. Filled by every insert of events. The least, the greatest and the union of sets are the same however often
-- a message is told, and whoever tells the same number under another id, so no sum is doubled and nothing need be made again. A set of
-- numbers without a gap is kept as its ends, about 40 bytes. It stays when the hour's messages are dropped by age.
-- Sorted by hour first, since a time and what lies around it is asked for.
CREATE TABLE IF NOT EXISTS message_numbers
(
    tenant LowCardinality(String),
    host LowCardinality(String),
    producer LowCardinality(String),
    hour DateTime('UTC') CODEC(Delta, ZSTD),
    first SimpleAggregateFunction(min, UInt64) CODEC(Delta, ZSTD),
    last SimpleAggregateFunction(max, UInt64) CODEC(Delta, ZSTD),
    earliest_at SimpleAggregateFunction(min, DateTime64(6, 'UTC')) CODEC(Delta, ZSTD),
    latest_at SimpleAggregateFunction(max, DateTime64(6, 'UTC')) CODEC(Delta, ZSTD),
    numbers AggregateFunction(groupBitmap, UInt64) CODEC(ZSTD)
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(hour)
ORDER BY (tenant, hour, host, producer)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- The same by day, made of each row of an hour as that is written: a month is read from so much fewer sets.
CREATE TABLE IF NOT EXISTS message_numbers_by_day
(
    tenant LowCardinality(String),
    host LowCardinality(String),
    producer LowCardinality(String),
    day DateTime('UTC') CODEC(Delta, ZSTD),
    first SimpleAggregateFunction(min, UInt64) CODEC(Delta, ZSTD),
    last SimpleAggregateFunction(max, UInt64) CODEC(Delta, ZSTD),
    numbers AggregateFunction(groupBitmap, UInt64) CODEC(ZSTD)
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (tenant, day, host, producer)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS message_numbers_by_day_of_hours TO message_numbers_by_day AS
SELECT
    tenant, host, producer, toStartOfDay(hour, 'UTC') AS day,
    min(first) AS first,
    max(last) AS last,
    groupBitmapMergeState(numbers) AS numbers
FROM message_numbers
GROUP BY tenant, host, producer, day;

CREATE MATERIALIZED VIEW IF NOT EXISTS message_numbers_of_events TO message_numbers AS
SELECT
    tenant, key AS host, producer, toStartOfHour(occurred_at, 'UTC') AS hour,
    min(producer_sequence) AS first,
    max(producer_sequence) AS last,
    min(occurred_at) AS earliest_at,
    max(occurred_at) AS latest_at,
    groupBitmapState(producer_sequence) AS numbers
FROM events
WHERE type = 'telemetry.power.sampled'
GROUP BY tenant, host, producer, hour;

-- What was kept before, a day at a time: a month of a thousand hosts at once would take gigabytes of memory.
INSERT INTO message_numbers (tenant, host, producer, hour, first, last, earliest_at, latest_at, numbers)
SELECT
    tenant, key, producer, toStartOfHour(occurred_at, 'UTC') AS hour,
    min(producer_sequence), max(producer_sequence), min(occurred_at), max(occurred_at), groupBitmapState(producer_sequence)
FROM events
WHERE area = 'telemetry' AND type = 'telemetry.power.sampled'
    AND occurred_at >= {day:Date} AND occurred_at < {day:Date} + INTERVAL 1 DAY
GROUP BY tenant, key, producer, hour;
