"""Explain: pure functions on arrays."""
