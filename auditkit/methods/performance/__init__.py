"""Performance: pure functions on arrays."""
