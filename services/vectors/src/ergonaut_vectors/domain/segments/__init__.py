"""Immutable segments, the head before them, and the shard that is both."""
