-- Where the energy of the building over that of the machines was taken from; empty where it was not told.
ALTER TABLE power_samples ADD COLUMN IF NOT EXISTS pue_source LowCardinality(String) DEFAULT '';
