"""Fairness: pure functions on arrays."""
