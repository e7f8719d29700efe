"""Performance: one file, one analyzer."""
