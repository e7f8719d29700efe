"""Robustness: one file, one analyzer."""
