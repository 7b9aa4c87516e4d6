-- One secret a tenant, by which anonymous exports name hosts, runs, jobs and projects; it never leaves these books. The same name has the
-- same digest in all exports of a tenant, so that tables can be joined. Of several the first one stands.
CREATE TABLE IF NOT EXISTS export_keys
(
    tenant LowCardinality(String),
    key String,
    made_at DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC')
)
ENGINE = MergeTree
ORDER BY (tenant, made_at)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
