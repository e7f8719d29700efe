"""Explain: pure functions on arrays."""

from auditkit.methods.explain.shapley import shapley_values

__all__ = ["shapley_values"]
