"""The ports, filled with real things."""
