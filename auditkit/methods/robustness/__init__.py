"""Robustness: pure functions on arrays."""
