"""`make chaos-vectors`: nodes and NATS are killed in seeded rounds while writers go on; nothing that was acknowledged is lost."""
