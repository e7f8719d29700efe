"""The science: pure functions on arrays and torch modules."""
