"""Fills the orchestrator's ports with the real world. Each translates; none decides."""
