"""Data: one file, one analyzer."""
