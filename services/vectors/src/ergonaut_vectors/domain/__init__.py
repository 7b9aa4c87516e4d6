"""What a collection is and how it is searched; nothing here waits, logs, or knows of NATS and gRPC."""
