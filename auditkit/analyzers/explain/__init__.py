"""Explain: one file, one analyzer."""
