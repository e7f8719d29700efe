"""Fairness: one file, one analyzer."""
