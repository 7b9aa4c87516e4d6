"""The service's ports in the real world: JetStream, its key-value buckets, and the bus."""
