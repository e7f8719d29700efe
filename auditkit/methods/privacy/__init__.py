"""Privacy: pure functions on arrays."""
