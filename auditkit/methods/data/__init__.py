"""Data: pure functions on arrays."""
