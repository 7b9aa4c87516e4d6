"""What the ledger knows and decides, without waiting for anything: rows to keep, footprints, estimates."""
