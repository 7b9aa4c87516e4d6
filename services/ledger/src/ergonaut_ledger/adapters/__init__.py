"""The ledger's hold on the world: ClickHouse, embedded or on a server."""
