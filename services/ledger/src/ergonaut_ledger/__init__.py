"""The ledger: what was used, kept in ClickHouse and told again.

It reads every area's events from the bus, keeps each exactly once, and answers what a run used, how that was measured, and
what it would have used elsewhere. It emits nothing but dead letters.
"""
