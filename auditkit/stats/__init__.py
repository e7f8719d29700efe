"""Intervals, resampling, multiplicity and power: pure functions on numbers."""
