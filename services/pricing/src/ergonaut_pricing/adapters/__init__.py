"""What fills the ports: tables from files, the bus, and buckets of JetStream."""
